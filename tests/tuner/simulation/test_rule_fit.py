"""What a rule needs beside its decisions: that it fits the space, probes in the worker, its words for users."""

from __future__ import annotations

import json

import pytest

from search_spaces import InputError, load_run
from search_spaces.parsing.given import parse_settings
from search_spaces.stopping import STOPPING_KINDS, Stopping, rule_text
from tuner.simulation.rule_fit import check_fit
from tuner.study.rules.rungs import probe_epochs
from tuner.study.settings import StudyBudget

BUDGET = StudyBudget(trials=12)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("asha grace=9", "--stopping: grace: 9 is not allowed; the longest runs of toy have 9 epochs, so no trial "
         "would ever be compared; give 8 or less"),
        ("asha at=horizon grace=0.95", "grace: 0.95 of the horizon is not allowed; no run of toy is evaluated between "
         "there and its end; give less (such as 0.125), or a smaller training.batches_per_epoch"),
        ("median grace=12", "grace: 12 is not allowed; the longest runs of toy have 9 epochs"),
        ("hyperband brackets=6", "brackets: 6 is not allowed; the runs of toy have rungs for 2 and one without; "),
        ("one_epoch keep=12", "keep: 12 is not allowed with 12 trials, none would be stopped; give less than 12"),
        ("asha metric=probe", "metric: probe is not allowed with a rung after 2 batches: a probe there is too short; "
         "give a grace of 2 epochs or more"),
    ],
)  # fmt: skip
def test_a_rule_that_does_not_fit_the_space_is_one_line(toy, text, message):
    """What could never compare anybody, or not as it says, is refused before anything is spent."""
    with pytest.raises(InputError) as raised:
        check_fit(parse_settings(text, Stopping, "stopping"), toy.space, BUDGET, "--stopping")
    assert len(raised.value.problems) == 1
    assert message in str(raised.value)


@pytest.mark.parametrize("kind", list(STOPPING_KINDS))
def test_each_rule_by_its_name_alone_fits_an_ordinary_space(toy, kind):
    """The defaults of every kind are usable as they are."""
    check_fit(parse_settings(kind, Stopping, "stopping"), toy.space, BUDGET, "--stopping")


def test_one_epoch_needs_to_know_how_many_trials_there_will_be(toy):
    """The best k of all cannot be told while the number of trials is open."""
    with pytest.raises(InputError, match="the budget has no number of trials; give --trials"):
        check_fit({"kind": "one_epoch"}, toy.space, StudyBudget(trials=None, hours=1.0), "--stopping")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "asha at=horizon grace=1.5",
            "--stopping: grace: 1.5 is not allowed; give a fraction of the horizon from ",
        ),
        (
            "asha grace=0.5",
            "grace: 0.5 is not allowed; give a whole number of 1 or more, or at: horizon or at: area",
        ),
        ("asha reduction=1", "reduction: 1 is not allowed; give a number of 1.1 or more"),
        ("hyperband promote=true", "promote: unknown key (value true); "),
        ("median metric=probe", "metric: probe is not allowed; give per, per_raw or another measure"),
    ],
)
def test_settings_that_a_rule_does_not_take_are_one_line(text, message):
    """A wrong value or key says what is allowed."""
    with pytest.raises(InputError) as raised:
        parse_settings(text, Stopping, "stopping")
    assert message in str(raised.value)


@pytest.mark.parametrize(
    "text", ["none", "asha promote=true", "asha at=horizon grace=0.5 among=annealed", "hyperband", "median at=horizon"]
)
def test_a_rule_s_words_give_the_rule_again(text):
    """What is announced, and shown by status, can be given to --stopping."""
    rule = parse_settings(text, Stopping, "stopping")
    assert parse_settings(rule_text(rule), Stopping, "stopping") == rule


def test_the_rules_and_their_settings_are_listed(cli):
    """`tuner spaces rules` names every kind; with a kind, every setting with its default; a wrong one is one line."""
    listed = json.loads(cli("spaces", "rules", "--format", "json").out)
    assert [row["rule"] for row in listed] == list(STOPPING_KINDS)
    shown = {row["setting"]: row for row in json.loads(cli("spaces", "rules", "asha", "--format", "json").out)}
    assert shown["reduction"]["default"] == "3"
    assert all(row["what it does"] for row in shown.values())
    assert "next: tuner search" in cli("spaces", "rules", "none").out
    wrong = cli("spaces", "rules", "ahsa")
    assert wrong.status == 2
    assert "ahsa: there is no such stopping rule; did you mean asha? give asha, hyperband" in wrong.err


@pytest.fixture(scope="module")
def rows(real_space, tiny_data, tmp_path_factory):
    """`rows(probes, logged)`: what a worker reports of a run of three epochs of 4 batches."""
    from trainable.data.dataset import open_dataset
    from tuner.backend.worker import run_trial

    config = load_run(real_space.parent / "real.yaml", ["training.batches=12"]).config
    dataset = open_dataset(tiny_data)
    folder = tmp_path_factory.mktemp("trial")

    def run(name, probes=(), logged=0, epochs=3):
        attempt = run_trial(config, dataset, folder / name, epochs_logged=logged, probes=probes)
        return [next(attempt) for _ in range(epochs)]

    return run


def test_a_worker_makes_the_probes_it_is_asked_for_and_the_run_goes_on_untouched(rows):
    """The row of that epoch has the probe's PER, loss and batches, and its time; nothing else changes."""
    plain, probed = rows("plain"), rows("probed", probes=((2, 3),))
    keys = ("epoch", "batch", "per", "val_loss", "train_loss", "lr")
    assert [[row[key] for key in keys] for row in plain] == [[row[key] for key in keys] for row in probed]
    assert [row.get("probe_batches") for row in probed] == [None, 3, None]
    assert probed[1]["probe_per"] >= 0
    assert probed[1]["probe_val_loss"] > 0


def test_an_epoch_reported_again_after_a_crash_has_the_same_probe(rows):
    """The driver died between checkpoint and log: the epoch comes again with its probe, to the bit."""
    first = rows("again", probes=((2, 3),), epochs=2)[1]
    again = rows("again", probes=((2, 3),), logged=1, epochs=1)[0]
    assert again["epoch"] == 2
    assert (again["probe_per"], again["probe_val_loss"]) == (first["probe_per"], first["probe_val_loss"])


def test_probes_are_at_the_rule_s_rungs_and_a_share_of_the_batches_before(real_space):
    """A probe at each rung, of a quarter of what was trained, if the rule compares probes."""
    config = load_run(real_space.parent / "real.yaml").config
    rule = {"kind": "asha", "metric": "probe", "grace": 2, "reduction": 2}
    assert probe_epochs(rule, config) == ((2, 2), (4, 4), (8, 8))
    assert probe_epochs({**rule, "probe_share": 0.5}, config)[0] == (2, 4)
    assert probe_epochs({**rule, "metric": "per"}, config) == ()


def test_probes_are_counted_in_the_tables(toy):
    """A trial's batches are its own; those of its probes stand beside them; the rung holds the probe's PER."""
    from results.store import replay
    from results.store.events import read_events

    study = toy.create("s", stopping={"kind": "asha", "metric": "probe", "grace": 2}, searcher={"kind": "random"})
    job = study.ask()
    assert job.probes == ((2, 1), (6, 3))
    for epoch in range(1, 10):
        row = toy.curve(job.config, epoch)
        if batches := dict(job.probes).get(epoch):
            row |= {"probe_per": 0.5, "probe_val_loss": 1.0, "probe_batches": batches}
        study.report(job.trial, job.attempt, row)
    rung = next(iter(study.state.history.rungs.values()))
    assert rung.values == {0: (0.5, 1.0)}
    tables = replay.build(read_events(toy.folder / "s" / "events.jsonl")[0], running=False)
    (trial,) = tables["trials"].to_pylist()
    assert (trial["batches"], trial["probe_batches"]) == (18, 4)
    assert tables["epochs"]["probe_per"].to_pylist() == [None, 0.5, None, None, None, 0.5, None, None, None]
    assert tables["epochs"]["passed"].to_pylist()[1] is True
