"""Which errors the best checkpoint of a study makes, by phoneme and by recording day, for the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from results.report import Facts
from results.store.paths import find_studies
from search_spaces import InputError
from trainable.data.intact import open_intact

QUICK_BYTES = 30_000_000
"""Checkpoints up to this size are decoded without being asked: a validation split then takes seconds on a CPU."""


def best_errors(results_dir: Path, facts: Facts, asked: bool) -> tuple[dict[str, Any], str]:
    """(errors as `Extras.errors`, why there are none): the best checkpoint on the validation split, greedy decoding.

    Nothing where there is no checkpoint or no data set any more, and, unless it is `asked` for, where the checkpoint is
    large.
    """
    first = facts.first
    if first is None or not first.get("checkpoint"):
        return {}, ""
    [folder] = find_studies(results_dir, [facts.study])
    path, data = folder / str(first["checkpoint"]), Path(str(facts.about.get("data_path") or ""))
    if not path.is_file() or not (data / "dataset.json").is_file():
        return {}, "The errors of the best are not shown: its checkpoint or the data set is not here any more."
    about = path.stat()
    if about.st_size > QUICK_BYTES and not asked:
        return {}, "The errors of the best are not shown, because its checkpoint is large: tuner report --errors."
    try:
        return _decoded(path, about.st_mtime_ns, data, str(facts.about.get("data_fingerprint"))), ""
    except InputError as error:
        return {}, f"The errors of the best are not shown: {'; '.join(error.problems)}"


@lru_cache(maxsize=8)
def _decoded(path: Path, _changed: int, data: Path, fingerprint: str) -> dict[str, Any]:
    """The errors of a checkpoint; a served page asks again and again for the same."""
    from trainable.scoring import decode, fit_split, load_trained

    trained, dataset = load_trained(path), open_intact(data)
    if dataset.fingerprint != fingerprint:
        raise InputError(f"{data}: the data are not those of the study")
    split = fit_split(trained, dataset, "val")
    hypotheses, _ = decode(trained, split)
    said = [i for i in range(len(split)) if len(split.label(i))]
    references = [split.label(i).tolist() for i in said]
    days = [dataset.days[dataset.splits["val"].day[i]] for i in said]
    about = f"Epoch {trained.epoch} of the best, greedy decoding of {len(said)} validation utterances."
    return {"about": about, **summary(references, [hypotheses[i] for i in said], dataset.classes, days)}


def summary(
    references: Sequence[Sequence[int]],
    hypotheses: Sequence[Sequence[int]],
    classes: Sequence[str],
    days: Sequence[str],
) -> dict[str, Any]:
    """PER, errors of each phoneme and PER of each day; class ids of each utterance, `days` its day."""
    from trainable.scoring import confusions, score

    whole, of_day = score(references, hypotheses), np.array(days)
    said = Counter(label for reference in references for label in reference)
    wrong = confusions(references, hypotheses)
    found = []
    for label, name in enumerate(classes):
        heard = {to: times for (one, to), times in wrong.items() if one == label and to is not None}
        deleted, inserted, read = wrong[label, None], wrong[None, label], sum(heard.values())
        most = max(heard, key=lambda to: (heard[to], -to), default=None)
        row = {"phoneme": name, "said": said[label], "substituted": read, "deleted": deleted, "inserted": inserted}
        found.append(row | {"wrong": read + deleted, "heard": None if most is None else classes[most]})
    by_day = [
        {"day": day, "per": whole.part(of_day == day).per, "utterances": int(np.sum(of_day == day))}
        for day in sorted(set(days))
    ]
    return {"per": whole.per, "phonemes": [r for r in found if r["said"] or r["inserted"]], "days": by_day}
