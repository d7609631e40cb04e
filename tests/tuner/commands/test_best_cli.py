"""`tuner best` with its options, and `tuner importance`, over a study driven without workers."""

import itertools
import json

import pytest


@pytest.fixture(scope="module")
def studies(toys):
    """A results folder with the studies `one` and `two` of 24 and 6 trials."""
    for name, trials in (("one", 24), ("two", 6)):
        study = toys.create(name, study=name, budget={"trials": trials, "hours": None})
        assert toys.drive(study)
        study.close()
    return toys.folder


def rows(done):
    assert done.status == 0, done.err
    return json.loads(done.out)


def refused(done, *words):
    assert done.status == 2
    lines = done.err.splitlines()
    assert len(lines) == 1, done.err
    for word in words:
        assert word in lines[0]


def test_where_and_by_choose_and_order(cli, studies):
    """Only trials that meet the condition are shown, ordered by the column asked for, over all studies."""
    options = ("--results", studies, "--format", "json", "--top", 99)
    found = rows(cli("best", *options, "--where", "schedule_peak_lr < 0.05 and epochs >= 1", "--by", "last_per desc"))
    assert {row["study"] for row in found} == {"one", "two"}
    assert all(row["schedule_peak_lr"] < 0.05 and row["epochs"] >= 1 for row in found)
    last = [row["last_per"] for row in found]
    assert last == sorted(last, reverse=True)
    every = rows(cli("best", *options, "--by", "best_per desc"))
    assert len(found) < len(every) <= 30
    once = rows(cli("best", *options))  # a configuration that both studies tried has one rank
    assert len(once) <= len(every)
    assert len({tuple(row[name] for name in row if name.startswith("schedule_")) for row in once}) == len(once)


def test_group_by_shows_the_best_of_each(cli, studies):
    """One row for each value, with the lowest best_per that any trial of it has."""
    options = ("--results", studies, "--format", "json", "--top", 99)
    every = rows(cli("best", "one", *options))
    groups = rows(cli("best", "one", *options, "--group-by", "schedule_kind"))
    assert sorted(row["schedule_kind"] for row in groups) == ["constant", "one_cycle"]
    for group in groups:
        members = [row["best_per"] for row in every if row["schedule_kind"] == group["schedule_kind"]]
        assert group["best_per"] == min(members)
        assert group["trials"] == len(members)


def test_pareto_shows_what_no_other_beats(cli, studies):
    """No row of the front is at least as good in both columns as another row and better in one."""
    found = rows(cli("best", "one", "--results", studies, "--format", "json", "--pareto", "best_per,cpu_seconds"))
    points = [(row["best_per"], row["cpu_seconds"]) for row in found]
    assert len(points) > 1
    assert not any(a != b and a[0] <= b[0] and a[1] <= b[1] for a in points for b in points)


def test_columns_are_those_named(cli, studies):
    """--columns shows these configuration columns, patterns included, and no others."""
    found = rows(cli("best", "one", "--results", studies, "--format", "json", "--columns", "averaging_*, model_hidden"))
    names = [name for name in found[0] if name.split("_")[0] in ("averaging", "schedule", "model")]
    assert set(names) == {
        "averaging_kind", "averaging_decay", "averaging_decays", "averaging_warmup", "model_hidden",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--by", "bst_per", ("bst_per", "best_per")),
        ("--by", "status", ("status", "numbers")),
        ("--where", "schedul_kind = 'a'", ("schedul_kind", "schedule_kind")),
        ("--where", "1; drop table trials", ("where",)),
        ("--group-by", "schedule_knd", ("schedule_kind",)),
        ("--pareto", "best_per,cpu_secs", ("cpu_secs", "cpu_seconds")),
        ("--columns", "shedule_kind", ("schedule_kind",)),
    ],
)
def test_a_wrong_name_is_one_line_with_the_nearest(cli, studies, option, value, words):
    """Each option answers a name that is no column with one line that names the nearest."""
    refused(cli("best", "one", "--results", studies, option, value), *words)


def test_an_unknown_study_is_one_line_with_the_nearest(cli, studies):
    """A misspelt study is answered with the right name, by every command that takes one."""
    for command in (["best", "onee"], ["importance", "onee"], ["spaces", "narrow", "onee"], ["show", "onee", 0]):
        refused(cli(*command, "--results", studies), "onee", "one")


def test_groups_and_front_exclude_each_other(cli, studies):
    """--pareto with --group-by is a usage error."""
    done = cli("best", "one", "--results", studies, "--pareto", "best_per,epochs", "--group-by", "status")
    assert done.status == 2
    assert "not both" in done.err


def test_importance_has_a_row_for_each_dimension(cli, studies):
    """Every searched dimension is there, a conditional one named with its condition, and the rate is above chance."""
    found = rows(cli("importance", "one", "--results", studies, "--format", "json"))
    assert {row["path"] for row in found} == {
        "schedule.kind", "schedule.peak_lr", "schedule.end_lr", "averaging.kind", "averaging.decay",
    }  # fmt: skip
    active = {row["path"]: row["active"] for row in found}
    assert active["averaging.decay"] == "averaging.kind = ema"
    assert active["schedule.peak_lr"] == ""
    table = cli("importance", "one", "--results", studies).out
    assert "only where" in table
    assert "--partial" in table


def test_partial_dependence_counts_every_trial_once(cli, studies):
    """The bins hold all trials that have the setting; the rate's best bin is where the curves are best, at 0.01."""
    every = rows(cli("best", "one", "--results", studies, "--format", "json", "--top", 99))
    bins = rows(cli("importance", "one", "--results", studies, "--format", "json", "--partial", "schedule.peak_lr"))
    assert sum(row["trials"] for row in bins) == len(every)
    assert min(row["lowest"] for row in bins) == every[0]["best_per"]
    best = min(bins, key=lambda row: row["mean"])
    assert best["low"] <= 0.03 and best["high"] >= 0.003
    assert all(a["high"] <= b["low"] * (1 + 1e-9) for a, b in itertools.pairwise(bins))
    decays = rows(cli("importance", "one", "--results", studies, "--format", "json", "--partial", "averaging.decay"))
    ema = [row for row in every if row["averaging_kind"] == "ema"]
    assert sum(row["trials"] for row in decays) == len(ema)
    kinds = rows(cli("importance", "one", "--results", studies, "--format", "json", "--partial", "averaging_kind"))
    assert {row["value"]: row["trials"] for row in kinds} == {"ema": len(ema), "none": len(every) - len(ema)}


def test_partial_of_an_unknown_setting_names_the_nearest(cli, studies):
    """A setting without its section, or misspelt, is answered with the right one."""
    refused(cli("importance", "one", "--results", studies, "--partial", "peak_lr"), "schedule.peak_lr")
    refused(cli("importance", "one", "--results", studies, "--partial", "schedule.pek_lr"), "schedule.peak_lr")
    refused(cli("importance", "one", "--results", studies, "--partial", "status"), "status")
