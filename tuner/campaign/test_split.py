"""The test split of a campaign's data: whether it can be scored, and its one use at the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from results.test_uses import record_use, uses, uses_text
from results.trials import Trial
from search_spaces.common.trial_paths import TrialPaths
from trainable.data.intact import open_intact


def labelled(dataset: Any) -> int:
    """How many utterances of the test split have labels."""
    return int((dataset.splits["test"].label_lengths > 0).sum())


def outlook(dataset: Any, results_dir: Path) -> str:
    """Whether the test split can be scored, and how often it was: in a few words, before anything is spent."""
    count, all_of_it = labelled(dataset), len(dataset.splits["test"])
    if not count:
        what = f"its {all_of_it} utterances have no labels" if all_of_it else "there is none"
        return f"not scored: {what}"
    before = len(uses(results_dir, dataset.fingerprint))
    used = f"used {before} time{'s' * (before > 1)} before" if before else "never used here"
    return f"scored once: {count} labelled utterances, {used}"


def score_test(results_dir: Path, trial: Trial, data: dict[str, Any], by: str) -> dict[str, Any]:
    """Score a trial's decoder on the test split once, record that, and return the result.

    A use by the same campaign with the same trial that is recorded already is returned as it is. Where the split has
    no labels, the result is {"why": ...}.
    """
    for number, entry in enumerate(before := uses(results_dir, data["fingerprint"]), start=1):
        if entry.get("by") == by and entry.get("what") == trial.name:
            return {**entry, "use": number, "uses": len(before)}
    dataset = open_intact(data["path"])
    if not labelled(dataset):
        return {"why": outlook(dataset, results_dir).removeprefix("not scored: ")}
    from trainable.scoring import decode, fit_split, load_trained, score

    trained = load_trained(TrialPaths(trial.folder / "checkpoints" / str(trial.number)).best)
    part = fit_split(trained, dataset, "test")
    known = [(part.label(i).tolist(), i) for i in range(len(part)) if part.label_lengths[i]]
    hypotheses, _ = decode(trained, part, "greedy", 1)
    found = score([label for label, _ in known], [hypotheses[i] for _, i in known])
    low, high = found.interval(0)
    result = {
        "name": dataset.name,
        "by": by,
        "what": trial.name,
        "decoder": "greedy",
        "per": found.per,
        "low": low,
        "high": high,
        "per_utterance_mean": found.per_utterance_mean,
        "utterances": len(known),
    }
    number = record_use(results_dir, dataset.fingerprint, **result)
    return {**result, "use": number, "uses": number}


def test_text(found: dict[str, Any]) -> str:
    """The result of `score_test` in a line."""
    if found.get("per") is None:
        return f"test split: not scored, {found.get('why', 'unknown')}"
    return (
        f"test split: PER {found['per']:.4f} (95 % of the sentences {found['low']:.4f} to {found['high']:.4f}; mean "
        f"over utterances {found['per_utterance_mean']:.4f}; {found['utterances']} utterances, greedy): "
        f"{uses_text(found['use'])}" + (f", of {found['uses']} now" if found["uses"] > found["use"] else "")
    )
