"""`tuner runs`: list, show, diff and plot."""

from __future__ import annotations

import json
import re

import pytest

from search_spaces import load_run
from search_spaces.recorded import LINEAGE


def test_the_list_names_every_recorded_run_with_its_record(call):
    """All 23, oldest first, with the recorded PER and how much of each is assumed."""
    status, out, _ = call("runs")
    places = [re.search(rf"^{name} ", out, re.M).start() for name in LINEAGE]
    assert status == 0 and places == sorted(places)
    assert "0.2046" in out and "0.9111" in out


@pytest.mark.parametrize("name", LINEAGE)
def test_what_show_prints_is_a_run_file_with_the_same_configuration(call, name, tmp_path):
    """Saved and read again it is the same configuration, without a parent, with the same record and remarks."""
    status, out, _ = call("runs", "show", name)
    path = tmp_path / "mine.yaml"
    path.write_text(out)
    again, run = load_run(path), load_run(name)
    assert status == 0
    assert again.config == run.config and again.parent is None
    assert (again.recorded, again.remarks, again.purpose) == (run.recorded, run.remarks, run.purpose)


def test_show_says_what_differs_what_is_assumed_and_what_is_doubtful(call):
    """run16_5 by its comments: the parent's values, the reason of a guess, the record, the contradictions."""
    _, out, _ = call("runs", "show", "run16_5")
    assert "# run16_5, from run16_4" in out
    assert re.search(r"peak_lr: 0.001 +# run16_4: 0.0014", out)
    assert re.search(r"eps: 1.0e-08 +# assumed: not on the page", out)
    assert re.search(r"time_masks: 2 +# assumed \(run12_baseline_hybrid\)", out)
    assert "per_beam: 0.546" in out
    assert "EMA 0.999, the configuration 0.9995" in out


def test_show_names_the_settings_that_a_new_kind_lacks(call):
    """From cosine with EMA to SGDR with SWA: what went is told with its old value."""
    _, out, _ = call("runs", "show", "run18_long_sgdr_swa")
    assert "# without run16_5's decay: 0.9995" in out
    assert "period_batches: 4000  # run16_5: has none; assumed" in out


def test_show_as_json_has_the_same_facts(call):
    """For programs: configuration, changes, assumptions, record, remarks."""
    _, out, _ = call("runs", "show", "run16_5", "--format", "json")
    facts = json.loads(out)
    assert facts["changed"]["schedule.peak_lr"] == {"from": 0.0014, "to": 0.001}
    assert facts["config"]["averaging"] == {"kind": "ema", "decay": 0.9995, "decays": None, "warmup": False}
    assert facts["assumed"]["optimizer.eps"]["run"] == "run16_5"


def test_diff_lists_what_differs_and_nothing_else(call):
    """Three settings between run16_4 and run16_5; none between two runs made twice by mistake."""
    _, out, _ = call("runs", "diff", "run16_4", "run16_5", "--format", "json")
    assert json.loads(out) == [
        {"setting": "schedule.peak_lr", "run16_4": "0.0014", "run16_5": "0.001"},
        {"setting": "schedule.end_lr", "run16_4": "3.0e-06", "run16_5": "1.0e-07"},
        {"setting": "training.batches", "run16_4": "10000", "run16_5": "20000"},
    ]
    _, out, _ = call("runs", "diff", "run8_recovery", "run10_recovery")
    assert "have the same configuration" in out


def test_the_picture_has_a_labelled_line_for_every_different_schedule(call, tmp_path):
    """As SVG: each run is named, those with the same rates on one label, each line in its own colour and dash."""
    out = tmp_path / "rates.svg"
    status, said, _ = call("runs", "plot", "--out", out)
    drawing = out.read_text()
    assert status == 0 and "17 learning rates (23 runs" in said
    for name in LINEAGE:
        assert name in drawing
    assert "run16_greedy_ema_warmcos (PER 0.2095) = run16_2" in drawing


def test_labels_do_not_cover_each_other():
    """Of all 23 runs no label overlaps another or leaves the axes upwards or downwards."""
    from matplotlib.text import Annotation, Text

    from tuner.analysis.pictures import _draw, _lines

    figure = _draw(_lines({name: load_run(name).config for name in LINEAGE}))
    axes = figure.axes[0]
    renderer = figure.canvas.get_renderer()
    boxes = [Text.get_window_extent(t, renderer) for t in axes.texts if isinstance(t, Annotation)]
    assert len(boxes) == 17
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert all(axes.bbox.y0 < box.y0 and box.y1 < axes.bbox.y1 for box in boxes)
    looks = {(line.get_color(), str(line._dash_pattern)) for line in axes.lines}
    assert len(looks) == 17


def test_without_out_a_png_is_written_and_named(call, tmp_path, monkeypatch):
    """schedules.png in the working folder, for the runs that are named; a shared line is drawn once."""
    monkeypatch.chdir(tmp_path)
    status, said, _ = call("runs", "plot", "run16_5", "run18_long_sgdr_swa")
    assert status == 0 and said.startswith("wrote schedules.png: 2 learning rates;")
    assert (tmp_path / "schedules.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["schedules.png"]


def test_an_html_page_holds_the_drawing_itself(call, tmp_path):
    """One file that needs nothing else."""
    out = tmp_path / "rates.html"
    assert call("runs", "plot", "run16_5", "--out", out)[0] == 0
    page = out.read_text()
    assert page.startswith("<!doctype html>") and page.rstrip().endswith("</svg>") and "run16_5" in page


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("show", "run16_6"), "run16_6"),
        (("diff", "run16_5", "nothing"), "nothing"),
        (("plot", "--out", "rates.gif"), "rates.gif: the ending '.gif' is not allowed; give .png, .svg or .html"),
        (("plot", "--out", "missing/rates.png"), "missing/rates.png: the folder"),
    ],
)
def test_bad_input_is_one_line(call, arguments, line):
    """An unknown run, an unknown ending, a folder that does not exist."""
    status, out, error = call("runs", *arguments)
    assert (status, out) == (2, "")
    assert len(error.splitlines()) == 1 and line in error
