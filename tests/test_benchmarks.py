"""The benchmarks run, in their quick form, and print what they promise; what they leave out is really left out."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))  # benchmarks/ is beside the packages, not one of them

from benchmarks import averages, card, training
from search_spaces.config import RunConfig, to_dict
from trainable import evaluation, model
from trainable.compute import products
from trainable.compute.measures import MEASURES
from trainable.data import batches
from trainable.data.batches import Loader
from trainable.data.dataset import Dataset, open_dataset
from trainable.data.synthetic import make_synthetic

ROOT = Path(__file__).parents[1]
WITHOUT = "import runpy, sys\nsys.modules.update(dict.fromkeys(sys.argv[1].split(',')))\n"
WITHOUT += "del sys.argv[0]; sys.argv[0] = sys.argv.pop(1); runpy.run_path(sys.argv[0], run_name='__main__')"


def run(script: str, *arguments: str, cwd: Path, without: str = "", python: str = sys.executable) -> str:
    """What a benchmark prints; `without` are modules, joined by commas, that it must do without."""
    program = ["-c", WITHOUT, without, str(ROOT / "benchmarks" / script)]
    if not without:
        program = [str(ROOT / "benchmarks" / script)]
    done = subprocess.run(
        [python, *program, *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'benchmarks'}"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_training_prints_its_figures_without_ray(tmp_path: Path) -> None:
    """Rates and ratios, each measure left out, shares of time, padding, memory and curves, with `trainable` alone."""
    arguments = ("--quick", "--device", "cpu", "--curve", "10", "--json", "rows.json")
    out = run("training.py", *arguments, cwd=tmp_path, without="ray,optuna,duckdb,plotly,click,tuner,results")
    promised = ["reference", "trainable, fp32", "x first", "leaving one measure out", "random batches", "padding: "]
    promised += ["peak memory: ", "PER of reference, seed 1", "PER of trainable, fp32, seed 1"]
    assert [each for each in promised if each not in out] == []
    rows = json.loads((tmp_path / "rows.json").read_text())
    (shares,) = (row for row in rows if row["table"] == "time")
    parts = [shares[name] for name in ("data", "forward", "backward", "optimizer", "evaluation")]
    assert sum(parts) == pytest.approx(1) and min(parts) > 0
    assert all(row["end_to_end"] > 0 for row in rows if "end_to_end" in row)
    left_out = [row for row in rows if row["table"] == "leaving one measure out"]
    assert len(left_out) >= 8
    for row in left_out:
        low, middle, high = row["turn_by_turn"]
        assert 0 < low <= middle <= high and row["turns"] == 2
    assert left_out[0]["turn_by_turn"] == [1, 1, 1]


def test_packing_prints_its_figures_without_ray(tmp_path: Path) -> None:
    """A row for each count and the best packing, on a CPU as on a card."""
    out = run("packing.py", "--quick", "--device", "cpu", "--json", "rows.json", cwd=tmp_path)
    assert "best packing: " in out and "MPS" in out
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [row["count"] for row in rows] == [1, 2]
    assert all(row["fits"] and row["trials_per_hour"] > 0 for row in rows)


def test_checkpoints_prints_its_figures(tmp_path: Path) -> None:
    """A row for each way of writing, what `auto` makes of it, and the time to read, with `trainable` alone."""
    out = run(
        "checkpoints.py", "--quick", "--json", "rows.json", cwd=tmp_path, without="ray,optuna,duckdb,tuner,results"
    )
    assert "checkpoint background  stall" in out
    rows = json.loads((tmp_path / "rows.json").read_text())
    ways = {row["checkpoint"]: row for row in rows if "checkpoint" in row}
    assert set(ways) == {"none", "at once", "background", "auto"}
    assert ways["background"]["stall"] > 0 and 1 <= ways["auto"]["written"] <= ways["auto"]["epochs"] == 3
    assert rows[-1]["read_seconds"] > 0


@pytest.mark.ray
def test_orchestration_prints_its_figures(tmp_path: Path, warm_python: str) -> None:
    """Milliseconds per trial and between trials, the driver's share, and the time from the command to an epoch."""
    run("orchestration.py", "--quick", "--json", "rows.json", cwd=tmp_path, python=warm_python)
    search, command = json.loads((tmp_path / "rows.json").read_text())
    for name in ("ms_per_trial", "trials_per_second", "log_kb_per_trial", "ms_between_trials", "driver_cpu_share"):
        assert search[name] > 0, name
    assert 0 < command["command_to_first_epoch_seconds"] <= command["command_to_end_seconds"]


@pytest.fixture(scope="module")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("data") / "tiny"
    make_synthetic(folder, "tiny")
    return open_dataset(folder)


@pytest.fixture(scope="module")
def config() -> RunConfig:
    return training.config_of(training.SIZES["tiny"], "cpu", "fp32")


class Called(Exception):
    """Raised by what stands in for a measure."""


def raises(*_: Any, **__: Any) -> Any:
    raise Called


@pytest.mark.parametrize(
    ("owner", "name", "part"),
    [
        (model.Decoder, "_windows", "step"),
        (model, "_convolve", "step"),
        (model, "gru", "step"),
        (evaluation, "error_counts", "evaluate"),
    ],
)
def test_what_is_swapped_is_what_runs(tiny_data: Dataset, config: RunConfig, owner: Any, name: str, part: str) -> None:
    """The program calls what stands in for a measure, and after the step it calls its own again."""
    kept = getattr(owner, name)
    contestant = training.ours("without", config, tiny_data, training.swap(owner, name, raises))
    with pytest.raises(Called):
        getattr(contestant, part)()
    assert getattr(owner, name) is kept


def test_without_a_measure_the_numbers_are_the_same(tiny_data: Dataset, config: RunConfig) -> None:
    """Windows copied, conv1d, torch's GRU and the Python edit distance give what ours give: only time is compared."""
    decoder = model.Decoder(config, tiny_data.n_features, tiny_data.n_classes, len(tiny_data.days)).eval()
    batch = Loader(tiny_data.train, torch.device("cpu")).batch(np.array([0, 1, 2]))
    with_onednn = products.onednn()
    with torch.no_grad():
        expected, _ = decoder(batch.features, batch.bins, batch.day)
        ours = MEASURES["cpu"]
        patches = [
            training.swap_item(MEASURES, "cpu", dataclasses.replace(ours, copied_windows=not ours.copied_windows)),
            training.swap_item(MEASURES, "cpu", dataclasses.replace(ours, conv1d=not ours.conv1d)),
            training.swap(model, "gru", lambda layer, packed, start=None: layer(packed, start)[0]),
            training.swap(products, "onednn", lambda: not with_onednn),
        ]
        for patch in patches:
            restore = patch()
            logits, _ = decoder(batch.features, batch.bins, batch.day)
            restore()
            torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)
        assert MEASURES["cpu"] is ours
    pairs = ([[1, 2, 3], [4]], [[1, 3], [4, 4]])
    assert training._python_distances(*pairs).tolist() == evaluation.error_counts(*pairs).tolist()


def test_an_evaluation_one_by_one_is_the_same_evaluation(tiny_data: Dataset, config: RunConfig) -> None:
    """Batched or not, the PER of the same weights is the same."""
    alone = training.ours("one by one", config, tiny_data, training.swap(batches, "EVALUATION_BINS", 1))
    assert alone.evaluate() == training.ours("all", config, tiny_data).evaluate()


def test_batches_by_length_are_padded_less(tiny_data: Dataset) -> None:
    """The padding share that is printed falls with buckets and is a share."""
    shares = [training.padding_share(training.SIZES["tiny"], tiny_data, buckets) for buckets in (1, 16)]
    assert 0 < shares[1] < shares[0] < 1


def test_averages_are_recorded_and_compared_within_runs(
    tiny_data: Dataset, config: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each point has the errors of every utterance by every weights; the tables say what the lowest of them gains."""
    training = config.training.model_copy(update={"batches": 8, "batch_size": 8})
    schedule = config.schedule.model_copy(update={"horizon": 200})
    short = config.model_copy(update={"training": training, "schedule": schedule})
    points = averages.record(short, tiny_data)
    assert [point["batch"] for point in points] == [2, 4, 6, 8]
    names = ["raw", *(f"{way} 1/{share}" for way, shares in averages.SHARES.items() for share in shares)]
    assert all(list(point["errors"]) == names for point in points)
    lengths = tiny_data.val.label_lengths.tolist()
    assert all(len(errors) == len(lengths) for point in points for errors in point["errors"].values())
    worse = {name: [error + (name != "raw") for error in errors] for name, errors in points[-1]["errors"].items()}
    rows = [
        {"run": number, "data": "tiny", "config": to_dict(short), "points": [*points[:-1], last], "phonemes": lengths}
        for number, last in enumerate((points[-1], {**points[-1], "errors": worse}))
    ]
    (tmp_path / "runs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    averages.tables(argparse.Namespace(out=tmp_path / "runs.jsonl"))
    told = capsys.readouterr().out
    assert "2 runs, 2 of them whole" in told and "after 100% of the schedule" in told
    assert "best of raw + 4 warm at the end" in told and "'raw': 1" in told


def test_the_card_s_script_runs_part_by_part_and_prints_one_table(tmp_path: Path, warm_python: str) -> None:
    """Without a card: a step's profile on a CPU, its figures in the table and in card.json."""
    arguments = ("--device", "cpu", "--quick", "--only", "a step", "--out", str(tmp_path))
    printed = run("card.py", *arguments, cwd=ROOT, python=warm_python)
    (row,) = json.loads((tmp_path / "card.json").read_text())["parts"]["a step's time"]["figures"]
    assert row["step_ms"] > 0 and row["most"][0]["ms"] > 0
    assert "| a step's time | ran | " in printed and f"tiny fp32 {row['step_ms']:.1f} ms" in printed


def test_a_part_of_the_card_s_script_that_cannot_run_is_named(tmp_path: Path) -> None:
    """Missing packages, no time, a failure: said in the table, and the others' figures stay."""
    given = argparse.Namespace(out=tmp_path, device="cpu", quick=False)
    fails = card.Part("fails", ("-c", "raise SystemExit(3)"), 60)
    absent = card.Part("absent", ("-c", ""), 60, ("no_such_module",))
    found = {"parts": {p.name: card.run(p, given, tmp_path, 60) for p in (fails, absent)}}
    found["parts"]["late"] = card.run(fails, given, tmp_path, 5)
    rates = [{"count": 2, "batches_per_second": 30.0}, {"count": 4, "batches_per_second": None}]
    found["parts"]["trials at once, small, with MPS"] = {"status": "ran", "seconds": 3, "figures": rates}
    said = "\n".join(card.lines(found))
    assert "| fails | failed with exit status 3 |" in said
    assert "| absent | left out: no_such_module not installed |" in said and "no time left" in said
    assert "| ran | 3 | 2: 30.0 batches/s |" in said


def test_the_card_s_parts_end_in_eight_minutes() -> None:
    """Together with making the data they have less time than a lent card gives."""
    assert sum(part.limit for part in card.PARTS) <= 660  # limits of single parts; --limit ends the whole
    assert card.PARTS[0].name == "tests" and len({part.name for part in card.PARTS}) == len(card.PARTS)
