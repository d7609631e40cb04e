"""The tables: a pure function of the log, on disk as Parquet that never says anything else than the log."""

from __future__ import annotations

import json
import resource
import threading
from collections import defaultdict
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from results.query import query
from results.store import bulk
from results.store.columns import COLUMNS, TABLES
from results.store.events import EventLog, scan_events
from results.store.lines import lines_of
from results.store.lock import StudyLock
from results.store.paths import find_studies
from results.store.replay import Replay, _is_count, build, config_array, schema
from results.store.tables import compact, load_tables, open_sources
from search_spaces.errors import InputError

PER = st.one_of(st.none(), st.sampled_from([0.25, 0.5]), st.floats(0, 2))
BY_DECAY = st.one_of(
    st.none(),
    st.lists(
        st.fixed_dictionaries({"decay": st.floats(0, 1), "per": st.one_of(st.none(), st.floats(0, 2))}), max_size=3
    ),
)
AVERAGED = {"average": st.sampled_from([None, "raw", "0.999"]), "per_by_decay": BY_DECAY, "per_halves": PER}
"""What an epoch may have since runs track several averages."""
CONFIG_VALUES = {
    "a_int": st.integers(-5, 5),
    "a_num": st.one_of(st.integers(0, 3), st.floats(0, 1)),
    "b_kind": st.text(),
}


@st.composite
def logs(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Any order of starts, epochs, repeated epochs, ends and resumptions that a driver and its crashes can leave."""
    events: list[dict[str, Any]] = [{"event": "study_started", "study": "s", "resources": {"cpus_per_trial": 2}}]
    attempts: dict[int, int] = defaultdict(int)
    for _ in range(draw(st.integers(0, 25))):
        kind = draw(st.sampled_from(["start", "epoch", "epoch", "epoch", "epoch", "end", "resume"]))
        trial = draw(st.integers(0, 3))
        if kind == "resume":
            events.append({"event": "study_resumed", "changed": {}})
        elif kind == "start" or not attempts[trial]:
            attempts[trial] += 1
            keys = draw(st.sets(st.sampled_from(sorted(CONFIG_VALUES))))
            config: dict[str, dict[str, Any]] = {"a": {}, "b": {}}
            for key in sorted(keys):
                config[key[0]][key[2:]] = draw(CONFIG_VALUES[key])
            events.append(
                {"event": "trial_started", "trial": trial, "attempt": attempts[trial], "config": config, "seed": trial}
            )
        elif kind == "epoch":
            epoch, seconds = draw(st.integers(1, 4)), draw(st.floats(0, 5))
            events.append(
                {"event": "epoch", "trial": trial, "attempt": attempts[trial], "epoch": epoch, "per": draw(PER)}
                | {"batch": 10 * epoch, "seconds": seconds}
                | {name: draw(values) for name, values in AVERAGED.items() if draw(st.booleans())}
            )
        else:
            status = draw(st.sampled_from(["completed", "stopped", "diverged", "failed", "interrupted"]))
            events.append({"event": "trial_ended", "trial": trial, "status": status, "cpu_seconds": 1.5})
    return [
        {"event": event["event"], "seq": seq, "time": 1e9 + seq / 7, **event}
        for seq, event in enumerate(events, start=1)
    ]


def as_lines(events: list[dict[str, Any]]) -> list[bytes]:
    """The lines that EventLog would have written."""
    return list(lines_of(events))


def old_lines(events: list[dict[str, Any]]) -> list[bytes]:
    """The lines that a version without checksums would have written."""
    return [json.dumps(event, separators=(",", ":")).encode() + b"\n" for event in events]


def cost(events: list[dict[str, Any]], trial: int) -> tuple[int, float, float]:
    """Attempts, the seconds of all their epochs, and CPU seconds: as told at the end, else those seconds on 2 CPUs."""
    attempts, cpu, ended = 0, 0.0, set()
    seconds: dict[int, float] = defaultdict(float)
    for event in events:
        if event.get("trial") != trial:
            continue
        if event["event"] == "trial_started":
            attempts += 1
        elif event["event"] == "epoch":
            seconds[event["attempt"]] += event["seconds"]
        else:
            ended.add(attempts)
            cpu += event["cpu_seconds"]
    cpu += sum(2 * seconds[attempt] for attempt in range(1, attempts + 1) if attempt not in ended)
    return attempts, sum(seconds.values()), cpu


@given(events=logs())
@settings(max_examples=150, deadline=None)
def test_rows_are_what_the_events_say(events: list[dict[str, Any]]) -> None:
    """One row per (trial, epoch), the latest attempt's; a trial's numbers are those of its rows."""
    tables = build(events, running=False)
    kept: dict[tuple[int, int], dict[str, Any]] = {}
    for event in events:
        if event["event"] == "epoch":
            kept[event["trial"], event["epoch"]] = event  # attempts only rise, so the last report is the latest's
    rows = tables["epochs"].to_pylist()
    assert [(row["trial"], row["epoch"]) for row in rows] == sorted(kept)
    for row in rows:
        event = kept[row["trial"], row["epoch"]]
        assert (row["per"], row["attempt"], row["seconds"]) == (event["per"], event["attempt"], event["seconds"])
    numbers = sorted({event["trial"] for event in events if "trial" in event})
    trials = tables["trials"].to_pylist()
    assert [row["trial"] for row in trials] == numbers
    for row in trials:
        curve = [r for r in rows if r["trial"] == row["trial"]]
        pers = [r["per"] for r in curve if r["per"] is not None]
        assert row["best_per"] == min(pers, default=None)
        assert row["epochs"] == (len(curve) or None)
        assert row["last_per"] == (curve[-1]["per"] if curve else None)
        assert (row["attempts"], row["train_seconds"], row["cpu_seconds"]) == pytest.approx(cost(events, row["trial"]))
        if pers:
            assert row["best_epoch"] == next(r["epoch"] for r in curve if r["per"] == min(pers))
        own = [e for e in events if e.get("trial") == row["trial"] and e["event"] != "epoch"]
        ended = own[-1]["event"] == "trial_ended"
        assert row["status"] == (own[-1]["status"] if ended else "interrupted")
        assert (row["ended"] is not None) == ended
    study = tables["studies"].to_pylist()[0]
    assert study["trials"] == len(trials)
    assert study["epochs"] == len(rows)
    assert study["best_per"] == min((r["best_per"] for r in trials if r["best_per"] is not None), default=None)


@given(events=logs())
@settings(max_examples=40, deadline=None)
def test_parquet_says_what_the_log_says(tmp_path_factory: pytest.TempPathFactory, events: list[dict[str, Any]]) -> None:
    """Compacted and loaded from Parquet, the tables equal those built from the events."""
    folder = tmp_path_factory.mktemp("results") / "s"
    folder.mkdir()
    (folder / "events.jsonl").write_bytes(b"".join(as_lines(events)))
    assert compact(folder) == []
    sources, problems = open_sources(folder.parent)
    assert sorted(sources[0].parquet) == sorted(TABLES)
    built = build(events, running=False, study="s")
    assert {name: sources[0].table(name).to_pylist() for name in TABLES} == {n: t.to_pylist() for n, t in built.items()}
    assert all(sources[0].table(name).schema == built[name].schema for name in TABLES)
    assert problems == []


BAD_LINES = [
    b"{not json}\n",
    b"\n",
    b"\x00\x00\n",
    b'{"event":"epoch","seq":3}\n',
    b'{"event":"epoch","seq":4,"trial":-1,"epoch":1}\n',
    b'{"event":"epoch","seq":5,"trial":0,"epoch":2,"per":"a","batch":1.5,"host":7}\n',
    b'{"event":"epoch","seq":6,"trial":99999999999,"epoch":1}\n',
    b'{"event":"epoch","seq":7,"trial":1,"epoch":1,"per":NaN,"host":"\\udcff"}\n',
    b'{"event":"epoch","seq":8,"trial":1,"epoch":1,"per":1e999,"lr":3}\n',
    b'{"event":"epoch","seq":9,"trial":1,"epoch":3,"per":0.5}{"event":"epoch","seq":9}\n',
    b'{"event":"epoch","seq":10,"tri',
]


@given(events=logs(), data=st.data())
@settings(max_examples=100, deadline=None)
def test_reading_in_blocks_equals_reading_line_by_line(
    tmp_path_factory: pytest.TempPathFactory, events: list[dict[str, Any]], data: st.DataObject
) -> None:
    """Whatever the damage and wherever the blocks end, the fast reader gives the same tables and the same problems."""
    lines = as_lines(events) if data.draw(st.booleans(), label="checksums") else old_lines(events)
    for _ in range(data.draw(st.integers(0, 2), label="damages")):
        place = data.draw(st.integers(0, len(lines)), label="place")
        lines[place : place + data.draw(st.integers(0, 1))] = [data.draw(st.sampled_from(BAD_LINES))]
    path = tmp_path_factory.mktemp("log") / "events.jsonl"
    path.write_bytes(b"".join(lines))
    slow_problems: list[str] = []
    slow = Replay()
    for event in scan_events(path, slow_problems):
        slow.feed(event)
    fast_problems: list[str] = []
    with mock.patch.object(bulk, "_BLOCK", data.draw(st.sampled_from([64, 300, 1000, 8 << 20]), label="block")):
        fast = bulk.replay_file(path, path.stat().st_size, fast_problems).replay
    assert fast_problems == slow_problems
    assert fast.last_seq == slow.last_seq
    mine, theirs = fast.tables(False, "s"), slow.tables(False, "s")
    assert {name: mine[name].to_pylist() for name in TABLES} == {name: theirs[name].to_pylist() for name in TABLES}


def test_every_fixed_column_is_documented_and_there(results_dir: Path) -> None:
    """The three tables begin with the columns of COLUMNS, typed as it says, with no dot or space in a name."""
    tables, _ = load_tables(results_dir)
    for name in TABLES:
        assert tables[name].schema.names[: len(COLUMNS[name])] == [column.name for column in COLUMNS[name]]
        assert list(tables[name].schema)[: len(COLUMNS[name])] == list(schema(name))
        assert all(column.replace("_", "a").isalnum() for column in tables[name].column_names)
        assert all(column.meaning for column in COLUMNS[name])


def test_configuration_columns(tmp_path: Path, studies: Any) -> None:
    """Keys become section_key, lists JSON text, whole numbers and fractions one type; training_seed is left out."""
    configs = [
        {
            "model": {"hidden": 64},
            "schedule": {"kind": "multistep", "milestones": [0.5, 0.75]},
            "training": {"seed": 3},
        },
        {"model": {"hidden": 64.5}, "schedule": {"kind": "linear", "end_lr": 1}, "averaging": {"decay": None}},
    ]
    events = [studies.started(), *(e for n, c in enumerate(configs) for e in studies.trial(n, [0.5], config=c))]
    trials = build(studies.numbered(events), running=False)["trials"]
    extra = trials.column_names[len(COLUMNS["trials"]) :]
    assert extra == ["model_hidden", "schedule_kind", "schedule_milestones", "schedule_end_lr", "averaging_decay"]
    assert trials["model_hidden"].to_pylist() == [64.0, 64.5]
    assert trials["schedule_milestones"].to_pylist() == ["[0.5, 0.75]", None]
    assert trials["schedule_end_lr"].to_pylist() == [None, 1]


def test_studies_are_stacked_by_name(tmp_path: Path, studies: Any) -> None:
    """Over studies, a column one lacks is null there, and int beside float is float; text wins over a number."""
    for study, values in {
        "a": {"model_hidden": 1, "model_x": 1, "model_y": True},
        "b": {"model_hidden": 0.5, "model_y": "auto"},
    }.items():
        studies.write_log(
            tmp_path / study, [studies.started(), *studies.trial(0, [0.5], config=studies.config(**values))]
        )
    compact(tmp_path / "a")
    trials = load_tables(tmp_path)[0]["trials"]
    assert trials["model_hidden"].to_pylist() == [1.0, 0.5]
    assert trials["model_x"].to_pylist() == [1, None]
    assert trials["model_y"].to_pylist() == ["true", "auto"]
    assert trials["study"].to_pylist() == ["a", "b"]
    assert load_tables(tmp_path, ["b"])[0]["trials"].num_rows == 1


def test_a_newer_log_wins_over_parquet(tmp_path: Path, studies: Any) -> None:
    """Events appended after a compaction are in the tables without another one."""
    folder = studies.write_log(tmp_path / "a", [studies.started(), *studies.trial(0, [0.5])])
    compact(folder)
    with EventLog(folder / "events.jsonl") as log:
        log.append("epoch", trial=0, attempt=1, epoch=2, per=0.25)
    tables, problems = load_tables(tmp_path)
    assert tables["trials"]["best_per"].to_pylist() == [0.25]
    assert problems == []


def test_running_or_interrupted_follows_the_lock(tmp_path: Path, studies: Any) -> None:
    """A trial without an end runs while a driver holds the lock, and is interrupted after, whatever Parquet says."""
    folder = studies.write_log(tmp_path / "a", [studies.started(), *studies.trial(0, [0.5], ended=False)])

    def statuses() -> list[str]:
        tables, _ = load_tables(tmp_path)
        return tables["trials"]["status"].to_pylist() + tables["studies"]["status"].to_pylist()

    with StudyLock(folder):
        assert statuses() == ["running", "running"]
        compact(folder)
        assert statuses() == ["running", "running"]
    assert statuses() == ["interrupted", "interrupted"]
    assert open_sources(tmp_path)[0][0].parquet  # it was read from Parquet, not from the log


def test_a_resumed_study_runs_again(tmp_path: Path, studies: Any) -> None:
    """After study_resumed the end is forgotten, changed settings are in force, and the resumption is counted."""
    events = [
        studies.started(),
        {"event": "study_ended", "reason": "interrupted"},
        {"event": "study_resumed", "changed": {"budget": [{"trials": 4, "hours": 2}, {"trials": 9, "hours": 2}]}},
    ]
    row = build(studies.numbered(events), running=True)["studies"].to_pylist()[0]
    assert (row["status"], row["reason"], row["ended"], row["resumed"]) == ("running", None, None, 1)
    assert (row["budget_trials"], row["seed"], row["space"]) == (9, 7, "small")


def test_the_time_of_a_killed_attempt_is_estimated(studies: Any) -> None:
    """An attempt without an end counts its epochs' seconds times the CPUs and GPUs it held."""
    events = [
        studies.started(),
        *studies.trial(0, [0.5, 0.4, 0.3], ended=False),  # 3 epochs of 2 s on 2 CPUs and half a GPU
        *studies.trial(0, [0.5], attempt=2, cpu_seconds=7.0, gpu_seconds=1.0),
    ]
    row = build(studies.numbered(events), running=False)["trials"].to_pylist()[0]
    assert (row["cpu_seconds"], row["gpu_seconds"], row["attempts"]) == (12.0 + 7.0, 3.0 + 1.0, 2)
    assert row["train_seconds"] == 6.0 + 2.0  # those of every attempt, the last one's and repeated epochs included


def test_a_part_has_the_rows_of_its_trials(studies: Any) -> None:
    """What is sealed of a study while it runs: its trials' rows as in all tables, whether or not they have ended."""
    replay = Replay()
    for event in studies.numbered([studies.started(), *(e for n in range(4) for e in studies.trial(n, [0.5, 0.4]))]):
        if not (event["event"] == "trial_ended" and event["trial"] == 2):
            replay.feed(event)
    whole = replay.tables(False, "s")
    for table, rows in zip(("trials", "epochs"), replay.part("s", [0, 2]), strict=True):
        assert rows.to_pylist() == [row for row in whole[table].to_pylist() if row["trial"] in (0, 2)]
    assert replay.part("s", [2])[0]["status"].to_pylist() == ["interrupted"]


def test_a_checkpoint_that_was_dropped_is_not_named_any_more(studies: Any) -> None:
    """Removed for want of room: the trial's row has no checkpoint, the others' rows keep theirs."""
    events = [
        studies.started(),
        *studies.trial(0, [0.5]),
        *studies.trial(1, [0.4]),
        {"event": "checkpoints_dropped", "files": ["checkpoints/0/best.pt"], "bytes": 1, "budget": 1},
    ]
    trials = build(studies.numbered(events), running=False)["trials"]
    assert trials["checkpoint"].to_pylist() == [None, "checkpoints/1/best.pt"]


def test_odd_values_cost_themselves_only(studies: Any) -> None:
    """Wrong types, huge numbers and lone surrogates become null or replacement characters, never an exception."""
    odd = studies.epoch(0, 1, 0.5, batch="many", lr=10**400, host="\udcff", decision=3, attempt=None)
    events = [
        studies.started(study="\udcff", seed=2**70, budget="none", data=[]),
        *studies.trial(0, []),
        odd,
        {"event": "epoch", "trial": "x", "epoch": 1},
        {"event": "something_new", "trial": 5},
    ]
    tables = build(studies.numbered(events), running=False)
    row = tables["epochs"].to_pylist()[0]
    assert (row["batch"], row["lr"], row["host"], row["decision"], row["per"]) == (None, None, "?", None, 0.5)
    assert tables["trials"].num_rows == 1
    assert tables["studies"]["seed"].to_pylist() == [None]


def test_damaged_parquet_is_replaced_by_the_log(results_dir: Path) -> None:
    """An unreadable Parquet file is reported in one line and the study is read from its log."""
    before, _ = load_tables(results_dir, ["alpha"])
    path = results_dir / "alpha" / "trials.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    after, problems = load_tables(results_dir, ["alpha"])
    assert after == before
    assert len(problems) == 1
    assert "trials.parquet: unreadable" in problems[0]


def test_damage_inside_a_parquet_file_is_replaced_by_the_log(results_dir: Path) -> None:
    """A file whose footer is whole and whose data is not is also read from the log."""
    before, _ = load_tables(results_dir, ["alpha"])
    path = results_dir / "alpha" / "epochs.parquet"
    data = bytearray(path.read_bytes())
    data[4:2000] = bytes(1996)
    path.write_bytes(data)
    after, problems = load_tables(results_dir, ["alpha"])
    assert after["epochs"] == before["epochs"]
    assert "epochs.parquet: unreadable" in problems[0]


def test_an_older_file_gets_what_it_lacks(results_dir: Path) -> None:
    """A current Parquet file of an older schema is read, the columns it lacks being null."""
    path = results_dir / "alpha" / "epochs.parquet"
    table = pq.read_table(path)
    about = {**(table.schema.metadata or {}), b"schema_version": b"0"}
    pq.write_table(table.drop_columns(["blank_share", "rung"]).replace_schema_metadata(about), path)
    epochs = load_tables(results_dir, ["alpha"])[0]["epochs"]
    assert epochs.schema == schema("epochs")
    assert epochs["rung"].null_count == epochs.num_rows > 0
    assert epochs["per"].to_pylist()[:3] == [0.9, 0.5, 0.4]


def test_parquet_without_a_log_is_shown_and_said(results_dir: Path) -> None:
    """A study of which only the tables are left is shown from them, with a line that says so."""
    before = load_tables(results_dir, ["alpha"])[0]
    (results_dir / "alpha" / "events.jsonl").unlink()
    after, problems = load_tables(results_dir, ["alpha"])
    assert after == before
    assert "there is no log" in problems[0]


def test_a_renamed_folder_renames_the_study(results_dir: Path) -> None:
    """The study column is the folder's name, also where the Parquet files were made under another."""
    (results_dir / "alpha").rename(results_dir / "gamma")
    tables, _ = load_tables(results_dir)
    assert set(tables["epochs"]["study"].to_pylist()) == {"beta", "gamma"}


def test_other_logs_of_the_same_size_are_noticed(results_dir: Path) -> None:
    """A log without checksums that was changed is shown as it is now, with a line that its tables say otherwise."""
    log = results_dir / "alpha" / "events.jsonl"
    log.write_text(log.read_text().replace('"reason":"budget"', '"reason":"failed"'))
    tables, problems = load_tables(results_dir, ["alpha"])
    assert tables["studies"]["reason"].to_pylist() == ["failed"]
    assert "others than those that its tables were made from" in problems[0]


def test_tables_are_never_replaced_by_less(results_dir: Path, studies: Any) -> None:
    """However a log was shortened or damaged, compacting it is refused, the tables stay and are what is shown."""
    folder = results_dir / "alpha"
    whole = studies.seal(folder)
    compact(folder)
    before = load_tables(results_dir, ["alpha"])[0]
    files = {path.name: path.read_bytes() for path in folder.glob("*.parquet")}
    lines = whole.splitlines(keepends=True)
    for log in (b"", lines[0], b"".join(lines[:5] + lines[6:]), whole[:-1] + b"!", whole.replace(b"0.3,", b"0.2,")):
        (folder / "events.jsonl").write_bytes(log)
        with pytest.raises(InputError, match=r"tuner results repair alpha.*the tables are not changed"):
            compact(folder)
        tables, problems = load_tables(results_dir, ["alpha"])
        assert tables == before
        assert any("results repair" in line for line in problems)
        assert {path.name: path.read_bytes() for path in folder.glob("*.parquet")} == files
    (folder / "events.jsonl").write_bytes(whole)
    assert load_tables(results_dir, ["alpha"]) == (before, [])
    assert compact(folder) == []


@pytest.mark.parametrize("checksums", [True, False])
def test_other_spacing_is_no_damage(results_dir: Path, studies: Any, checksums: bool) -> None:
    """A log whose lines were written again with other spacing says what it said, and can be compacted."""
    folder = results_dir / "alpha"
    if checksums:
        studies.seal(folder)
        compact(folder)
    before = load_tables(results_dir, ["alpha"])[0]
    lines = (folder / "events.jsonl").read_text().splitlines()
    (folder / "events.jsonl").write_text("".join(json.dumps(json.loads(line)) + "\r\n" for line in lines))
    assert load_tables(results_dir, ["alpha"]) == (before, [])
    assert compact(folder) == []


def test_compaction_while_appending(tmp_path: Path, studies: Any) -> None:
    """Compacting over and over while a driver appends never fails, and each table is some moment's whole log."""
    folder = studies.write_log(tmp_path / "a", [studies.started(), *studies.trial(0, [], ended=False)])
    done = threading.Event()

    def drive() -> None:
        with EventLog(folder / "events.jsonl") as log:
            for epoch in range(1, 301):
                log.append("epoch", trial=0, attempt=1, epoch=epoch, per=1 / epoch)
        done.set()

    driver = threading.Thread(target=drive)
    driver.start()
    seen = [0]
    while not done.is_set():
        assert compact(folder) == []
        rows = pq.read_table(folder / "epochs.parquet").num_rows
        assert pq.read_table(folder / "epochs.parquet")["epoch"].to_pylist()[:rows] == list(range(1, rows + 1))
        assert load_tables(tmp_path)[0]["epochs"].num_rows >= rows >= seen[-1]
        seen.append(rows)
    driver.join()
    compact(folder)
    assert load_tables(tmp_path)[0]["epochs"].num_rows == 300
    assert not list(folder.glob(".*.tmp"))


def test_a_full_disk_leaves_the_old_tables(results_dir: Path) -> None:
    """A compaction that cannot be written raises InputError and leaves the files as they were, and nothing beside."""
    folder = results_dir / "alpha"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
        with pytest.raises(InputError, match="tables cannot be written"):
            compact(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_folder_without_studies_is_one_line(tmp_path: Path) -> None:
    """No folder, an empty one, and a study name that is not there: InputError, the nearest name given."""
    with pytest.raises(InputError, match="is not a results folder"):
        load_tables(tmp_path / "missing")
    with pytest.raises(InputError, match="has no studies"):
        load_tables(tmp_path)
    (tmp_path / "alpha").mkdir()
    (tmp_path / "alpha" / "events.jsonl").touch()
    with pytest.raises(InputError, match="did you mean alpha"):
        find_studies(tmp_path, ["alhpa"])


def test_an_empty_log_is_an_empty_study(tmp_path: Path) -> None:
    """A study that was made and never started is a row without trials."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "events.jsonl").touch()
    tables, problems = load_tables(tmp_path)
    assert (tables["studies"].num_rows, tables["trials"].num_rows, problems) == (1, 0, [])
    assert tables["studies"]["trials"].to_pylist() == [0]
    assert pa.types.is_string(tables["trials"].schema.field("study").type)


@pytest.mark.parametrize(
    "name", ["a b", "it's", "<b>x", "bad\udcff", "räksmörgås 雪", "line\nbreak", "a[b]*?", "a;drop table"]
)
def test_any_folder_name_is_a_study(tmp_path: Path, studies: Any, name: str) -> None:
    """Names with blanks, quotes, markup, newlines, patterns and other scripts are read and compacted."""
    folder = studies.write_log(tmp_path / name, [studies.started(), *studies.trial(0, [0.5])])
    compact(folder)
    assert load_tables(tmp_path, [name])[0]["trials"]["study"].to_pylist() == [name.replace("\udcff", "?")]


def test_a_studys_further_objectives_are_named() -> None:
    """The column `costs` of the studies table; null where the PER alone is minimised."""
    begun = {"event": "study_started", "seq": 1, "time": 1.0e9, "study": "s"}
    rows = [
        build([{**begun, "costs": costs}], True)["studies"].to_pylist()[0] for costs in ([], ["train_seconds", "x"])
    ]
    assert [row["costs"] for row in rows] == [None, "train_seconds,x"]


@pytest.mark.parametrize("value", [2**63 - 1, -(2**63), 2**53 + 1, -(2**40)])
def test_a_whole_number_of_a_configuration_keeps_every_digit(value: int) -> None:
    """Up to the largest of int64, beyond what a float holds exactly; what is larger still is text."""
    assert config_array([value, None]).to_pylist() == [value, None]
    assert config_array([value, None]).type == pa.int64()


def test_a_number_beyond_int64_is_a_fraction() -> None:
    """Such a number can come from another program's log; it is not cut to fit, and it is no error."""
    assert config_array([2**63, None]).type == pa.float64()
    assert config_array([2**63, None]).to_pylist() == [float(2**63), None]


def test_numbers_of_trials_and_epochs_fit_their_column() -> None:
    """int32: the largest is taken, the next is damage, and so is a number that is none."""
    assert [_is_count(value) for value in (0, 2**31 - 1, 2**31, -1, 1.0, True)] == [
        True,
        True,
        False,
        False,
        False,
        False,
    ]


def test_a_best_per_says_which_weights_it_is_of(studies: Any, tmp_path: Path) -> None:
    """best_average is that of the first epoch of best_per; SQL reads each decay's PER; an older log has neither."""
    rows = [
        {"average": "raw", "per_by_decay": None, "per_halves": None},
        {
            "average": "0.99",
            "per_by_decay": [{"decay": 0.9, "per": 0.4}, {"decay": 0.99, "per": 0.3}],
            "per_halves": 0.31,
        },
        {"average": "0.9", "per_by_decay": [{"decay": 0.9, "per": 0.3}], "per_halves": 0.3},
    ]
    events = studies.trial(0, [0.5, 0.3, 0.3])
    averaged = iter(rows)
    events = [{**event, **next(averaged)} if event["event"] == "epoch" else event for event in events]
    log = [studies.started(), *events, *studies.trial(1, [0.4])]
    folder = studies.write_log(tmp_path / "several", log)
    seen = []
    for current in (False, True):
        if current:
            compact(folder)
        tables = load_tables(tmp_path)[0]
        assert tables["trials"]["best_average"].to_pylist() == ["0.99", None]
        assert tables["epochs"]["per_by_decay"].to_pylist() == [row["per_by_decay"] for row in rows] + [None]
        sql = "select epoch, d.decay, d.per from epochs, unnest(per_by_decay) as u(d) order by d.per, epoch, d.decay"
        seen.append(query(tmp_path, sql).to_pylist())
    assert seen[0] == seen[1] and [row["per"] for row in seen[0]] == [0.3, 0.3, 0.4]


@pytest.mark.parametrize(
    "wrong", ["0.3", {"decay": 0.9}, [0.3], [{"decay": 0.9, "per": -1}], [{"decay": "x", "per": 1}]]
)
def test_a_damaged_list_of_decays_is_left_out(studies: Any, tmp_path: Path, wrong: Any) -> None:
    """An epoch whose averages cannot be is told and left out; the others stay."""
    events = studies.trial(0, [0.5, 0.3])
    epochs = [event for event in events if event["event"] == "epoch"]
    epochs[0]["per_by_decay"] = wrong
    folder = studies.write_log(tmp_path / "wrong", [studies.started(), *events])
    tables, problems = load_tables(tmp_path)
    assert folder.name == "wrong" and tables["epochs"]["epoch"].to_pylist() == [2]
    assert any("per_by_decay" in problem for problem in problems)
