"""The files eval_*.json beside a run: what a decoder gave on a split after the training."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tuner.planned.imported.curves import PERCENT, number

_MOST_BYTES = 64 << 20
_HELD_OUT = ("competition", "competitionholdout", "holdout")
_PERS = ("avg_PER", "PER", "per", "avg_per", "cer", "avg_CER")


def join(folder: Path, problems: list[str]) -> tuple[dict[str, Any], list[str]]:
    """(beam_per and test_per where there are any, a note on each file). What cannot be read gets a line in `problems`.

    Of several beam searches the best counts; each is in the notes.
    """
    columns: dict[str, Any] = {}
    notes = []
    for path in sorted(folder.glob("eval*.json")):
        found = _read(path, problems)
        if found is None:
            continue
        per, beam, split, how = found
        name = "beam_per" if beam else "test_per"
        notes.append(f"{path.name}: {'beam search' if beam else 'greedy'} PER {per:.4f} on {split or 'a split'}{how}")
        if (beam or split in ("test", None)) and per <= columns.get(name, per):
            columns[name] = per
    return columns, notes


def _read(path: Path, problems: list[str]) -> tuple[float, bool, str | None, str] | None:
    """(PER, whether a beam search gave it, its split, how it is averaged); None for a file without one."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError(f"{path.stat().st_size} bytes are no evaluation")
        values = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        problems.append(f"{path}: cannot be read ({str(error).splitlines()[0][:80]}), left out")
        return None
    if not isinstance(values, dict):
        problems.append(f"{path}: is no JSON object with a PER, left out")
        return None
    split = values["split"].lower() if isinstance(values.get("split"), str) else None
    if split in _HELD_OUT:
        problems.append(f"{path}: the split {split} has no true labels, so its PER says nothing; left out")
        return None
    per, how = _per(values)
    if per is None or per < 0:
        problems.append(f"{path}: has no PER ({', '.join(_PERS[:3])}), left out")
        return None
    if per > PERCENT:
        per, how = per / 100, f"{how}; it was in percent"
    named = next((values[key] for key in ("decoding_method", "decoder", "decoding") if values.get(key)), path.stem)
    return per, "beam" in str(named).lower(), split, how


def _per(values: Mapping[str, Any]) -> tuple[float | None, str]:
    """Over all phonemes where each utterance is there, else what the file says."""
    details = values.get("sample_details")
    if isinstance(details, list) and details and len(details) == values.get("num_samples"):
        counts = list(_counts(details))
        total = sum(length for _, length in counts)
        if len(counts) == len(details) and total > 0:
            return sum(wrong for wrong, _ in counts) / total, ""
    found = next((per for key in _PERS if (per := number(values.get(key))) is not None), None)
    return found, " (mean over utterances)" if values.get("avg_PER") is not None else ""


def _counts(details: Iterable[Any]) -> Iterable[tuple[float, float]]:
    for each in details:
        if isinstance(each, dict):
            wrong, length = number(each.get("distance")), number(each.get("len_target"))
            if wrong is not None and length is not None:
                yield wrong, length
