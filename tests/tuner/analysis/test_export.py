"""`tuner export`: what is written is what was trained, loads elsewhere, and is whole or not there."""

import csv
import hashlib
import json
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from results.report import load
from results.store.tables import load_tables
from results.trials import find_trial
from search_spaces import load_run, load_space
from search_spaces.config import EMAConfig
from trainable import checkpoint, train
from trainable import decoder_file as exporting
from trainable.data.dataset import open_dataset
from trainable.decoding import greedy
from trainable.model import Decoder
from trainable.scoring import load_trained, score
from tuner.analysis.errors import best_errors
from tuner.analysis.model_card import decoder_facts, model_card
from tuner.launch.new_study import new_settings
from tuner.study.request import Request
from tuner.study.study import Study

ALONE = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"ray", "optuna", "tuner", "trainable", "search_spaces", "results", "pydantic"}:
            raise ImportError(name + " is out of bounds")

sys.meta_path.insert(0, Refuse())
import torch; decoder = torch.jit.load("decoder.ts")
example = torch.load("example.pt", weights_only=True)
logits, counts = decoder(example["features"], example["bins"], example["day"])
assert torch.equal(counts, example["counts"])
print(float((logits - example["logits"]).abs().max()))
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_data, real_space):
    """A results folder with the study `real`: trial 0 trained for nine epochs, trial 1 failed before its first."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("results")
    space, dataset = load_space(real_space), open_dataset(tiny_data)
    settings = new_settings(space, "real", Request(root, tiny_data, trials=2, stopping="none"), dataset)
    starts = [space.start_params(name)[0] for name in space.start_points]
    study = Study.create(root / "real", settings.changed({"start_points": starts}), [])
    job = study.ask()
    best = np.inf
    for report in train(job.config, dataset):
        if report.per < best:
            best = report.per
            path = root / "real" / "checkpoints" / "0" / "best.pt"
            checkpoint.save(path, checkpoint.for_evaluation(report.checkpoint()))
        row = {**report.row(), "diverged": report.diverged, "cpu_seconds": 1.0, "gpu_seconds": 0.0}
        study.report(job.trial, job.attempt, row)
    study.fail(study.ask().trial, 1, "the machine went away", final=True)
    study.interrupt("budget")
    study.close()
    return root


@pytest.fixture
def copy(trained, tmp_path):
    """A copy of the results to spoil."""
    return shutil.copytree(trained, tmp_path / "copy")


def refused(done, *words):
    assert done.status == 2
    assert len(done.err.splitlines()) == 1, done.err
    for word in words:
        assert word in done.err


def write(cli, results, kind, out, *more):
    done = cli("export", "real", "--best", kind, "--out", out, "--results", results, *more)
    assert done.status == 0, done.err
    return done.out


def val_batch(tiny_data):
    """The validation split as one padded batch: features, bins, day."""
    split = open_dataset(tiny_data).val
    parts = [torch.from_numpy(np.array(split.features(i))) for i in range(len(split))]
    features = torch.nn.utils.rnn.pad_sequence(parts, batch_first=True)
    return split, features, torch.from_numpy(split.bins.copy()), torch.from_numpy(split.day.copy())


def per_of(decoder, tiny_data):
    """The corpus PER of an exported decoder on the validation split, decoded greedily."""
    split, features, bins, day = val_batch(tiny_data)
    logits, counts = decoder(features, bins, day)
    return score([split.label(i).tolist() for i in range(len(split))], greedy(logits, counts)).per


def test_config_is_a_run_file_of_the_best_trial(cli, trained, tmp_path):
    """The file loads as the configuration of the trial with the lowest PER."""
    out = tmp_path / "best.yaml"
    assert "real/0" in write(cli, trained, "config", out)
    assert load_run(out).config == find_trial(trained, "real", "0").config


def test_checkpoint_is_the_trial_s_to_the_last_byte(cli, trained, tmp_path):
    """The copy equals the file in the study and has the PER of the table."""
    out = tmp_path / "best.pt"
    write(cli, trained, "checkpoint", out)
    assert out.read_bytes() == (trained / "real" / "checkpoints" / "0" / "best.pt").read_bytes()
    assert load_trained(out).reported_per == find_trial(trained, "real", "0").row["best_per"]


def test_torchscript_decodes_to_the_trial_s_per(cli, trained, tmp_path, tiny_data):
    """The exported decoder's greedy PER on the validation split is the trial's best_per, in one padded batch."""
    out = tmp_path / "decoder.ts"
    write(cli, trained, "torchscript", out)
    per = per_of(torch.jit.load(out), tiny_data)
    assert per == pytest.approx(find_trial(trained, "real", "0").row["best_per"], abs=1e-9)


def test_onnx_decodes_to_the_trial_s_per(cli, trained, tmp_path, tiny_data):
    """The ONNX file under onnxruntime gives the same PER, for a batch and lengths it was not exported with."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
    out = tmp_path / "decoder.onnx"
    write(cli, trained, "onnx", out)
    session = onnxruntime.InferenceSession(out.read_bytes(), providers=["CPUExecutionProvider"])

    def decoder(features, bins, day):
        inputs = {"features": features.numpy(), "bins": bins.numpy(), "day": day.numpy()}
        return tuple(map(torch.from_numpy, session.run(None, inputs)))

    assert per_of(decoder, tiny_data) == pytest.approx(find_trial(trained, "real", "0").row["best_per"], abs=1e-9)


def test_onnx_without_its_packages_is_one_line(cli, trained, tmp_path, monkeypatch):
    """Without onnx the command says what to install and writes nothing."""
    find = exporting.importlib.util.find_spec
    monkeypatch.setattr(exporting.importlib.util, "find_spec", lambda name: None if name == "onnx" else find(name))
    done = cli("export", "real", "--best", "onnx", "--out", tmp_path / "x.onnx", "--results", trained)
    refused(done, "onnx", ".[export]")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["model.bidirectional=false", "model.layers=1"],
        ["model.layer_norm=true", "augmentation.smoothing_sd=2", "model.kernel=5", "model.stride=7"],
        ["model.day_layers=false", "augmentation.smoothing_sd=1", "augmentation.smoothing_kernel=4"],
    ],
)
def test_every_kind_of_decoder_exports_with_the_same_logits(overrides):
    """One and two directions, layer norm, smoothing, day layers or none, odd kernels: within 1e-4 of the model."""
    torch.manual_seed(0)
    model = Decoder(load_run("small", ["model.hidden=12", *overrides]).config, 6, 41, 3).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    assert exporting.torchscript(model, 6, 3)[1] <= exporting.TOLERANCE
    if exporting.importlib.util.find_spec("onnxruntime"):
        assert exporting.onnx(model, 6, 3)[1] <= exporting.TOLERANCE


def test_a_wrong_export_is_noticed():
    """A decoder that differs from the model in one weight does not pass the check."""
    model = Decoder(load_run("small", ["model.hidden=12"]).config, 6, 41, 3).eval()
    wrong = exporting.ExportedDecoder(model)
    assert exporting.check(model, wrong, 6, 3) <= exporting.TOLERANCE
    wrong.layers[1].backwards.weight_hh_l0[0, 0] += 0.5
    with pytest.raises(RuntimeError, match="differs"):
        exporting.check(model, wrong, 6, 3)


def test_a_bundle_loads_with_torch_alone(cli, trained, tmp_path, tiny_data):
    """In a process that can import neither this package nor ray nor optuna, the documented line gives the logits."""
    out = tmp_path / "bundle"
    write(cli, trained, "bundle", out)
    trial, weights = find_trial(trained, "real", "0"), load_trained(out / "weights.pt")
    _, features, bins, day = val_batch(tiny_data)
    with torch.inference_mode():
        logits, counts = weights.model(features, bins, day)
    example = {"features": features, "bins": bins, "day": day, "logits": logits.clone(), "counts": counts}
    torch.save(example, out / "example.pt")
    line = 'import torch; decoder = torch.jit.load("decoder.ts")'
    assert line in ALONE and line in (out / "README.md").read_text()
    done = subprocess.run([sys.executable, "-I", "-c", ALONE], cwd=out, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) <= exporting.TOLERANCE
    assert load_run(out / "config.yaml").config == trial.config


def test_a_bundle_says_what_it_is(cli, trained, tmp_path, tiny_data):
    """Facts and card have PER, data fingerprint, classes, days, kernel and stride; the checksums are the files'."""
    out = tmp_path / "bundle"
    write(cli, trained, "bundle", out)
    trial, dataset = find_trial(trained, "real", "0"), open_dataset(tiny_data)
    facts, card = json.loads((out / "decoder.json").read_text()), (out / "README.md").read_text()
    assert facts["result"]["per"] == trial.row["best_per"]
    assert facts["data"]["fingerprint"] == dataset.fingerprint
    assert tuple(facts["classes"]) == tuple(dataset.classes)
    assert tuple(facts["days"]) == tuple(dataset.days)
    assert (facts["kernel"], facts["stride"]) == (trial.config.model.kernel, trial.config.model.stride)
    for name, sha in facts["files"].items():
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == sha
    assert f"{trial.row['best_per']:.4f}" in card
    assert dataset.fingerprint in card


def test_a_bundle_can_be_a_zip(cli, trained, tmp_path):
    """The archive holds the folder's files, and the same trial gives the same archive."""
    write(cli, trained, "bundle", tmp_path / "a")
    write(cli, trained, "bundle", tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        found = {name: archive.read(name) for name in archive.namelist()}
    assert set(found) == {f"a/{path.name}" for path in (tmp_path / "a").iterdir()}
    assert found["a/weights.pt"] == (tmp_path / "a" / "weights.pt").read_bytes()
    assert found["a/README.md"] == (tmp_path / "a" / "README.md").read_bytes()


def test_what_exists_is_replaced_only_by_force(cli, trained, tmp_path):
    """A file or an earlier bundle needs --force; a folder with anything else in it is never replaced."""
    out = tmp_path / "bundle"
    write(cli, trained, "bundle", out)
    refused(cli("export", "real", "--best", "bundle", "--out", out, "--results", trained), "--force")
    write(cli, trained, "bundle", out, "--force")
    (out / "thesis.tex").write_text("years of work")
    refused(
        cli("export", "real", "--best", "bundle", "--out", out, "--force", "--results", trained),
        "thesis.tex", "another --out",
    )  # fmt: skip
    assert (out / "thesis.tex").read_text() == "years of work"
    refused(cli("export", "real", "--best", "config", "--out", out, "--force", "--results", trained), "is a folder")
    refused(cli("export", "real", "--best", "config", "--out", tmp_path / "no" / "x", "--results", trained), "folder")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle"]


def test_a_trial_without_a_checkpoint_is_one_line(cli, trained, copy, tmp_path):
    """A failed trial, and one whose file is gone: which trials have one is said, and nothing is written."""
    out = tmp_path / "x"
    refused(
        cli("export", "real", "--trial", 1, "--best", "torchscript", "--out", out, "--results", trained),
        "real/1", "failed", "trials with one: 0",
    )  # fmt: skip
    (copy / "real" / "checkpoints" / "0" / "best.pt").unlink()
    refused(cli("export", "real", "--best", "bundle", "--out", out, "--results", copy), "best.pt", "no trial")
    assert not out.exists()
    # Its configuration needs no checkpoint.
    assert cli("export", "real", "--trial", 1, "--best", "config", "--out", out, "--results", trained).status == 0


def test_a_checkpoint_that_is_not_the_trial_s_is_refused(cli, copy, tmp_path):
    """A truncated file, and one of another epoch than the table says."""
    path = copy / "real" / "checkpoints" / "0" / "best.pt"
    state = checkpoint.load(path)
    checkpoint.save(path, {**state, "report": {**state["report"], "per": 0.001}})
    out = tmp_path / "x.pt"
    refused(cli("export", "real", "--best", "checkpoint", "--out", out, "--results", copy), "0.0010", "another epoch")
    path.write_bytes(path.read_bytes()[:1000])
    refused(cli("export", "real", "--best", "checkpoint", "--out", out, "--results", copy), str(path), "truncated")
    assert not out.exists()


def test_a_study_without_a_result_has_no_best(cli, toy, tmp_path):
    """An empty study, and names that are not there."""
    toy.create("empty").close()
    options = ("--best", "config", "--out", tmp_path / "x", "--results", toy.folder)
    refused(cli("export", "empty", *options), "empty", "no trial has a PER")
    refused(cli("export", "emty", *options), "did you mean empty")
    assert cli("export", *options).status == 2
    assert cli("export", "empty", "--out", tmp_path / "x", "--results", toy.folder).status == 2


@pytest.fixture
def studies(toy):
    """Two studies, one with a hostile name."""
    for name in ("one", "t'wo \"<b>\n"):
        study = toy.create(name, budget={"trials": 6, "hours": None})
        assert toy.drive(study)
        study.close()
    return toy.folder


def test_tables_as_one_duckdb_file(cli, studies, tmp_path):
    """DuckDB opens the file and finds the three tables as they are, each column with its meaning."""
    out = tmp_path / "all.duckdb"
    assert cli("export", "--tables", "--out", out, "--results", studies).status == 0
    tables, _ = load_tables(studies)
    with duckdb.connect(str(out), read_only=True) as connection:
        for name, table in tables.items():
            assert connection.sql(f"SELECT * FROM {name}").to_arrow_table().to_pylist() == table.to_pylist()
        sql = "SELECT comment FROM duckdb_columns() WHERE table_name = 'trials' AND column_name = 'best_per'"
        assert "PER" in connection.sql(sql).fetchall()[0][0]


def read_csv(path):
    """The rows of a CSV file, line breaks inside values kept."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_tables_as_csv_and_parquet(cli, studies, tmp_path):
    """The files hold every row and value; names with quotes and line breaks come back as they are."""
    (tmp_path / "out").mkdir()
    for form in ("csv", "parquet"):
        out = tmp_path / "out" / form
        assert cli("export", "--tables", "--format", form, "--out", out, "--results", studies).status == 0
    tables, _ = load_tables(studies)
    for name, table in tables.items():
        assert pq.read_table(tmp_path / "out" / "parquet" / f"{name}.parquet").to_pylist() == table.to_pylist()
        rows = read_csv(tmp_path / "out" / "csv" / f"{name}.csv")
        assert [row["study"] for row in rows] == table["study"].to_pylist()
    wanted = tables["trials"]["best_per"].to_pylist()
    rows = read_csv(tmp_path / "out" / "csv" / "trials.csv")
    assert [float(row["best_per"]) for row in rows] == wanted


def test_tables_of_one_study(cli, studies, tmp_path):
    """Named studies only; --trial and --best do not go with --tables; what exists is kept."""
    out = tmp_path / "one.duckdb"
    assert cli("export", "--tables", "one", "--out", out, "--results", studies).status == 0
    with duckdb.connect(str(out), read_only=True) as connection:
        assert connection.sql("SELECT DISTINCT study FROM epochs").fetchall() == [("one",)]
    before = out.read_bytes()
    refused(cli("export", "--tables", "one", "--out", out, "--results", studies), "--force")
    refused(cli("export", "--tables", "on", "--out", tmp_path / "x", "--results", studies), "did you mean one")
    assert cli("export", "--tables", "one", "--best", "config", "--out", out, "--results", studies).status == 2
    assert cli("export", "--tables", "--trial", 1, "--out", tmp_path / "x", "--results", studies).status == 2
    # Three Parquet files in a folder are what a study looks like.
    refused(
        cli("export", "--tables", "--format", "parquet", "--out", studies / "x", "--results", studies),
        "would look like a study",
    )
    assert out.read_bytes() == before
    assert sorted(path.name for path in tmp_path.glob("*.duckdb*")) == ["one.duckdb"]


def test_no_text_of_an_exported_csv_is_a_formula(tmp_path):
    """Like the CSV of a query: a text that begins as a formula has a ' in front; numbers, and null, do not."""
    import csv

    import pyarrow as pa

    from results.output import safe_text
    from tuner.analysis.export import _write_table

    texts = ["=1+1", "-1", "+x", "@x", "plain", "'quoted", "", None, "\t=1", "\uff1d1"]
    _write_table(tmp_path / "t.csv", pa.table({"text": texts, "n": [-1.5] * len(texts)}), "csv")
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["text"] for row in rows] == [safe_text(text or "") for text in texts]
    assert {row["n"] for row in rows} == {"-1.5"}


def test_the_report_decodes_the_best_checkpoint(copy):
    """Its errors are those of the PER that the study reports; without the checkpoint a line says why there are none."""
    [facts] = load(copy, ["real"])
    found, why = best_errors(copy, facts, asked=False)
    assert why == "" and found["per"] == pytest.approx(facts.first["best_per"])
    assert sum(day["utterances"] for day in found["days"]) == int(found["about"].split()[-3])
    (copy / "real" / facts.first["checkpoint"]).unlink()
    assert best_errors(copy, facts, asked=True)[1].endswith("its checkpoint or the data set is not here any more.")


def test_a_card_names_the_weights_that_were_the_best(trained):
    """Of several averages the card names the decay of the one that is exported, or says that none is."""
    trial = find_trial(trained, "real", "0")
    state = checkpoint.load(trained / "real" / "checkpoints" / "0" / "best.pt")
    several = trial.config.model_copy(update={"averaging": EMAConfig(decays=(0.9, 0.99))})
    said = {}
    for name in ("raw", "0.99"):
        report = {**state["report"], "average": name}
        facts = decoder_facts(replace(trial, config=several), {**state, "report": report}, {}, 0.0)
        said[name] = (facts["averaging"], facts["average"], model_card(trial, facts))
    assert said["raw"][:2] == ("none", "raw") and "| weights | the weights as trained, epoch" in said["raw"][2]
    assert said["0.99"][:2] == ("ema", "0.99")
    assert "| weights | an exponential moving average of the weights (decay 0.99), epoch" in said["0.99"][2]
