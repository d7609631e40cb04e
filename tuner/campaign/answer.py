"""The answer of a campaign: the configuration, its PER, and whether it beats what it was set out to beat."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from results.store.paths import StudyPaths, is_name
from results.store.tables import load_tables
from results.trials import find_trial
from results.verdicts.luck import Spread, lead
from results.verdicts.repeats import Curves, data_of, folder_luck
from search_spaces import InputError, RunConfig, diff, load_run
from search_spaces.recorded import LINEAGE
from tuner.analysis.export import best_trial
from tuner.campaign.costs import amount_text
from tuner.campaign.record import Campaign
from tuner.campaign.test_split import test_text
from tuner.campaign.winner import Winner, winner
from tuner.planned.lineage import short_changes

RECORDED = "recorded"
"""`--beat recorded`: the lowest greedy PER among the 23 recorded runs."""


@dataclass(frozen=True)
class Goal:
    """What a campaign is set out to beat."""

    name: str
    per: float
    trial: tuple[str, int] | None = None
    """The trial whose PER it is; None for a number, which counts as known exactly."""


def goal(text: str | None, results_dir: Path, fingerprint: str) -> Goal | None:
    """What `--beat` names: a PER, STUDY/TRIAL, STUDY for its best trial, a run's recorded PER, or `recorded`.

    Raises InputError for anything else, for what has no PER, and for a trial on other data.
    """
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        return _trial_goal(text, results_dir, fingerprint) or _recorded_goal(text)
    if not 0 < value < math.inf:
        raise InputError(f"--beat {text}: is no PER; give one above 0, such as 0.2046")
    return Goal(f"PER {value:g}", value)


def _trial_goal(text: str, results_dir: Path, fingerprint: str) -> Goal | None:
    study, slash, number = text.rpartition("/")
    name = study if slash else text
    if not (is_name(name) and StudyPaths(results_dir / name).log.exists()):
        if slash and not text.endswith((".yaml", ".yml")):
            raise InputError(f"--beat {text}: there is no study {study!r} in {results_dir}; give one that is there")
        return None
    trial = find_trial(results_dir, name, number) if slash else best_trial(results_dir, name, None)
    there = (trial.settings.get("data") or {}).get("fingerprint")
    if there and there != fingerprint:
        raise InputError(f"--beat {text}: {name} was trained on other data, so the PERs cannot be compared")
    if trial.row["best_per"] is None:
        raise InputError(f"--beat {text}: that trial has no PER; give another one, or a number")
    run = f" ({trial.row['run']})" if trial.row.get("run") else ""
    return Goal(f"{trial.name}{run}", trial.row["best_per"], (trial.study, trial.number))


def _recorded_goal(text: str) -> Goal:
    found = LINEAGE if text == RECORDED else [text]
    known = []
    for name in found:
        recorded = load_run(name).recorded
        if recorded.get("per") is not None and (text != RECORDED or _comparable(recorded)):
            known.append((recorded["per"], name))
    if not known:
        raise InputError(f"--beat {text}: no PER is recorded of it; give a number, STUDY/TRIAL or another run")
    per, name = min(known)
    return Goal(f"{name} as recorded", per)


def _comparable(recorded: Mapping[str, Any]) -> bool:
    return recorded.get("decoder") == "greedy" and bool(recorded.get("comparable", True))


@dataclass(frozen=True)
class Verdict:
    """A lead, and what chance explains of it."""

    lead: float
    margin: float
    source: str

    def __str__(self) -> str:
        if self.lead > self.margin:
            return f"{self.lead:.4f} lower, more than luck explains ({self.margin:.4f}; {self.source})"
        if self.lead < -self.margin:
            return f"{-self.lead:.4f} higher, more than luck explains ({self.margin:.4f}; {self.source})"
        word = "lower" if self.lead >= 0 else "higher"
        return f"{abs(self.lead):.4f} {word}, which luck explains (up to {self.margin:.4f}; {self.source})"


def luck(campaign: Campaign, found: Winner, other: Goal | None) -> tuple[Verdict | None, float, str]:
    """The verdict on the winner against `other`, and half the 95 % interval of its mean with its source."""
    root = campaign.results_dir
    studies = dict.fromkeys([campaign.study("confirm"), *([other.trial[0]] if other and other.trial else [])])
    tables, _ = load_tables(root, list(studies), ("studies", "trials"))
    rows = tables["trials"].to_pylist()
    about = {row["study"]: row for row in tables["studies"].to_pylist()}
    measured, curves = folder_luck(root, rows, about), Curves(root)

    def spread(name: tuple[str, int], per: float) -> Spread:
        row = next(row for row in rows if (row["study"], row["trial"]) == name)
        phonemes = about[row["study"]].get("data_val_phonemes")
        return measured.spread(per, data_of(row, about), phonemes, curves.restless(row))

    spreads = [spread((campaign.study("confirm"), found.decoder), found.mean)]
    alone = lead(found.pers, 0.0, spreads)  # against a number, only its own seeds count
    if other is None:
        return None, alone.margin, alone.source
    if other.trial:
        spreads.append(spread(other.trial, other.per))
    against = lead(found.pers, [other.per] if other.trial else other.per, spreads)
    return Verdict(against.difference, against.margin, against.source), alone.margin, alone.source


def answer(campaign: Campaign) -> list[str]:
    """The lines of the answer; the last one says it all. Raises InputError where the confirmation has no winner."""
    found = winner(campaign.results_dir, campaign.study("confirm"))
    verdict, half, source = luck(
        campaign, found, goal(campaign.asked.beat, campaign.results_dir, campaign.asked.data["fingerprint"])
    )
    trial = find_trial(campaign.results_dir, campaign.study("confirm"), str(found.decoder))
    batches = trial.config.training.batches
    lines = [
        f"configuration: {describe(campaign, trial.config)}",
        f"used: {_used(campaign)}",
        f"report: {campaign.paths.report}; decoder: {campaign.paths.bundle} ({trial.name})",
        test_text(campaign.done.get("test", {})),
    ]
    seeds = ", ".join(f"{per:.4f}" for per in found.pers)
    low, high = max(0.0, found.mean - half), found.mean + half
    mean = (
        f"answer: {found.parent}, {batches:,} batches: PER {found.mean:.4f} "
        f"(95 % interval {low:.4f} to {high:.4f}; {len(found.pers)} fresh seeds: {seeds})"
    )
    if verdict is None:
        return [*lines, f"{mean}; {source}"]
    named = goal(campaign.asked.beat, campaign.results_dir, campaign.asked.data["fingerprint"])
    assert named is not None  # noqa: S101  there is a verdict
    return [*lines, f"{mean}; than {named.name}{'' if named.trial is None else f' with {named.per:.4f}'}: {verdict}"]


def describe(campaign: Campaign, config: RunConfig) -> str:
    """What sets the configuration apart from the base run, in a line."""
    space = campaign.space
    base = RunConfig.model_validate(space.config_base)
    changed = {path: list(pair) for path, pair in diff(base, config).items() if path != "training.seed"}
    name = Path(space.base).stem
    return f"{name} with {short_changes(changed)}" if changed else name


def _used(campaign: Campaign) -> str:
    """What the steps have used of the budget."""
    steps = {step: facts["spent"] for step, facts in campaign.done.items() if "spent" in facts}
    parts = ", ".join(f"{step} {amount_text(campaign.asked.limit, spent)}" for step, spent in steps.items())
    whole = amount_text(campaign.asked.limit, campaign.asked.amount)
    return f"{amount_text(campaign.asked.limit, sum(steps.values()))} of {whole}: {parts}"
