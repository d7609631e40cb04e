"""The report's numbers and words, without a browser: what it says of ordinary and of odd studies, and its size."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from results.best import best
from results.report import Extras, averaged, load, render, started_with, write
from results.report.answers import days, importance, phonemes
from results.report.axes import duration, log_ticks, plain_ticks, unit_of, whole_axis
from results.report.facts import Facts, ReportCurve, spent, thinned
from results.report.head import studies as overview
from results.report.plots import best_over_hours, best_over_trials, learning_curves
from results.report.runs import timeline
from results.report.searched import parallel, settings, slices
from search_spaces.errors import InputError


@pytest.fixture
def report(studies: Any, tmp_path: Path) -> Any:
    """Makes the page about studies given as name=events."""

    def make(extras: dict[str, Extras] | None = None, /, **logs: list[dict[str, Any]]) -> str:
        for name, events in logs.items():
            studies.write_log(tmp_path / name, [studies.started(study=name), *events])
        return render(load(tmp_path, list(logs)), best(tmp_path, list(logs)), extras or {})

    return make


def facts(count: int, epochs: int = 3, hosts: int = 1) -> Facts:
    """A study of `count` completed trials, trial 0 the best, a minute an epoch on `hosts` machines."""
    about = {"space_definition": None, "gpus_per_trial": 0.5, "status": "completed"}
    rows, curves = [], {}
    for n in range(count):
        per = 0.2 + 0.5 * n / count + 0.3 / np.arange(1, epochs + 1)
        when = 1.7e9 + 60.0 * (n * epochs + np.arange(1, epochs + 1))
        curves[n] = ReportCurve(np.arange(1, epochs + 1), per, per + 0.01, np.full(epochs, 60.0), when)
        rows.append({"trial": n, "status": "completed", "best_per": float(per[-1]), "epochs": epochs})
        rows[-1] |= {"schedule_peak_lr": 10 ** (-4 + 2 * n / count), "model_dropout": 0.1, "host": f"h{n % hosts}"}
        rows[-1] |= {"started": None, "ended": None, "best_epoch": epochs, "gpu_seconds": 30.0 * epochs}
        rows[-1] |= {"origin": "searched"}
    return Facts("s", about, rows, curves, [1])


def test_epochs_and_hours_saved_are_those_the_stopped_trials_had_before_them(studies: Any, tmp_path: Path) -> None:
    """Two of three epochs saved at 4 s of GPU each; a failed trial saves nothing."""
    config = studies.config(training_batches=300) | {"training": {"batches": 300, "batches_per_epoch": 100}}
    events = studies.trial(0, [0.9, 0.5, 0.3], config=config)
    events += studies.trial(1, [0.95], config=config, status="stopped", gpu_seconds=4.0)
    events += studies.trial(2, [0.95], config=config, status="failed")
    studies.write_log(tmp_path / "a", [studies.started(), *events])
    [one] = load(tmp_path, ["a"])
    used = spent(one)
    assert (used.epochs, used.saved, used.planned) == (5, 2, 7)
    assert used.seconds == pytest.approx(2 + 4 + 2)
    assert used.seconds_saved == pytest.approx(8)


def test_a_stop_by_hand_saves_nothing(studies: Any, tmp_path: Path) -> None:
    """Somebody stopped one trial while it ran and one while it was paused: no rule saved their epochs."""
    config = studies.config(training_batches=300) | {"training": {"batches": 300, "batches_per_epoch": 100}}
    running = studies.trial(0, [0.9], config=config, status="stopped")
    running[1] |= {"decision": "stop", "reason": "stopped by hand"}
    paused = studies.trial(1, [0.9], config=config, status="stopped", error="stopped by hand")
    studies.write_log(tmp_path / "a", [studies.started(), *running, *paused])
    [one] = load(tmp_path, ["a"])
    assert (spent(one).saved, spent(one).seconds_saved) == (0, 0)


def test_a_page_of_an_empty_study_says_so(report: Any) -> None:
    """A study that has not started a trial is no error."""
    page = report(a=[])
    assert "no trials yet" in page and "none started" in page
    assert "<figure" not in page


def averaged_trial(studies: Any, number: int, **by_epoch: Any) -> list[dict[str, Any]]:
    """A trial of two epochs; the first evaluates all of its averages, the second one of them."""
    full = {"per": 0.30, "per_raw": 0.34, "per_halves": 0.31, "average": "0.99", "per_by_decay": [
        {"decay": 0.9, "per": 0.32}, {"decay": 0.99, "per": 0.30}]}  # fmt: skip
    part = {"per": 0.28, "per_raw": 0.28, "per_halves": 0.28, "average": "raw", "per_by_decay": [
        {"decay": 0.99, "per": 0.29}]}  # fmt: skip
    rows = iter([full | by_epoch.get("full", {}), part])
    events = studies.trial(number, [0.3, 0.28])
    return [event | next(rows) if event["event"] == "epoch" else event for event in events]


def test_averages_are_compared_within_trials(report: Any, studies: Any, tmp_path: Path) -> None:
    """Each decay against the raw weights and the decay before it, at an epoch with all of them, and the luck."""
    other = {"per_raw": 0.30, "per_halves": 0.33, "per_by_decay": [
        {"decay": 0.9, "per": 0.32}, {"decay": 0.99, "per": 0.34}]}  # fmt: skip
    page = report(a=[*averaged_trial(studies, 0), *averaged_trial(studies, 1, full=other), *studies.trial(2, [0.5])])
    [one] = load(tmp_path, ["a"])
    assert [trial.trial for trial in one.averaged] == [0, 1]
    assert averaged.table(one) == [
        ["raw", "2", "1", "", ""],
        ["0.9", "2", "0", "0.0000 \u00b1 0.0200", ""],
        ["0.99", "2", "1", "0.0000 \u00b1 0.0400", "0.0000 \u00b1 0.0200"],
    ]
    assert [trial.luck for trial in one.averaged] == pytest.approx([0.01, 0.03])
    assert "higher by 0.0200 on average over 2 trials" in page and "PER by decay, within trials" in page
    assert "Averages of the weights" not in report(b=[*studies.trial(0, [0.5])])


def test_a_page_of_failures_lists_them_and_draws_no_curve(report: Any, studies: Any) -> None:
    """Where nothing reported a PER there are the errors, and no best configuration."""
    page = report(
        a=[*studies.trial(0, [], status="failed", error="no GPU"), *studies.trial(1, [None], status="diverged")]
    )
    assert "no trial has reported a PER" in page and "no GPU" in page
    assert "Best configuration as a run file" not in page
    assert "Workers" in page


def test_a_page_of_one_trial_has_its_curve(report: Any, studies: Any) -> None:
    """One trial has no importance and no slices, and everything else."""
    page = report(a=studies.trial(0, [0.9, 0.4]))
    assert ">Learning curves<" in page and "0.4000" in page
    assert "raw weights" not in page  # nobody averages
    assert "All settings side by side" not in page


def test_recorded_runs_without_epochs_have_a_table_and_no_curves(report: Any, studies: Any) -> None:
    """A hand-kept history has results but no epochs; the page says that."""
    events = []
    for number, rate in enumerate((0.02, 0.01, 0.05)):
        config = studies.config(schedule_peak_lr=rate)
        events += studies.trial(number, [], origin="recorded", config=config)
        events[-1] |= {"best_per": 0.2046 + rate, "last_per": 0.21 + rate}
    page = report(a=events)
    assert "No epochs were recorded" in page
    assert "Settings against PER" in page and "0.2146" in page


def test_two_studies_share_the_table_and_have_a_row_and_a_chapter_each(report: Any, studies: Any) -> None:
    """The table of studies links to their chapters, and the page's own links are one for each, not one a section."""
    page = report(a=studies.trial(0, [0.9, 0.4]), b=studies.trial(0, [0.8, 0.3]))
    nav = re.search(r"<nav.*?</nav>", page, re.DOTALL).group()
    assert re.findall(r">([^<]+)</a>", nav) == ["Best configurations", "Progress", "a", "b"]
    links = re.findall(r'<td><a href="#(s\d+)">(\w)</a>', page)
    assert [name for _, name in links] == ["a", "b"]
    for place, name in links:
        assert f'<section id="{place}"' in page and f">{name}</h2>" in page.split(f'id="{place}"')[1]
    figures = json.loads(re.search(r'id="figures">(.*?)</script>', page).group(1))
    assert [trace["name"] for trace in figures[0]["data"]] == ["a", "b"]


def test_the_answer_comes_first(report: Any, studies: Any) -> None:
    """The best configuration in a line, what is known of its lead, and the run file, folded."""
    events = studies.trial(0, [0.9, 0.4], config=studies.config(schedule_peak_lr=0.02))
    events += studies.trial(1, [0.9, 0.3], config=studies.config(schedule_peak_lr=0.01))
    page = report({"a": Extras(best_yaml="purpose: x\n")}, a=events)
    body = page[page.index('<main id="main">') :]
    answer = body[: body.index("<h2", body.index("<h2") + 1)]
    assert "Trial 1: PER 0.3000 at epoch 2" in answer and "peak_lr 1e-2" in answer
    assert "<details><summary>The whole configuration" in answer
    assert "/1" in answer  # the note on ties names it


def test_the_start_point_is_a_line_to_beat() -> None:
    """What the search set out from stands in the plot of the best so far."""
    one = facts(10)
    one.trials[4]["origin"] = "start_point"
    (line,) = [trace for trace in best_over_trials([one]).data if trace["name"].startswith("start point")]
    assert set(line["y"]) == {one.trials[4]["best_per"]}


def test_studies_that_minimise_different_measures_are_drawn_by_their_per() -> None:
    """A validation loss of 2.5 beside PERs would flatten them; the table of studies says what it is."""
    short, whole = facts(4), facts(5)
    short.study, short.objective = "short", "best_val_loss"
    short.scores = {n: 2.5 + n for n in range(4)}
    panel = best_over_trials([short, whole])
    assert [max(trace["y"]) for trace in panel.data] == [one.trials[0]["best_per"] for one in (short, whole)]
    assert panel.layout["yaxis"]["title"]["text"] == "best PER"
    alone = best_over_trials([short])
    assert alone.layout["yaxis"]["title"]["text"] == "best val_loss" and max(alone.data[-1]["y"]) == 2.5
    rows = overview([short, whole], {"short": "a", "s": "b"})
    assert "2.5 (val_loss)" in rows and f"{whole.trials[0]['best_per']:.4f}</td>" in rows


def test_curves_are_clipped_to_the_leaders() -> None:
    """One trial that ends at a PER of 9 does not flatten the others, and the axis is logarithmic where PERs differ."""
    one = facts(30)
    one.curves[29].per[:] = 9.0
    panel = learning_curves(one, raw=False)
    assert panel.view is not None and panel.view[0] < one.curves[0].per.min() and panel.view[1] < 1.1
    assert not panel.logged
    one.curves[0].per[-1] = 0.05
    assert learning_curves(one, raw=False).logged


def test_small_panels_have_one_axis_and_a_line_at_the_best() -> None:
    """A dot at a height means the same PER in every panel."""
    panels = slices(facts(30))
    assert len({json.dumps(panel.layout["yaxis"]) for panel in panels}) == 1
    assert all(set(panel.data[0]["y"]) == {facts(30).trials[0]["best_per"]} for panel in panels)


def test_what_is_not_set_has_a_lane_of_its_own() -> None:
    """Left of every value, named, and every trial is drawn."""
    one = facts(10)
    for row in one.trials[:5]:
        row["schedule_peak_lr"] = None
    (panel,) = slices(one)
    axis, x = panel.layout["xaxis"], panel.data[1]["x"]
    ticks = dict(zip(axis["ticktext"], axis["tickvals"], strict=True))
    assert len(x) == 10 and x[:5] == [ticks["not set"]] * 5 and min(x[5:]) > ticks["not set"]


def test_a_setting_with_one_value_is_left_out() -> None:
    """Where a setting is either one value or not set, it says nothing."""
    one = facts(10)
    for row in one.trials:
        row["model_dropout"] = 0.1 if row["trial"] % 2 else None
    assert [setting.header for setting in settings(one)] == ["peak_lr"]


def test_a_click_can_find_a_trial_in_every_plot() -> None:
    """Points and lines of trials carry their trial's number, one for each point."""
    one = facts(30)
    for panel in (best_over_trials([one]), learning_curves(one, raw=False), *slices(one)):
        assert panel.study == "s"
        named = [trace for trace in panel.data if "customdata" in trace]
        assert named and all(len(trace["customdata"]) == len(trace["x"]) for trace in named)
    lines = parallel(one)
    assert lines is not None and lines.data[0]["meta"]["trials"] == list(range(30))


def test_labels_of_parallel_coordinates_have_room() -> None:
    """The longest name at the first axis is whole, and lies within the margin."""
    one = facts(10)
    for row in one.trials:
        row["schedule_kind"] = ("warmup_cosine", "linear")[row["trial"] % 2]
        row["schedule_peak_lr"] = row["model_dropout"] = 0.1
    panel = parallel(one)
    assert panel is not None
    assert panel.data[0]["dimensions"][0]["ticktext"] == ["linear", "warmup_cosine"]
    assert panel.layout["margin"]["l"] > 6 * len("warmup_cosine")


def test_importance_names_stand_above_the_bars() -> None:
    """So a phone's width is the bars'."""
    rows = [{"path": "schedule.peak_lr", "ped_anova": 0.6, "fanova": 0.5, "chance": 0.2, "active": "a = b"}]
    panel = importance(facts(3), Extras(importance=rows))
    assert panel is not None
    assert panel.layout["annotations"][0]["text"] == "<b>peak_lr</b> <i>if a = b</i>"
    assert panel.layout["yaxis"]["showticklabels"] is False


def test_errors_of_the_best_by_phoneme_and_day() -> None:
    """The most wrong first; a single day is no comparison."""
    base = {"substituted": 1, "deleted": 0, "inserted": 0, "wrong": 1, "said": 4, "heard": "T"}
    rows = [{"phoneme": "AA", **base}, {"phoneme": "D", **base, "substituted": 3, "wrong": 3}]
    found = {"about": "x.", "per": 0.3, "phonemes": rows, "days": [{"day": "d1", "per": 0.3, "utterances": 2}]}
    panel = phonemes(found)
    assert panel is not None and panel.data[0]["x"] == ["D", "AA"]
    assert "75.0% of 4 said" in panel.data[0]["text"][0] and "read as T" in panel.data[0]["text"][0]
    assert days(found) is None
    assert days({**found, "days": found["days"] * 2}) is not None


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.5, "0.5 s"), (76, "1 min 16 s"), (3600, "1 h"), (12_030, "3 h 20 min"), (188_000, "2 d 4 h"), (59.7, "1 min")],
)
def test_time_is_said_as_a_person_says_it(seconds: float, said: str) -> None:
    """In the two largest units."""
    assert duration(seconds) == said


@given(most=st.integers(1, 5000))
def test_trials_and_epochs_have_whole_ticks(most: int) -> None:
    """No tick between two trials, and not more than ten of them."""
    axis = whole_axis("trials", most)
    assert axis["dtick"] == int(axis["dtick"]) >= 1 and most / axis["dtick"] <= 10


@given(low=st.floats(-1e3, 1e3), width=st.floats(1e-3, 1e3))
def test_plain_ticks_are_few_and_inside(low: float, width: float) -> None:
    """At most six, in order, none outside."""
    ticks = plain_ticks(low, low + width)
    assert ticks == sorted(ticks) and len(ticks) <= 6
    assert all(low - 1e-3 * abs(low) - 1e-6 <= tick <= low + width + 1e-3 * abs(low) + 1e-6 for tick in ticks)


def test_the_page_fetches_nothing(report: Any, studies: Any) -> None:
    """No element has an address outside the page, and the page forbids the browser to fetch any."""
    page = report(a=studies.trial(0, [0.9, 0.4]))
    markup = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r'(src|href)="(?!#|data:)', markup)
    assert "default-src 'none'" in markup


def test_the_same_study_gives_the_same_page(report: Any, studies: Any) -> None:
    """But for the minute it was made in, nothing differs: a page can be compared with an older one."""
    made = [report(a=studies.trial(0, [0.9, 0.4])) for _ in range(2)]
    assert len({re.sub(r"Made .*? UTC|\d{13}", "", page) for page in made}) == 1


def test_only_a_served_page_asks_for_a_newer_one(studies: Any, tmp_path: Path) -> None:
    """The state is in the page's body when it is served, and nowhere in a file."""
    studies.write_log(tmp_path / "a", [studies.started()])
    read = load(tmp_path, ["a"]), best(tmp_path, ["a"]), {}
    assert '<body data-state="12.5">' in render(*read, "12.5")
    assert "<body>" in render(*read)


def test_two_thousand_trials_are_thinned_and_the_page_says_so() -> None:
    """Every plot of 2,000 trials holds a bounded number of points, the leaders among them, and tells how many."""
    big = facts(2000)
    curves = learning_curves(big, raw=False)
    assert "67 of 2000 curves" in curves.about
    assert [trace["name"] for trace in curves.data if trace["name"].startswith("trial")] == [
        f"trial {n}" for n in range(7)
    ]
    dots = best_over_trials([big])
    assert (
        sum(len(trace["x"]) for trace in dots.data if trace["mode"] == "markers") <= 1001
        and "of 2000 trials are drawn" in dots.about
    )
    lines = parallel(big)
    assert lines is not None and "400 of 2000" in lines.about
    assert all(len(panel.data[1]["x"]) == 600 for panel in slices(big))
    assert len(json.dumps([curves.data, dots.data, lines.data])) < 1_000_000


def test_the_band_holds_every_trial() -> None:
    """Thinned curves leave no trial outside: the band's edges are the lowest and the highest at each epoch."""
    big = facts(300)
    low, high = learning_curves(big, raw=False).data[:2]
    pers = np.array([curve.per for curve in big.curves.values()])
    assert low["y"] == pytest.approx(pers.min(axis=0), rel=1e-4)
    assert high["y"] == pytest.approx(pers.max(axis=0), rel=1e-4)


def test_time_is_summed_over_trials_as_time_of_cards() -> None:
    """Ten trials of three minutes on half a card are a quarter of an hour of GPU."""
    panel = best_over_hours([facts(10)])
    assert panel.layout["xaxis"]["title"]["text"] == "GPU-minutes of all trials"
    assert panel.data[0]["x"][-1] == pytest.approx(10 * 3 * 60 * 0.5 / 60)
    assert unit_of(7200.0) == ("hours", 3600.0) and unit_of(90.0)[0] == "seconds"
    assert panel.data[0]["y"][-1] == pytest.approx(0.3)


def test_trials_at_the_same_time_have_lines_of_their_own(studies: Any, tmp_path: Path) -> None:
    """Two trials that overlap on a machine do not lie on each other; one after them takes a free line."""
    first, second = studies.trial(0, [0.9, 0.5]), studies.trial(1, [0.9, 0.5])
    events = [first[0], second[0], *first[1:], *second[1:], *studies.trial(2, [0.9])]
    studies.write_log(tmp_path / "a", [studies.started(), *events])
    panel = timeline(load(tmp_path, ["a"])[0], 2e9)
    assert panel is not None
    assert panel.data[0]["y"] == [0, 0, None, 1, 1, None, 0, 0, None]


def test_a_setting_of_the_space_is_logarithmic_as_the_space_says() -> None:
    """Not as its values look: uniform samples near 0 spread over orders of magnitude too."""
    one = facts(50)
    space = {"dimensions": [{"path": "schedule.peak_lr", "kind": "uniform"}, {"path": "model.dropout", "kind": "int"}]}
    one.about["space_definition"] = json.dumps(space)
    assert [(setting.column, setting.log) for setting in settings(one)] == [("schedule_peak_lr", False)]


def test_settings_without_a_value_pass_below_the_others() -> None:
    """A conditional setting stays on its axis for trials that do not have it, marked as not set."""
    one = facts(10)
    for row in one.trials[:5]:
        row["schedule_peak_lr"] = None
    panel = parallel(one)
    assert panel is not None
    axis = panel.data[0]["dimensions"][0]
    assert axis["ticktext"][0] == "not set"
    assert axis["values"].count(min(axis["values"])) == 5


@given(count=st.integers(0, 300), keep=st.integers(0, 40), others=st.integers(0, 40))
def test_thinning_keeps_the_best_and_the_order(count: int, keep: int, others: int) -> None:
    """The best come first, whole; the others are no more than asked for, in order, each once."""
    rows = [{"n": n} for n in range(count)]
    kept = [row["n"] for row in thinned(rows, keep, others)]
    assert kept[:keep] == list(range(min(keep, count)))
    assert kept == sorted(set(kept))
    assert len(kept) <= keep + others or len(kept) == count
    assert len(kept) == min(count, keep + others)


@given(st.floats(1e-8, 1), st.floats(1, 1e6))
def test_a_logarithmic_axis_has_ticks_around_its_values(low: float, factor: float) -> None:
    """The ticks begin at or below the lowest value and end at or above the highest."""
    ticks = log_ticks(low, low * factor)
    assert ticks == sorted(ticks)
    assert ticks[0] <= low * (1 + 1e-9) and ticks[-1] >= low * factor * (1 - 1e-9)


def test_writing_leaves_the_old_page_where_the_new_one_cannot_be(tmp_path: Path) -> None:
    """A folder that does not exist is one line; nothing half-made is left beside a page that was written."""
    with pytest.raises(InputError, match="choose another place"):
        write(tmp_path / "none" / "report.html", "x")
    assert write(tmp_path / "report.html", "old") == 3
    assert write(tmp_path / "report.html", "newer") == 5
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_the_configuration_of_a_trial_is_that_of_its_first_start(studies: Any, tmp_path: Path) -> None:
    """A damaged line between is passed over; trials that are not wanted are not read."""
    folder = studies.write_log(tmp_path / "a", [studies.started(), *studies.trial(0, [0.9]), *studies.trial(1, [0.8])])
    with (folder / "events.jsonl").open("a") as log:
        log.write('{"event":"trial_started", half a li')
    assert list(started_with(tmp_path, "a", [1])) == [1]
    assert started_with(tmp_path, "a", [1])[1]["config"]["model"]["hidden"] == 128
