"""The pages of docs/: what they show works, and what they list is what there is."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from results.store.events import EventLog
from results.store.tables import compact
from search_spaces import load_run, to_dict

DOCS = Path(__file__).parents[1] / "docs"
BLOCKS = re.findall(r"### (\w+)\n\n```python\n(.*?)```", (DOCS / "tables.md").read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    """Two studies of real configurations whose kinds differ, so that their columns do; one trial has no PER."""
    root = tmp_path / "results" / "studies"
    for name, run in (("an4", "small"), ("t15", "speechBaseline4")):
        with EventLog(root / name / "events.jsonl") as log:
            log.append("study_started", study=name, space=None, data={"name": name}, seed=0, objective="best_per")
            for trial, pers in enumerate([[0.9, 0.31, 0.35], [0.8, None], [0.7, 0.25]]):
                config = to_dict(load_run(run).config)
                log.append("trial_started", trial=trial, attempt=1, seed=0, origin="searched", params={}, config=config)
                for epoch, per in enumerate(pers, start=1):
                    row = {"epoch": epoch, "batch": 100 * epoch, "per": per, "per_raw": per and per + 0.01}
                    log.append("epoch", trial=trial, attempt=1, **row, decision="continue", rung=None)
                log.append("trial_ended", trial=trial, attempt=1, status="completed", cpu_seconds=2.0, gpu_seconds=0.0)
            log.append("study_ended", reason="budget")
        compact(root / name)
    return tmp_path


@pytest.mark.parametrize(("tool", "code"), BLOCKS, ids=[tool for tool, _ in BLOCKS])
def test_the_tables_open_with_nothing_of_ours(
    tool: str, code: str, studies: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each block of docs/tables.md runs as it stands, imports none of our rooms, and finds the best trial."""
    assert not re.search(r"(search_spaces|trainable|tuner|import results)", code)
    monkeypatch.chdir(studies)
    namespace: dict[str, object] = {}
    exec(compile(code, f"docs/tables.md ({tool})", "exec"), namespace)
    best = namespace["best"]
    rows = {
        "pandas": lambda: best.to_dict("records"),
        "polars": lambda: best.to_dicts(),
        "DuckDB": lambda: best.df().to_dict("records"),
    }[tool]()
    assert [(row["study"], row["trial"], row["best_per"]) for row in rows[:2]] in (
        [("an4", 2, 0.25), ("t15", 2, 0.25)],
        [("t15", 2, 0.25), ("an4", 2, 0.25)],
    )
    assert {row["schedule_kind"] for row in rows} == {"one_cycle", "constant"}
    assert "0.25" in capsys.readouterr().out


def test_every_tool_has_its_block() -> None:
    """The page shows pandas, polars and DuckDB."""
    assert [tool for tool, _ in BLOCKS] == ["pandas", "polars", "DuckDB"]


def test_the_page_lists_every_column() -> None:
    """docs/tables.md has the columns as the program has them; python docs/make_tables.py writes them."""
    spec = importlib.util.spec_from_file_location("make_tables", DOCS / "make_tables.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = (DOCS / "tables.md").read_text(encoding="utf-8")
    assert module.replaced(page) == page
    assert "`schedule_peak_lr`" in page


def test_every_configuration_column_has_a_meaning() -> None:
    """A setting without a description would be a column that nobody can read; units name columns there are."""
    from results.schema import UNITS, config_columns

    columns = config_columns()
    assert all(column.meaning for column in columns)
    assert set(UNITS) <= {column.name for column in columns}
    flat = {f"{s}_{key}" for s, values in to_dict(load_run("speechBaseline4").config).items() for key in values}
    assert flat <= {column.name for column in columns}
