"""The result folders of the reference trainer (cffan/neural_seq_decoder) and of its forks.

A folder holds `args`, a pickle of the settings; `trainingStats`, a pickle of testLoss and testCER (forks: testPER) at
every 100th batch from batch 0, or after every epoch; forks add `metrics.jsonl`, a line per evaluation (step, per or
cer, ctc_loss, lr), and `eval_*.json`. `step` counts micro-batches from 0.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from search_spaces import InputError
from trainable.data.pickles import load_plain
from tuner.planned.imported import evaluations
from tuner.planned.imported.curves import PastLog, trials_of
from tuner.planned.imported.files import MOST_BYTES, left_out, place, read_lines, read_settings
from tuner.planned.imported.settings import Understood, understand
from tuner.planned.past import PastTrial

FILES = ("args", "trainingStats", "metrics.jsonl")
_RENAMED = {"ctc_loss": "val_loss", "train_loss_avg": "train_loss", "lr": "lr", "grad_norm_avg": "grad_norm"}


def holds(folder: Path) -> bool:
    """Whether a folder is of this kind."""
    return any((folder / name).is_file() for name in FILES)


def read(folder: Path, problems: list[str], utterances: int | None) -> tuple[list[PastTrial], Understood]:
    """The trials of a result folder. Raises `InputError` for one whose settings cannot be read."""
    path = folder / "args"
    if not path.is_file():
        raise InputError(f"{folder}: has no file args; without settings a run cannot be compared, so it is left out")
    settings = understand(read_settings(path), path, utterances)
    rows = _evaluations(folder, settings, problems)
    about, notes = evaluations.join(folder, problems)
    log = PastLog(folder.name, rows, offset=1, decoder="greedy", split="test")
    return trials_of(log, settings, about, notes), settings


def _evaluations(folder: Path, settings: Understood, problems: list[str]) -> list[dict[str, Any]]:
    metrics, stats = folder / "metrics.jsonl", folder / "trainingStats"
    if metrics.is_file():
        return _metrics(metrics, settings, problems)
    return _stats(stats, settings, problems) if stats.is_file() else []


def _metrics(path: Path, settings: Understood, problems: list[str]) -> list[dict[str, Any]]:
    lines, bad = read_lines(path)
    rows = []
    for line in lines:
        per, step = line.get("per", line.get("cer")), place(line.get("step", line.get("epoch")))
        if step is None:
            problems.append(f"{path}: a line without step, left out: {str(line)[:60]}")
        elif isinstance(per, int | float) and not isinstance(per, bool):
            where = "step" if "step" in line else "epoch"
            rows.append({where: step, "per": float(per), **_renamed(line)})
    if not rows and (bad or not lines):
        raise InputError(
            f"{path}: has no evaluations; a line must be a JSON object with step, per or cer, ctc_loss, lr"
        )
    if bad:
        problems.append(left_out(path, bad, "an evaluation"))
    return rows


def _renamed(line: dict[str, Any]) -> dict[str, Any]:
    found = {name: line[key] for key, name in _RENAMED.items() if line.get(key) is not None}
    return found | ({"eval_split": line["eval_split"]} if "eval_split" in line else {})


def _stats(path: Path, settings: Understood, problems: list[str]) -> list[dict[str, Any]]:
    values = load_plain(path, MOST_BYTES)
    try:
        key = "testCER" if "testCER" in values else "testPER"
        pers = [float(per) for per in values[key]]
        losses = [float(loss) for loss in values.get("testLoss", ())]
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise InputError(f"{path}: does not have the list testCER; is it from this trainer?") from error
    if losses and len(losses) != len(pers):
        problems.append(
            f"{path}: has {len(pers)} values of {key} and {len(losses)} of testLoss; the losses are left out"
        )
        losses = []
    unit, each = ("epoch", 1) if settings.by_epochs else ("step", settings.every)
    return [
        {unit: each * index, "per": per, **({"val_loss": losses[index]} if losses else {})}
        for index, per in enumerate(pers)
    ]
