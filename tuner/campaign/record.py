"""What a campaign was asked for and how far it is: one JSON file in a folder beside its studies, written whole.

The file holds what was asked, and of each step that has ended a few facts. Results are not in it: they are read from
the studies, whose logs are the record.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from results.store.paths import check_name, where_option
from search_spaces import InputError, Space
from search_spaces.common import atomic
from search_spaces.wording import nearest_or

VERSION = 1
ENDING = "-campaign"
LIMITS = ("hours", "gpu_hours", "batches", "utterances", "trials")
"""What a campaign can be limited by: the options of a search of these names."""
SHARES = {"search": 0.6, "narrow": 0.2, "confirm": 0.2}
"""The default shares of the budget."""
STUDIES = {"search": "search", "longer": "longer", "narrow": "narrowed", "confirm": "confirmed"}
"""Step -> what its study's name ends with."""


@dataclass(frozen=True)
class CampaignAsked:
    """What a campaign was asked for; all of it is JSON."""

    name: str
    space: dict[str, Any]
    """`Space.as_dict`."""
    data: dict[str, Any]
    """{path, name, fingerprint}."""
    limit: str
    """One of LIMITS."""
    amount: float
    """Of that limit, for all steps together."""
    shares: dict[str, float] = field(default_factory=lambda: dict(SHARES))
    seed: int = 0
    top: int = 5
    """Most configurations to confirm."""
    seeds: int = 5
    """Most fresh seeds for each."""
    lengths: str = "whole"
    """"auto": where the searches could pay few whole runs, runs are shorter (`tuner.campaign.ladder`); "whole": not."""
    shorter: bool = False
    """Whether whole runs may be made shorter where the budget is too small for them."""
    beat: str | None = None
    test: bool = True
    """Whether the test split is scored at the end."""
    options: dict[str, Any] = field(default_factory=dict)
    """Of the searches: searcher, stopping, start, and where trials run (`tuner.study.request.Request`)."""
    seconds_per_batch: float | None = None
    """Measured or given; None where the limit needs no time."""
    at_once: int = 1
    """Trials at once, as planned."""
    gpus_per_trial: float = 0.0


@dataclass(frozen=True)
class CampaignPaths:
    """The files of a campaign, beside its studies."""

    folder: Path

    @property
    def record(self) -> Path:
        """What was asked, and how far it is."""
        return self.folder / "campaign.json"

    @property
    def space(self) -> Path:
        """The narrowed space."""
        return self.folder / "narrowed.yaml"

    @property
    def report(self) -> Path:
        """The report on all its studies."""
        return self.folder / "report.html"

    @property
    def bundle(self) -> Path:
        """The decoder to take away."""
        return self.folder / "decoder"


@dataclass(frozen=True)
class Campaign:
    """A campaign in a results folder."""

    results_dir: Path
    asked: CampaignAsked
    done: Mapping[str, Any] = field(default_factory=dict)
    """Step -> its facts, of each step that has ended."""

    @property
    def paths(self) -> CampaignPaths:
        """Its files."""
        return paths_of(self.results_dir, self.asked.name)

    @property
    def space(self) -> Space:
        """The space that is searched first."""
        return Space.from_dict(self.asked.space)

    def study(self, step: str) -> str:
        """The name of a step's study."""
        return f"{self.asked.name}-{STUDIES[step]}"

    def after(self, step: str, facts: Mapping[str, Any]) -> Campaign:
        """The campaign with a step that has ended, on the disk too."""
        new = replace(self, done={**self.done, step: dict(facts)})
        new.save()
        return new

    def save(self) -> None:
        """Write the record in one step. Raises InputError where it cannot be written."""
        state = {"version": VERSION, "asked": asdict(self.asked), "done": dict(self.done)}
        try:
            self.paths.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"{self.paths.folder}: cannot be made: {error.strerror}; choose another --results"
            ) from error
        text = json.dumps(state, indent=1, ensure_ascii=False) + "\n"
        atomic.write(self.paths.record, text, sync_name=True, advice="make room, then resume the campaign")

    @property
    def again(self) -> str:
        """The command that goes on with it."""
        return f"tuner campaign --resume {self.asked.name}{where_option(self.results_dir)}"


def paths_of(results_dir: Path, name: str) -> CampaignPaths:
    """The files of the campaign of that name. Raises InputError for a name that is not allowed."""
    check_name(name)
    return CampaignPaths(results_dir / f"{name}{ENDING}")


def is_campaign(results_dir: Path, name: str) -> bool:
    """Whether there is a campaign of that name."""
    return paths_of(results_dir, name).record.exists()


def names(results_dir: Path) -> list[str]:
    """The names of the campaigns in a results folder."""
    return sorted(path.parent.name.removesuffix(ENDING) for path in results_dir.glob(f"*{ENDING}/campaign.json"))


def load(results_dir: Path, name: str) -> Campaign:
    """The campaign of that name. Raises InputError where there is none, or its record cannot be read."""
    path = paths_of(results_dir, name).record
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
        known = CampaignAsked.__dataclass_fields__
        asked = CampaignAsked(**{key: value for key, value in state["asked"].items() if key in known})
        return Campaign(results_dir, asked, dict(state["done"]))
    except FileNotFoundError:
        hint = nearest_or(name, names(results_dir), "start one with 'tuner campaign SPACE --data FOLDER'")
        raise InputError(f"{results_dir}: there is no campaign {name!r}; {hint}") from None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"{path}: cannot be read ({type(error).__name__}: {error}); its studies are as they were, and the ordinary "
            "commands go on with them"
        ) from None
