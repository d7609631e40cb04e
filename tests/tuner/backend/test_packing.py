"""How many trials a card should hold: measured for real on the cores of this machine, chosen, logged and kept."""

from __future__ import annotations

import dataclasses
import io
import multiprocessing
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from search_spaces import InputError, load_run, load_space
from search_spaces.config import RunConfig
from trainable.data.dataset import open_dataset
from tuner.backend import packing, worker
from tuner.backend.packing import Packing, best_packing, measure, measured_config
from tuner.commands.options import CardShare
from tuner.launch import search as launch
from tuner.launch import sharing
from tuner.launch.new_study import merged_resources
from tuner.study.faults import fault_of
from tuner.study.request import Request
from tuner.study.settings import StudyResources


def row(count, rate, fits=True):
    """What was measured for `count` trials: `rate` trials an hour in all."""
    return Packing(count, fits, rate / 10 if fits else None, rate if fits else None, 100.0 if fits else None)


def test_the_fastest_packing_that_fits_is_chosen():
    """Most trials an hour; a count that ran out of memory is never chosen; a gain under 5 % is no reason for more."""
    assert best_packing([row(1, 10), row(2, 18), row(4, 30), row(8, 29)]).count == 4
    assert best_packing([row(1, 10), row(2, 18), row(4, 0, fits=False)]).count == 2
    assert best_packing([row(1, 10), row(2, 10.4)]).count == 1
    assert best_packing([row(1, 10), row(2, 10.4), row(4, 10.8)]).count == 4


@given(st.lists(st.tuples(st.floats(0.1, 1e4), st.booleans()), min_size=0, max_size=6), st.randoms())
def test_no_other_packing_is_worth_more(rates, random):
    """Whatever was measured, in any order: nothing that fits beats the choice by 5 %, nothing smaller reaches it."""
    rows = [row(1, 1.0), *(row(2 + i, rate, fits) for i, (rate, fits) in enumerate(rates))]
    random.shuffle(rows)
    best = best_packing(rows)
    assert best.fits
    for each in rows:
        if each.fits:
            assert each.trials_per_hour <= 1.05 * best.trials_per_hour
            assert each.count >= best.count or each.trials_per_hour < best.trials_per_hour


@pytest.fixture(scope="module")
def measured(tiny_data, real_space):
    """One and two processes, measured."""
    config = load_run(str(real_space.parent / "real.yaml"), ["training.device=cpu"]).config
    heard = []
    return config, measure(config, tiny_data, (1, 2), batches=3, progress=heard.append), heard


def test_processes_train_at_the_same_time(measured):
    """Each count has its rates and memory; a trial takes its batches and its evaluations, so hours follow from both."""
    config, rows, heard = measured
    assert [r.count for r in rows] == [1, 2] and heard == rows
    for r in rows:
        assert r.fits and r.error is None and r.peak_memory_mb > 50
        steps_alone = 3600 * r.batches_per_second / config.training.batches
        assert 0 < r.trials_per_hour < steps_alone  # evaluation takes time too


def test_the_table_shows_each_packing():
    """Counts, rates and gains; what does not fit is said in words."""
    console = Console(width=100, file=io.StringIO())
    console.print(packing.table([row(1, 20), row(2, 30), row(4, 0, fits=False)], "on a card"))
    lines = [line.replace("│", " ").split() for line in console.file.getvalue().splitlines() if "│" in line]
    assert lines == [
        ["1", "2.00", "20.00", "1.00", "100"],
        ["2", "3.00", "30.00", "1.50", "100"],
        ["4", "does", "not", "fit"],
    ]


def test_what_does_not_train_alone_is_one_line(tmp_path, measured):
    """Data that are not there end the measurement with the reason, in one line, and leave no process behind."""
    with pytest.raises(InputError, match=r"does not train in 1 processes at once: .*nowhere") as caught:
        measure(measured[0], tmp_path / "nowhere", (1, 2), batches=1)
    assert len(caught.value.problems) == 1
    assert not multiprocessing.active_children()


def test_a_process_that_dies_lets_the_others_go():
    """One pipe ends without a word, as when the system kills for memory: who waits at the barrier is released."""
    barrier = threading.Barrier(2)
    said = []

    def waits(writer):
        try:
            barrier.wait(600)
        except threading.BrokenBarrierError:
            said.append("released")
            writer.send({"error": ""})

    (dead, its_end), (alive, writer) = (multiprocessing.Pipe(duplex=False) for _ in range(2))
    thread = threading.Thread(target=waits, args=(writer,))
    thread.start()
    its_end.close()
    answers = packing._answers([dead, alive], barrier)
    thread.join()
    assert said == ["released"]
    assert sorted(a["error"] for a in answers) == ["", "a process died; a likely reason is that memory was full"]


@pytest.mark.parametrize("averaging", ["none", "ema", "swa"])
def test_the_measured_configuration_does_the_same_work(averaging):
    """Model, batches, precision and averaging are the trial's; only the rate and the length differ."""
    changes = [f"averaging.kind={averaging}"]
    changes += ["averaging.start_batch=200", "averaging.lr=0.01"] if averaging == "swa" else []
    config = load_run("small", changes).config
    short = measured_config(config, 7)
    assert RunConfig.model_validate(short.model_dump()) == short
    assert (short.training.batches, short.training.batches_per_epoch) == (14, 7)
    assert (short.model, short.data, short.augmentation, short.optimizer) == (
        config.model, config.data, config.augmentation, config.optimizer,
    )  # fmt: skip
    assert short.averaging.kind == averaging and short.training.precision == config.training.precision
    assert getattr(short.averaging, "start_batch", 0) == 0  # its evaluation is measured


@pytest.mark.parametrize(
    ("changes", "share", "graphs"),
    [
        ([], 1.0, "on"),
        (["model.hidden=1024", "training.precision=bf16"], 1.0, "on"),
        (["model.hidden=1024", "training.precision=bf16"], 0.25, "off"),
        (["training.batches=200"], 1.0, "off"),
        (["training.graphs=off"], 1.0, "off"),
    ],
    ids=str,
)
def test_what_is_measured_computes_as_the_whole_run_will(changes, share, graphs):
    """With CUDA graphs where the run, as long as it is, would have them, though the measured one is short."""
    config = load_run("small", ["training.batches=5000", *changes]).config
    assert measured_config(config, 7, share).training.graphs == graphs


@pytest.mark.parametrize(("text", "value"), [("auto", "auto"), ("0.25", 0.25), ("0", 0.0), ("2", 2.0)])
def test_the_option_takes_a_number_or_auto(text, value):
    """`--gpus-per-trial` is a share of a card or the word."""
    assert CardShare().convert(text, None, None) == value


@pytest.mark.parametrize("text", ["some", "-1", "nan", "inf", "Auto", ""])
def test_the_option_refuses_anything_else(text, cli, tiny_data, real_space):
    """One line that says what is allowed, and exit status 2."""
    with pytest.raises(click.BadParameter):
        CardShare().convert(text, None, None)
    said = cli("search", real_space, "--data", tiny_data, "--gpus-per-trial", text)
    assert said.status == 2 and "give a number from 0 on, such as 0.25, or auto" in said.err


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a card")
def test_auto_without_a_card_is_one_line(cli, tiny_data, real_space, tmp_path):
    """Nothing is measured or left behind: a line and exit status 2."""
    said = cli("search", real_space, "--data", tiny_data, "--gpus-per-trial", "auto", "--results", tmp_path / "r")
    assert said.status == 2
    assert (
        said.err.strip() == "error: --gpus-per-trial auto: there is no CUDA GPU on this machine; leave the option out"
    )
    assert not (tmp_path / "r").exists()


def test_auto_belongs_to_searches(cli, tiny_data, tmp_path):
    """A plan's runs differ in size, so its cards are not measured; nor does one machine speak for a cluster."""
    said = cli("lineage", "--data", tiny_data, "--gpus-per-trial", "auto", "--results", tmp_path)
    assert said.status == 2 and "only 'tuner search' measures it" in said.err
    request = Request(tmp_path, tiny_data, gpus_per_trial="auto", address="auto")
    with pytest.raises(InputError, match="a cluster's GPUs cannot be measured"):
        sharing.measured_share(load_run("small").config, request, "")
    with pytest.raises(InputError, match="trains on the CPU"):
        sharing.measured_share(load_run("small", ["training.device=cpu"]).config, Request(tmp_path, tiny_data), "")


@pytest.fixture
def two_cards(monkeypatch):
    """A machine that says it has two cards and eight cores; what is measured is made up."""
    asked = []

    def measure(config, data, counts, cpus):
        asked.append(SimpleNamespace(config=config, counts=counts, cpus=cpus))
        rates = {1: 10.0, 2: 18.0, 4: 30.0, 8: 40.0}
        return [row(count, rates[count]) for count in counts]

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a card")
    monkeypatch.setattr(sharing.os, "sched_getaffinity", lambda _: range(8))
    monkeypatch.setattr(packing, "measure", measure)
    return asked


def test_a_search_measures_its_largest_configuration_and_logs_it(
    two_cards, monkeypatch, cli, tiny_data, real_space, tmp_path
):
    """No more at once than there are cores for; the settings keep share and rows."""
    ran = []
    monkeypatch.setattr(launch, "_run", lambda folder, request, settings, notes: ran.append(settings) or 0)
    arguments = ("search", real_space, "--data", tiny_data, "--results", tmp_path, "--gpus-per-trial", "auto")
    said = cli(*arguments)
    assert said.status == 0
    (asked,) = two_cards
    assert asked.counts == [1, 2, 4]  # eight cores for two cards
    assert asked.config.model == sharing.largest(load_space(real_space), [], open_dataset(tiny_data)).model
    resources = ran[0].resources
    assert resources.gpus_per_trial == 0.25 and resources.cpus_per_trial == 1.0
    assert [r["count"] for r in resources.packing] == [1, 2, 4]
    assert resources.packing[2]["trials_per_hour"] == 30.0
    assert "chosen: --gpus-per-trial 0.25, 4 on a GPU" in said.err and "30.00" in said.err
    cli(*arguments, "--concurrent", 3, "--cpus-per-trial", 0.5)
    assert two_cards[1].counts == [1, 2] and two_cards[1].cpus == 0.5


def test_what_was_measured_is_remembered_for_data_model_and_card(two_cards, monkeypatch, tiny_data, tmp_path, capsys):
    """The second search of the same does not measure; another card, other data or another model does."""
    config, request = load_run("small").config, Request(tmp_path, tiny_data)
    first = sharing.measured_share(config, request, "data")
    assert sharing.measured_share(config, request, "data") == first and len(two_cards) == 1
    assert "measured 20" in capsys.readouterr().err
    sharing.measured_share(config, request, "other data")
    sharing.measured_share(load_run("small", ["model.hidden=9"]).config, request, "data")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "another card")
    sharing.measured_share(config, request, "data")
    assert len(two_cards) == 4
    (tmp_path / sharing.REMEMBERED).write_text("half a fi")
    assert sharing.measured_share(config, request, "data") == first


def test_the_largest_that_a_space_can_draw_is_measured(tiny_data, tmp_path):
    """A wide model in large batches, whatever the start point is."""
    path = tmp_path / "s.yaml"
    path.write_text(
        "base: quickstart\nstart_points: [quickstart]\ndimensions: {model.hidden: {choice: [8, 512]}, "
        "training.batch_size: {choice: [4, 64]}}\nbudget: {trials: 4}\n"
    )
    found = sharing.largest(load_space(path), [], open_dataset(tiny_data))
    assert (found.model.hidden, found.training.batch_size) == (512, 64)


@pytest.mark.parametrize(
    ("given", "card", "measures"),
    [({}, True, True), ({}, False, False), ({"gpus_per_trial": 0.5}, True, False), ({"address": "auto"}, True, False),
     ({"gpus_per_trial": "auto"}, False, True)],
)  # fmt: skip
def test_where_a_card_is_the_share_is_measured_without_being_asked(monkeypatch, real_space, given, card, measures):
    """Not on a cluster, and not where a number is given."""
    monkeypatch.setattr(Path, "glob", lambda self, pattern: iter([Path("/dev/nvidia0")] if card else []))
    space = load_space(real_space)
    assert sharing.wanted(space, Request(Path("r"), Path("d"), **given)) is measures


def test_a_plan_says_how_many_share_a_card_and_the_search_takes_it_over(
    two_cards, monkeypatch, cli, tiny_data, real_space, tmp_path
):
    """What the plan measures is remembered: the search after it does not measure again."""
    from tuner.commands import plan

    monkeypatch.setattr(plan, "measured", lambda *_: 0.1)
    monkeypatch.setattr(sharing, "wanted", lambda space, request: request.gpus_per_trial in (None, "auto"))
    monkeypatch.setattr(plan, "fitting", lambda resources: int(2 / resources.gpus_per_trial))
    said = cli("plan", real_space, "--data", tiny_data, "--results", tmp_path)
    assert said.status == 0 and "chosen: --gpus-per-trial 0.25, 4 on a GPU" in said.err
    assert "with 6 at once" in said.out  # of 8 that would fit on two cards, all trials
    monkeypatch.setattr(launch, "_run", lambda folder, request, settings, notes: 0)
    again = cli("search", real_space, "--data", tiny_data, "--results", tmp_path)
    assert again.status == 0 and "chosen: --gpus-per-trial 0.25" in again.err and len(two_cards) == 1


@pytest.mark.gpu
def test_a_full_card_is_a_fault_of_memory(tmp_path, tiny_data):
    """A trial that does not fit into its share of a real card fails for memory, so that it is tried again alone."""
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA card")
    changes = ["model.hidden=2048", "model.layers=5", "training.batch_size=64", "training.device=cuda"]
    code = (
        "import sys\nfrom pathlib import Path\nfrom search_spaces import load_run\n"
        "from tuner.backend.worker import take_share\nfrom trainable import train\n"
        "from trainable.data.dataset import open_dataset\n"
        "take_share(1.0, 0.005)\n"
        "next(iter(train(load_run('small', sys.argv[2:]).config, open_dataset(Path(sys.argv[1])))))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tiny_data), *changes], capture_output=True, text=True)
    assert done.returncode == 1 and fault_of(done.stderr).kind == "memory", done.stderr


def test_a_budget_under_one_measured_trial_is_one_line(two_cards, cli, tiny_data, real_space, tmp_path):
    """Four at once that end 30 in an hour take 0.133 hours each, 0.033 of a card: less is refused before it begins."""
    arguments = ("search", real_space, "--data", tiny_data, "--results", tmp_path, "--gpus-per-trial", "auto")
    for option, value, cost in (("--gpu-hours", 0.03, "0.0333"), ("--hours", 0.1, "0.133")):
        said = cli(*arguments, option, value)
        assert said.status == 2
        assert f"error: {option} {value}: is not enough for one trial, which takes {cost}; give more" in said.err
    assert not any(path.is_dir() for path in tmp_path.iterdir() if path.name != sharing.REMEMBERED)


def test_a_search_that_cannot_run_measures_nothing(two_cards, cli, tiny_data, real_space, tmp_path):
    """What else is wrong with the request is said before minutes are spent on measuring."""
    said = cli("search", real_space, "--data", tiny_data, "--results", tmp_path, "--gpus-per-trial", "auto",
               "--notify", "https://", "--notify-on", "nonsense")  # fmt: skip
    assert said.status == 2 and not two_cards


def test_a_resumed_study_keeps_what_was_chosen():
    """With auto or nothing said, the share and its measurement stay; a number replaces the share."""
    before = StudyResources(cpus_per_trial=1.0, gpus_per_trial=0.25, concurrent=None, packing=[row(4, 30).as_dict()])
    request = Request(Path("r"), Path("d"))
    for given_share in (None, "auto"):
        assert merged_resources(dataclasses.replace(request, gpus_per_trial=given_share), before) == before
    assert merged_resources(dataclasses.replace(request, gpus_per_trial=0.5), before) == before.changed(
        {"gpus_per_trial": 0.5}
    )


@pytest.mark.parametrize(("gpus", "capped"), [(0.25, [0.25]), (1.0, []), (2.0, []), (0.0, [])])
def test_a_worker_keeps_to_its_share_of_the_memory(monkeypatch, gpus, capped):
    """Several trials on a card each have their share of its memory; a trial alone on cards has all of it."""
    from trainable.data import batches

    told = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", told.append)
    monkeypatch.setattr(batches, "_card_share", 1.0)
    worker.take_share(1.0, gpus)
    assert told == capped
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (70e9, 80e9))
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 1e9)
    # Data are kept on the card only if they fit into the share, whatever else is free there.
    assert batches.room_on_card(torch.device("cuda")) == (19e9 if capped else 70e9)


@pytest.mark.ray
def test_half_cards_hold_four_trials_on_two(toy, warm_python, monkeypatch):
    """A Ray that counts with two cards runs four trials of half a card at the same time, two on each."""
    from tuner.backend import ray_backend

    def meets(job, place):
        import os
        import time
        from pathlib import Path

        Path(place.folder, f"card{os.environ['CUDA_VISIBLE_DEVICES']}-{job.trial}").touch()
        end = time.monotonic() + 600
        while len(list(Path(place.folder).glob("card*"))) < 4:
            assert time.monotonic() < end, "four trials never ran at the same time"
            time.sleep(0.05)
        while True:
            yield curve(job.config, job.config.epochs)

    monkeypatch.setattr(sys, "executable", warm_python)  # Ray starts its workers with it
    curve = toy.curve
    resources = ray_backend.Resources(cpus_per_trial=0.5, gpus_per_trial=0.5)
    try:
        limit = ray_backend.start_ray(None, 2, resources, gpus=2)
        assert limit == 4
        study = toy.create("cards", budget={"trials": 4, "hours": None}, stopping={"kind": "none"})
        assert ray_backend.run(study, toy.folder, resources, limit, meets) == "budget"
        study.close()
    finally:
        ray_backend.stop_ray()
    _, _, ends = toy.decisions("cards")
    assert ends == dict.fromkeys(range(4), "completed")
    assert sorted(p.name[:5] for p in (toy.folder / "cards").glob("card*")) == ["card0", "card0", "card1", "card1"]


SCRIPT = """
print("begun")
from pathlib import Path
from search_spaces import load_run
from tuner.backend.packing import measure

config = load_run({run!r}, ["training.device=cpu"]).config
print("fits:", measure(config, Path({data!r}), (1,), batches=3)[0].fits)
"""


def test_a_script_without_a_guard_measures(tmp_path, tiny_data, real_space):
    """`tuner.search(..., gpus_per_trial="auto")` works in a script without `if __name__ == "__main__"`: the processes
    that train do not run the script again.
    """
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(run=str(real_space.parent / "real.yaml"), data=str(tiny_data)))
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.stdout.split("\n")[:2] == ["begun", "fits: True"], done.stderr
    assert done.stdout.count("begun") == 1
