"""`tuner campaign`: its plan, what it refuses, and a whole one that is killed and gone on with."""

import json
import shutil
import signal

import pytest

from results.store.tables import load_tables
from results.test_uses import uses
from search_spaces import InputError
from tuner.campaign import record
from tuner.campaign.answer import goal
from tuner.campaign.record import Campaign
from tuner.campaign.run import held, run

BUDGET = ("--batches", 900, "--shares", "search=0.5,narrow=0.25,confirm=0.25")


@pytest.fixture
def folder(tmp_path):
    """A results folder."""
    return tmp_path / "results" / "studies"


def test_the_plan_trains_nothing(cli, tmp_path, tested_data, real_space):
    """A row for each step that costs something, what becomes of the test split, and no folder."""
    arguments = ("campaign", real_space, "--data", tested_data, *BUDGET, "--plan", "--results", tmp_path / "r")
    done = cli(*arguments, "--format", "json")
    assert done.status == 0, done.err
    rows = json.loads(done.out)
    assert [row["step"] for row in rows] == ["search", "narrow", "confirm"]
    assert sum(row["batches"] for row in rows) <= 900
    assert "scored once" in cli(*arguments).out and "never used here" in cli(*arguments).out
    assert not (tmp_path / "r").exists()


def test_without_labels_the_test_split_is_spoken_of_before_anything_is_spent(cli, tmp_path, tiny_data, real_space):
    """The plan says that there is no test split."""
    done = cli("campaign", real_space, "--data", tiny_data, *BUDGET, "--plan", "--results", tmp_path / "r")
    assert "not scored: there is none" in done.out


def test_with_consent_runs_are_made_short_enough(cli, tmp_path, tiny_data, real_space):
    """Half of the least budget: --yes halves the runs, and says so."""
    arguments = (
        "campaign",
        real_space,
        "--data",
        tiny_data,
        "--batches",
        90,
        "--plan",
        "--results",
        tmp_path / "r",
        "--lengths",
        "whole",
    )
    assert "give --batches 180 or more" in cli(*arguments).err
    done = cli(*arguments, "--yes", "--format", "json")
    assert done.status == 0, done.err
    assert "training.batches 36 -> 17" in done.err
    assert json.loads(done.out)[0]["length"] == "17"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--batches", 100), "cannot hold a confirmed answer"),
        ((), "divides one budget"),
        (("--batches", 900, "--hours", 1), "divides one budget"),
        (("--gpu-hours", 1, "--gpus-per-trial", 0), "trials use no GPU here"),
        ((*BUDGET, "--beat", "nobody/3"), "there is no study 'nobody'"),
        ((*BUDGET, "--beat", "nan"), "is no PER"),
        ((*BUDGET, "--beat", "small"), "no PER is recorded of it"),
        ((*BUDGET, "--shares", "search=1"), "an answer needs both"),
        ((*BUDGET, "--searcher", "tpee"), "tpee"),
        ((*BUDGET, "--name", "a/b"), "a/b"),
        ((*BUDGET, "--resume", "x"), "give neither SPACE nor --name"),
    ],
)
def test_what_is_asked_wrongly_is_one_line(cli, tmp_path, tiny_data, real_space, arguments, words):
    """Exit status 2, and nothing is begun."""
    done = cli("campaign", real_space, "--data", tiny_data, *arguments, "--results", tmp_path / "r")
    assert done.status == 2 and words in done.err
    assert not (tmp_path / "r").exists()


def test_a_campaign_that_is_not_there_is_one_line(cli, tmp_path):
    """Both commands that go on with one, and neither SPACE nor data."""
    for arguments, words in (
        (("campaign", "--resume", "nothing", "--results", tmp_path), "there is no campaign 'nothing'"),
        (("campaign", "--results", tmp_path), "give SPACE and --data"),
    ):
        done = cli(*arguments)
        assert done.status == 2 and words in done.err


def test_a_name_stands_for_one_campaign(cli, folder, tiny_data, real_space):
    """The same name with another budget, and a name whose studies are others', are refused in a line."""
    arguments = ("campaign", real_space, "--data", tiny_data, *BUDGET, "--name", "c", "--results", folder)
    (folder / "c-confirmed").mkdir(parents=True)
    assert "the study exists, and is no campaign's" in cli(*arguments).err
    (folder / "c-confirmed").rmdir()
    from search_spaces import load_space
    from tuner.commands.campaign import ask

    given = dict.fromkeys(("cpus", "cpus_per_trial", "gpus_per_trial", "concurrent", "address", "custom", "searcher"))
    given |= {"batches": 900, "shares": None, "beat": None, "seconds_per_batch": None, "stopping": None, "start": ()}
    given |= {"seed": 0, "top": 5, "seeds": 5, "test": True, "lengths": "auto"}
    Campaign(folder, ask(load_space(real_space), tiny_data, "c", folder, given)).save()
    done = cli(*arguments)
    assert done.status == 2 and "with another shares" in done.err and "--resume c" in done.err


def test_two_at_once_and_changed_data_are_refused(folder, asked, tmp_path, tiny_data, cli):
    """While one process holds a campaign another is told which; data with another fingerprint end it before a step."""
    data = tmp_path / "data"
    shutil.copytree(tiny_data, data)
    one = Campaign(folder, asked(data={"path": str(data), "name": "tiny", "fingerprint": "f" * 64}))
    with held(one), pytest.raises(InputError, match="c: this campaign is running, held by host"):
        run(one)
    with pytest.raises(InputError, match="the data changed since the campaign began"):
        run(one)
    done = cli("resume", "c", "--trials", 3, "--results", folder)
    assert done.status == 2 and "c is a campaign" in done.err


def test_the_record_is_read_as_it_was_written(folder, asked):
    """All of what was asked, and the facts of steps; a damaged one is a line that says what still works."""
    one = Campaign(folder, asked(amount=12.5, limit="hours", beat="0.2", options={"start": ["real"]}))
    one.after("search", {"spent": 3.0})
    found = record.load(folder, "c")
    assert (found.asked, found.done) == (one.asked, {"search": {"spent": 3.0}})
    assert record.names(folder) == ["c"]
    one.paths.record.write_text('{"asked": ')
    with pytest.raises(InputError, match="the ordinary commands go on with them"):
        record.load(folder, "c")


def test_what_to_beat_is_a_number_a_trial_a_study_or_a_run(toy):
    """Each with its PER; a trial on other data cannot be compared."""
    study = toy.create("toy", seed=2)
    toy.drive(study)
    study.interrupt("budget")
    study.close()
    fingerprint = study.settings.data.fingerprint
    rows = load_tables(toy.folder, ["toy"], ("trials",))[0]["trials"].to_pylist()
    best = min((row for row in rows if row["best_per"] is not None), key=lambda row: row["best_per"])
    assert goal(None, toy.folder, fingerprint) is None
    assert goal("0.25", toy.folder, fingerprint).per == 0.25
    assert goal("toy", toy.folder, fingerprint).trial == ("toy", best["trial"])
    assert goal(f"toy/{best['trial']}", toy.folder, fingerprint).per == best["best_per"]
    assert goal("speechBaseline4", toy.folder, fingerprint).per == 0.2046
    assert goal("recorded", toy.folder, fingerprint).per <= 0.2046
    with pytest.raises(InputError, match="was trained on other data"):
        goal("toy", toy.folder, "other")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, tested_data, real_space):
    """A campaign that was killed in its search, went on by the same command: (working folder, its last output)."""
    return tmp_path_factory.mktemp("whole"), ("campaign", real_space, "--data", tested_data, *BUDGET, "--name", "c")


@pytest.mark.ray
def test_a_killed_campaign_goes_on_to_its_answer(whole, tuner, tested_data):
    """kill -9 in the search; then `resume` does the rest: two searches, fresh seeds, one use of the test split, the
    report, the decoder, and the answer against what it was set out to beat. Once more, it only says the answer.
    """
    cwd, arguments = whole
    arguments = (*arguments, "--beat", "0.99", "--concurrent", 1, "--seed", 3)
    results = cwd / "results" / "studies"
    first = tuner.start(*arguments, cwd=cwd)
    tuner.wait_for_epochs(first, results / "c-search" / "events.jsonl", 5)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert set(record.load(results, "c").done) == set()
    done = tuner.run("resume", "c", cwd=cwd)
    assert done.status == 0, done.err
    last = done.out.splitlines()[-1]
    assert last.startswith("answer: c-") and "than PER 0.99" in last and "more than luck explains" in last
    assert "test split: PER" in done.out and "the first use of this test split" in done.out
    found = record.load(results, "c")
    assert sum(facts["spent"] for facts in found.done.values() if "spent" in facts) <= 900
    tables, _ = load_tables(results, [found.done["confirm"]["study"]], ("trials",))
    rows = tables["trials"].to_pylist()
    assert {row["status"] for row in rows} == {"completed"} and len(rows) >= 2
    winner = found.done["confirm"]["winner"]
    assert winner.split("/")[0] in ("c-search", "c-narrowed")
    assert found.paths.report.stat().st_size > 10_000
    assert (found.paths.bundle / "decoder.ts").exists()
    (use,) = uses(results, found.asked.data["fingerprint"])
    assert use["by"] == "campaign c" and use["what"].startswith("c-confirmed/")
    again = tuner.run(*arguments, cwd=cwd)
    assert again.status == 0 and again.out.splitlines()[-1] == last
    assert len(uses(results, found.asked.data["fingerprint"])) == 1
