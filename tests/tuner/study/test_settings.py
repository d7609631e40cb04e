"""A study's settings: written with their version, read from logs of every version, kept whole when a study goes on."""

import json
from pathlib import Path

import pydantic
import pytest

from results.store.events import read_events
from results.store.paths import StudyPaths
from search_spaces import InputError
from tests.tuner.conftest import settings_for
from tuner.study.settings import VERSION, StudySettings
from tuner.study.state import StudyState

BEFORE = Path(__file__).parents[2] / "fixtures" / "before_rooms" / "study"


def first_event(folder):
    return read_events(StudyPaths(folder).log)[0][0]


def test_the_log_has_the_settings_and_their_version(toy):
    """`study_started` holds what was given, and the version; the study's own settings are read from there."""
    study = toy.create("s", hung_after=7.0)
    event = first_event(toy.folder / "s")
    assert event["settings_version"] == study.settings.settings_version == VERSION
    given = {**settings_for(toy.space), "hung_after": 7.0}
    assert {key: event[key] for key in given} == given
    assert "costs" not in event  # what was not given is not written


def test_a_log_from_before_versions_is_read_with_defaults():
    """An old log's values are as they stand there; what it lacks has its default."""
    event = first_event(BEFORE)
    state = StudyState(searching=False)
    state.apply(event)
    settings = state.settings
    assert state.begun and settings.settings_version == 0
    assert {key: event[key] for key in settings.as_dict()} == settings.as_dict()
    assert (settings.seed, settings.budget.trials, settings.searcher.kind) == (0, 20, "tpe")
    assert settings.starts_from == 0 and settings.warm_start == [] and settings.resources.custom is None


def test_null_is_the_default():
    """Logs of recorded runs have null for a seed and for resources."""
    settings = StudySettings.read({"seed": None, "resources": {"cpus_per_trial": None}, "checkpoints": None})
    assert (settings.seed, settings.resources.cpus_per_trial, settings.checkpoints.every) == (0, 1.0, "auto")


def test_what_a_later_version_wrote_is_kept(toy):
    """Unknown fields, at the top and inside, are no error, and a resume that changes others leaves them."""
    data = {"path": "nowhere", "name": "none", "fingerprint": "0", "license": "CC0"}
    toy.create("s", weather="fine", data=data).close()
    budget = {"trials": 3, "hours": None}
    again = toy.resume("s", {"budget": [{"trials": 12, "hours": None}, budget]})
    written = again.settings.as_dict()
    assert (written["weather"], written["data"], written["budget"]) == ("fine", data, budget)
    assert again.settings.budget.trials == 3


def test_settings_are_frozen(toy):
    """They change by events alone."""
    settings = toy.create("s").settings
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        settings.seed = 1
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        settings.budget.trials = 1


def test_a_wrong_type_is_one_line_for_each_field(toy):
    """A log that was changed by hand names the field, what it wants and what it found."""
    with pytest.raises(InputError) as raised:
        StudySettings.read({"seed": "seven", "budget": {"hours": []}})
    assert [line.split(": Input")[0] for line in raised.value.problems] == [
        "the study's settings: seed",
        "the study's settings: budget.hours",
    ]
    assert "'seven'" in raised.value.problems[0]


def test_settings_are_json(toy):
    """All that is written can be read back as it was."""
    fields = toy.create("s").settings.fields()
    assert StudySettings.read(json.loads(json.dumps(fields))).fields() == fields
