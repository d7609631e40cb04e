"""`tuner evaluate`: a checkpoint on a data set, by greedy or beam decoding."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import click

from results.output import Sheet, render, safe_text
from results.test_uses import record_use, uses_text
from search_spaces import InputError
from search_spaces.common import atomic
from trainable.data.intact import open_intact
from tuner.commands.options import data_option, json_option, out_option, results_option

TOP = 10


@click.command(
    epilog="""\b
Examples:
  tuner evaluate results/studies/an4/checkpoints/3/best.pt --data data/an4
  tuner evaluate an4.pt --data data/an4 --decoder beam --beam 10 --out hypotheses.jsonl
  tuner evaluate --reference trained_models/baseline_rnn/checkpoint/best_checkpoint --data data/t15
"""
)
@click.argument("checkpoint", type=click.Path(path_type=Path), required=False)
@click.option(
    "--reference",
    type=click.Path(path_type=Path),
    help="In place of CHECKPOINT: weights of a public reference model ('24 modelWeights, '25 best_checkpoint).",
)
@data_option
@click.option(
    "--split",
    type=click.Choice(["train", "val", "test"]),
    default="val",
    show_default=True,
    help="The split to decode.",
)
@click.option(
    "--decoder",
    type=click.Choice(["greedy", "beam"]),
    default="greedy",
    show_default=True,
    help="greedy = the best path; beam = prefix beam search without a language model.",
)
@click.option("--beam", "width", type=click.IntRange(1, 1000), default=10, show_default=True, help="Prefixes kept.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the bootstrap.")
@out_option("Write the hypotheses here: .jsonl or .csv.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="CPU threads of torch.")
@results_option
@json_option
def evaluate(
    checkpoint: Path | None,
    reference: Path | None,
    data_dir: Path,
    split: str,
    decoder: str,
    width: int,
    seed: int,
    out: Path | None,
    threads: int,
    results_dir: Path,
    form: str,
) -> None:
    """Decode a split of a data set with CHECKPOINT, and list the errors.

    --reference reads the weights of the '24 and the '25 reference GRU, with the settings beside them (args, args.yaml),
    and says what differs. Nothing in the file is run.

    The corpus PER is the number of errors divided by the number of reference phonemes. Its confidence interval is a
    bootstrap over utterances.

    A PER on the test split is a use of it: it is noted in the results folder, and shown with how often there was one.
    """
    if out is not None:
        _check_out(out)
    import torch

    from trainable.scoring import decode, fit_split, load_reference, load_trained

    torch.set_num_threads(threads)
    notes: list[str] = []
    if reference is None:
        trained = load_trained(_given(checkpoint, reference))
        dataset = open_intact(data_dir)
    else:
        _given(checkpoint, reference)
        dataset = open_intact(data_dir)
        trained, notes = load_reference(reference, dataset)
    part = fit_split(trained, dataset, split)
    references = [part.label(i).tolist() for i in range(len(part))]
    labelled = [i for i, reference in enumerate(references) if reference]
    if not labelled and out is None:
        raise InputError(
            f"{data_dir}: the {split} utterances have no labels, so there is no PER; "
            "give --out to write the decoded phonemes, or choose another --split"
        )
    hypotheses, precision = decode(trained, part, decoder, width)
    names = dataset.classes
    days = [dataset.days[day] for day in dataset.splits[split].day]
    if out is not None:
        rows = _rows(part, days, references, hypotheses, names)
        _write(out, rows)
        if form == "table":
            click.echo(f"wrote {out}: {len(rows)} hypotheses")
    report: dict[str, Any] = {
        "checkpoint": str(reference or checkpoint),
        "epoch": None if reference else trained.epoch,
        "notes": notes,
        "data": dataset.name,
        "split": split,
        "utterances": len(part),
        "labelled": len(labelled),
        "decoder": decoder,
        "beam": width if decoder == "beam" else None,
        "precision": precision,
    }
    if labelled:
        pairs = [references[i] for i in labelled], [hypotheses[i] for i in labelled]
        report |= _scores(*pairs, [days[i] for i in labelled], names, seed)
        if split == "test":
            report["use"] = _noted(results_dir, dataset, report)
    click.echo(json.dumps(report, indent=2) if form == "json" else _text(report), nl=form == "json")


def _noted(results_dir: Path, dataset: Any, report: dict[str, Any]) -> int:
    """Note a use of the test split, before its PER is shown; returns how many there are."""
    scores = {key: report["all"][key] for key in ("per", "low", "high", "per_utterance_mean")}
    about = {"name": dataset.name, "what": report["checkpoint"], "decoder": report["decoder"]}
    return record_use(results_dir, dataset.fingerprint, **about, **scores, utterances=report["labelled"])


def _given(checkpoint: Path | None, reference: Path | None) -> Path:
    """The one file that is given. Raises click's error of usage."""
    if (checkpoint is None) == (reference is None):
        raise click.UsageError("give either CHECKPOINT or --reference FILE")
    return checkpoint or reference or Path()


def _check_out(out: Path) -> None:
    if out.suffix not in (".jsonl", ".csv") and not atomic.is_stream(out):
        raise InputError(f"{out}: the ending {out.suffix!r} is not allowed; give .jsonl or .csv")


def _scores(
    references: list[list[int]], hypotheses: list[list[int]], days: list[str], names: tuple[str, ...], seed: int
) -> dict[str, Any]:
    import numpy as np

    from trainable.scoring import SILENCE, confusions, score, without

    whole = score(references, hypotheses)
    found: dict[str, Any] = {"all": _summary(whole, seed)}
    if SILENCE in names:
        label = names.index(SILENCE)
        spoken = score(without(references, label), without(hypotheses, label))
        # An utterance of silence alone has no phonemes to score.
        found["without_sil"] = _summary(spoken.part(spoken.lengths > 0), seed) if spoken.lengths.any() else None
    of_day = np.array(days)
    found["days"] = [
        {"day": day, "utterances": int(np.sum(of_day == day)), **_summary(whole.part(of_day == day), None)}
        for day in dict.fromkeys(sorted(days))
    ]
    said = Counter(label for reference in references for label in reference)
    wrong = confusions(references, hypotheses)
    found["confusions"] = [
        {
            "said": names[a] if a is not None else None,
            "heard": names[b] if b is not None else None,
            "times": times,
            "share": times / said[a] if a is not None else None,
        }
        for (a, b), times in sorted(wrong.items(), key=lambda item: (-item[1], str(item[0])))[:TOP]
    ]
    return found


def _summary(score: Any, seed: int | None) -> dict[str, Any]:
    low, high = score.interval(seed) if seed is not None else (None, None)
    return {
        "per": score.per,
        **({"low": low, "high": high} if seed is not None else {}),
        "per_utterance_mean": score.per_utterance_mean,
        "substitutions": int(score.substitutions.sum()),
        "insertions": int(score.insertions.sum()),
        "deletions": int(score.deletions.sum()),
        "phonemes": int(score.lengths.sum()),
    }


def _text(report: dict[str, Any]) -> str:
    decoder = f"beam {report['beam']}" if report["beam"] else "greedy"
    epoch = "reference model" if report["epoch"] is None else f"epoch {report['epoch']}"
    lines = [
        f"{report['checkpoint']} ({epoch}) on {report['data']}, split {report['split']}: "
        f"{report['labelled']} labelled utterances, {decoder}, {report['precision']}"
        + (f"; {uses_text(report['use'])}" if "use" in report else ""),
        *(f"note: {note}" for note in report["notes"]),
    ]
    if "all" not in report:
        return "\n".join([f"{lines[0]}; without labels there is no PER", *lines[1:]]) + "\n"
    scores = [
        {"phonemes scored": label, **report[key]}
        for key, label in (("all", "all"), ("without_sil", "without SIL"))
        if report.get(key)
    ]
    confused = [
        {**row, "said": row["said"] or "(nothing)", "heard": row["heard"] or "(nothing)"}
        for row in report["confusions"]
    ]
    lines += ["", render(Sheet.of(scores), "table"), "per day", render(Sheet.of(report["days"]), "table")]
    if confused:
        lines += [
            "most frequent errors; share: errors / occurrences of the phoneme",
            render(Sheet.of(confused), "table"),
        ]
    return "\n".join(lines)


def _rows(part: Any, days: list[str], references: Any, hypotheses: Any, names: tuple[str, ...]) -> list[dict[str, Any]]:
    """One dictionary an utterance; phonemes as text, separated by blanks."""
    from trainable.scoring import score

    counted = score(references, hypotheses)
    return [
        {
            "utterance": int(part.utterance[i]),
            "day": days[i],
            "text": part.text[i],
            "reference": " ".join(names[c] for c in references[i]),
            "hypothesis": " ".join(names[c] for c in hypotheses[i]),
            # Without a label there is nothing to compare with.
            "errors": int(counted.errors[i]) if references[i] else None,
            "phonemes": len(references[i]),
        }
        for i in range(len(part))
    ]


def _write(out: Path, rows: list[dict[str, Any]]) -> None:
    if out.suffix != ".csv":
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    else:
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: safe_text(v) if isinstance(v, str) else v for key, v in row.items()} for row in rows)
        text = buffer.getvalue()
    atomic.write(out, text, advice="choose another --out")
