"""The documentation in a bundle: decoder.json for programs, a model card for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from results.output import visible
from results.trials import Trial
from tuner.study.settings import StudySettings


def decoder_facts(
    trial: Trial, state: Mapping[str, Any], files: Mapping[str, str], difference: float
) -> dict[str, Any]:
    """The content of decoder.json. `files` maps the other files to their sha256; `difference` is of the logits."""
    config, settings, row = trial.config, StudySettings.read(trial.settings), trial.row
    return {
        "format": 1,
        "inputs": {
            "features": "float32 [batch, time, features], zero beyond an utterance's end",
            "bins": "int64 [batch], length of each utterance",
            "day": "int64 [batch], index into days",
        },
        "outputs": {
            "logits": "float32 [batch, frames, classes], frames = (time - kernel) // stride + 1",
            "counts": "int64 [batch], frames of each utterance that count",
        },
        "features": state["data"]["features"],
        "classes": list(state["data"]["classes"]),
        "blank": 0,
        "days": list(state["data"]["days"]),
        "day_layers": config.model.day_layers,
        "kernel": config.model.kernel,
        "stride": config.model.stride,
        "smoothing_sd": config.augmentation.smoothing_sd,
        "bidirectional": config.model.bidirectional,
        "averaging": "none" if state["report"].get("average") == "raw" else config.averaging.kind,
        "average": state["report"].get("average"),
        "largest_logit_difference": difference,
        "result": {
            "per": state["report"].get("per"),
            "per_raw": state["report"].get("per_raw"),
            "epoch": state["epoch"],
            "batch": state["batch"],
            "split": "val",
            "phonemes": settings.data.val_phonemes,
            "decoder": "greedy",
        },
        "data": {"name": settings.data.name or None, "fingerprint": state["data"]["fingerprint"]},
        "provenance": {
            "study": trial.study,
            "trial": trial.number,
            "status": row["status"],
            "origin": row["origin"],
            "seed": row["seed"],
            "host": row["host"],
            "trained": None if row["ended"] is None else row["ended"].isoformat(timespec="seconds"),
            "code": settings.code.as_dict() or None,
            "packages": settings.packages or None,
        },
        "files": dict(files),
    }


def model_card(trial: Trial, facts: Mapping[str, Any]) -> str:
    """The bundle's README.md."""
    result, data, provenance = facts["result"], facts["data"], facts["provenance"]
    model, code = trial.config.model, provenance["code"] or {}
    packages = ", ".join(f"{name} {version}" for name, version in (provenance["packages"] or {}).items())
    phonemes = f" ({result['phonemes']} phonemes)" if result["phonemes"] else ""
    direction = "bidirectional" if model.bidirectional else "unidirectional"
    decay = f" (decay {facts['average']})" if facts.get("average") else ""
    weights = {"none": "the weights as trained", "ema": f"an exponential moving average of the weights{decay}"}.get(
        facts["averaging"], "an average of the weights"
    )
    return f"""# Phoneme decoder {_code(trial.name)}

A GRU-CTC decoder: features in, logits over phonemes and the blank out.

| | |
|---|---|
| PER | **{_number(result["per"])}**, greedy decoding, validation split{phonemes} |
| weights | {weights}, epoch {result["epoch"]} (batch {result["batch"]}) |
| data | {_code(data["name"])}, fingerprint {_code(data["fingerprint"])} |
| model | {model.layers} {direction} GRU layers of {model.hidden} units, kernel {model.kernel}, stride {model.stride} |
| input | {facts["features"]} features a bin; {len(facts["days"])} recording days{_day_layers(model.day_layers)} |
| output | {len(facts["classes"])} classes, 0 is the CTC blank |
| trained | study {_code(provenance["study"])}, trial {provenance["trial"]} ({provenance["status"]}, \
{provenance["origin"]}), seed {provenance["seed"]}, {provenance["trained"] or "unfinished"} |
| program | b2t-tuner {_code(code.get("version"))}, commit {_code(code.get("git"))}\
{", with uncommitted changes" * bool(code.get("dirty"))} |
| packages | {_code(packages)} |

The epoch and, in a search, the trial were chosen on the validation split: expect a somewhat higher PER on other data.

## Load it

With torch alone:

```python
import torch; decoder = torch.jit.load("decoder.ts")
```

```python
logits, counts = decoder(features, bins, day)   # shapes and types: decoder.json
best = logits[0, : counts[0]].argmax(1).unique_consecutive()
phonemes = [classes[c] for c in best.tolist() if c != 0]   # classes: decoder.json
```

Prepare the features like the training data: the same channels in the same order, the same bins and normalisation.
{_day_note(model.day_layers)}

## Files

- `decoder.ts`: the decoder (smoothing, day layers, GRU, output) as TorchScript
- `decoder.json`: classes, days, kernel, stride, shapes, checksums, provenance
- `config.yaml`: the whole configuration; `tuner train config.yaml --data FOLDER` trains it again
- `weights.pt`: the checkpoint; `tuner evaluate weights.pt --data FOLDER` decodes with it
"""


def _code(value: Any) -> str:
    """Text as a code span inside a Markdown table, escaped."""
    text = visible(str(value)).replace("`", "'").replace("|", "\\|")
    return f"`{text}`" if text else "-"


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4f}"


def _day_layers(day_layers: bool) -> str:
    return ", each with its own input layer" if day_layers else ", all treated the same"


def _day_note(day_layers: bool) -> str:
    return "A day that is not among `days` has no input layer here: use the nearest one." if day_layers else ""
