"""Exports: a trial's configuration, weights or decoder, and the tables.

Everything is checked before it gets its final name, in one step: a file or folder is made beside its place and renamed.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from results.output import FORMULA, NUMBER, visible
from results.store.columns import COLUMNS
from results.store.paths import StudyPaths
from results.store.tables import TABLES, load_tables
from results.store.telling import said
from results.trials import Trial, find_trial, trial_run_text
from search_spaces import InputError, load_run
from search_spaces.common import atomic
from search_spaces.writing import refuse_existing
from tuner.analysis.model_card import decoder_facts, model_card
from tuner.study.settings import StudySettings

KINDS = ("config", "checkpoint", "onnx", "torchscript", "bundle")
TABLE_FORMATS = ("duckdb", "csv", "parquet")
_ADVICE = "choose another --out"


def best_trial(results_dir: Path, study: str, number: str | None) -> Trial:
    """Trial `number` of a study, or the one with the lowest best_per. InputError where no trial has a PER."""
    if number is not None:
        return find_trial(results_dir, study, number)
    trials = load_tables(results_dir, [study], ("trials",))[0]["trials"].select(["trial", "best_per"]).to_pylist()
    ranked = sorted((row["best_per"], row["trial"]) for row in trials if row["best_per"] is not None)
    if not ranked:
        raise InputError(
            f"{visible(study)}: no trial has a PER yet, so there is no best one; name a trial with --trial"
        )
    return find_trial(results_dir, study, str(ranked[0][1]))


def export_trial(trial: Trial, kind: str, out: Path, force: bool = False) -> str:
    """Write one of `KINDS` of a trial to `out`; returns a short text on what was checked.

    `out` is a file; for a bundle a folder, or a file whose name ends in .zip. Raises InputError for a trial without
    the checkpoint that is needed, a checkpoint of another trial, and an `out` that exists or cannot be written.
    """
    if kind == "bundle":
        _check_folder(out, force, BUNDLE)
    else:
        refuse_existing(out, force)
        if out.is_dir():
            raise InputError(f"{out}: is a folder; give a file's name by --out")
    if kind == "config":
        return _export_config(trial, out)
    content, state = _checkpoint(trial)
    if kind == "checkpoint":
        _write(out, content)
        if out.read_bytes() != content:
            raise InputError(f"{out}: reading it back gives other content; choose another --out")
        return f"epoch {state['epoch']}, PER {_per(state)}, {_sha256(content)[:12]} (sha256) as written"
    from trainable.decoder_file import onnx, torchscript

    facts = trial_model(trial, state)
    if kind == "bundle":
        return _export_bundle(trial, content, state, out)
    exported, worst = (onnx if kind == "onnx" else torchscript)(*facts)
    _write(out, exported)
    return f"logits differ from the model's by at most {worst:.1g}"


def trial_model(trial: Trial, state: Mapping[str, Any]) -> tuple[Any, int, int]:
    """The trained decoder of a checkpoint, its number of features and of days."""
    from trainable.checkpoint import load_model

    try:
        model = load_model(state)
    except InputError as error:
        raise InputError(f"{trial.name}: {error}") from None
    return model, int(state["data"]["features"]), len(state["data"]["days"])


def _export_config(trial: Trial, out: Path) -> str:
    text = trial_run_text(trial)

    def check(path: Path) -> None:
        if load_run(path).config != trial.config:
            raise RuntimeError(f"the run file of {trial.name} does not give its configuration")

    _write(out, text.encode(), check)
    return "loads as the trial's configuration"


def _checkpoint(trial: Trial) -> tuple[bytes, dict[str, Any]]:
    """The trial's best checkpoint as bytes and as a state, checked against what the tables say of the trial."""
    from trainable.checkpoint import load

    row = trial.row
    if not row["checkpoint"] and row["status"] not in ("running", "interrupted", "paused"):
        raise InputError(f"{trial.name}: has no checkpoint ({row['status']}); {_others(trial)}")
    path = trial.folder / row["checkpoint"] if row["checkpoint"] else StudyPaths(trial.folder).trial(trial.number).best
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}; {_others(trial)}") from None
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        copy.write_bytes(content)
        try:
            state = load(copy)
        except InputError as error:
            raise InputError(line.replace(str(copy), str(path)) for line in error.problems) from None
    problems = []
    expected = StudySettings.read(trial.settings).data.fingerprint
    if expected and state["data"]["fingerprint"] != expected:
        problems.append(f"{path}: was trained on other data than the study ({state['data']['fingerprint'][:12]})")
    per = state["report"].get("per")
    if row["status"] != "running" and (per is None or row["best_per"] is None or abs(per - row["best_per"]) > 1e-9):
        problems.append(f"{path}: its PER is {_per(state)}, the table has {row['best_per']}; it is from another epoch")
    if problems:
        raise InputError(problems)
    return content, state


def _others(trial: Trial) -> str:
    kept = [number for number, paths in StudyPaths(trial.folder).trials.items() if paths.best.exists()]
    return f"trials with one: {', '.join(map(str, kept[:10]))}" if kept else "no trial of the study has one"


def _per(state: Mapping[str, Any]) -> str:
    per = state["report"].get("per")
    return "unknown" if per is None else f"{per:.4f}"


BUNDLE = ("README.md", "config.yaml", "decoder.json", "decoder.ts", "weights.pt")


def _export_bundle(trial: Trial, content: bytes, state: Mapping[str, Any], out: Path) -> str:
    from trainable.decoder_file import torchscript

    scripted, worst = torchscript(*trial_model(trial, state))
    files = {
        "config.yaml": trial_run_text(trial).encode(),
        "decoder.ts": scripted,
        "weights.pt": content,
    }
    facts = decoder_facts(trial, state, {name: _sha256(data) for name, data in files.items()}, worst)
    files["decoder.json"] = (json.dumps(facts, indent=1, ensure_ascii=False) + "\n").encode()
    files["README.md"] = model_card(trial, facts).encode()
    if out.suffix.lower() == ".zip":
        with atomic.file(out, advice=_ADVICE) as path, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in BUNDLE:
                # A fixed time, so that the same trial gives the same file.
                archive.writestr(zipfile.ZipInfo(f"{out.stem}/{name}", (1980, 1, 1, 0, 0, 0)), files[name])
    else:
        with atomic.folder(out, replace=True, advice=_ADVICE) as path:
            for name in BUNDLE:
                (path / name).write_bytes(files[name])
    return f"{', '.join(BUNDLE)}; logits differ from the model's by at most {worst:.1g}"


def export_tables(results_dir: Path, studies: Sequence[str] | None, form: str, out: Path, force: bool = False) -> str:
    """Write the tables studies, trials and epochs of the studies (all for None) to `out`; returns their sizes in words.

    `form` is one of `TABLE_FORMATS`: a single DuckDB file, or a folder of three files.
    """
    if form == "duckdb":
        refuse_existing(out, force)
        if out.is_dir():
            raise InputError(f"{out}: is a folder; give a file's name by --out")
    else:
        if out.resolve().parent == results_dir.resolve():
            raise InputError(f"{out}: is in the results folder and would look like a study; choose another --out")
        _check_folder(out, force, [f"{name}.{form}" for name in TABLES])
    tables, problems = load_tables(results_dir, studies)
    if form == "duckdb":
        with atomic.file(out, advice=_ADVICE) as path:
            _write_duckdb(path, tables)
    else:
        with atomic.folder(out, replace=True, advice=_ADVICE) as path:
            for name, table in tables.items():
                _write_table(path / f"{name}.{form}", table, form)
    sizes = ", ".join(f"{table.num_rows} {name}" for name, table in tables.items())
    said(problems)
    return "\n".join([sizes, *(f"note: {problem}" for problem in problems)])


def _write_duckdb(path: Path, tables: Mapping[str, Any]) -> None:
    import duckdb

    with duckdb.connect(str(path)) as connection:
        for name, table in tables.items():
            connection.register("incoming", table)
            connection.execute(f'CREATE TABLE "{name}" AS SELECT * FROM incoming')
            connection.unregister("incoming")
            for column in COLUMNS[name]:
                text = column.meaning + (f" [{column.unit}]" if column.unit else "")
                quoted = text.replace("'", "''")
                connection.execute(f'COMMENT ON COLUMN "{name}"."{column.name}" IS \'{quoted}\'')


def _write_table(path: Path, table: Any, form: str) -> None:
    if form == "csv":
        import pyarrow.csv as pc

        with path.open("wb") as file:
            pc.write_csv(_safe(table), file)
    else:
        import pyarrow.parquet as pq

        with path.open("wb") as file:
            pq.write_table(table, file, compression="zstd")


def _safe(table: Any) -> Any:
    """The table with its texts as `results.output.safe_text` has them, and lists as JSON text: CSV has none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for index, field in enumerate(table.schema):
        if pa.types.is_string(field.type):
            column = table.column(index)
            runs = pc.and_not(pc.match_substring_regex(column, FORMULA), pc.match_substring_regex(column, NUMBER))
            safe = pc.if_else(runs, pc.binary_join_element_wise("'", column, ""), column)
            table = table.set_column(index, field, safe)
        elif pa.types.is_nested(field.type):
            texts = [None if value is None else json.dumps(value) for value in table.column(index).to_pylist()]
            table = table.set_column(index, field.name, pa.array(texts, pa.string()))
    return table


def _check_folder(out: Path, force: bool, names: Sequence[str]) -> None:
    """Refuse a folder that contains anything but an earlier export; --force replaces only an export."""
    refuse_existing(out, force)
    if out.is_dir():
        strange = sorted(path.name for path in out.iterdir() if path.name not in names)
        if strange or out.is_symlink():
            raise InputError(f"{out}: is not an earlier export (it has {', '.join(strange[:3])}); choose another --out")
    elif out.exists() and out.suffix.lower() != ".zip":
        raise InputError(f"{out}: is a file, but the export is a folder; choose another --out")


def _write(out: Path, content: bytes, check: Callable[[Path], None] | None = None) -> None:
    with atomic.file(out, advice=_ADVICE) as path:
        path.write_bytes(content)
        if check is not None:
            check(path)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
