"""Runs a campaign: its steps in order, each from where it was left, and at the end the answer."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from results.store.lock import StudyLock, holder_of
from search_spaces import InputError
from trainable.data.intact import open_intact
from tuner.campaign import record
from tuner.campaign.answer import answer
from tuner.campaign.costs import amount_text
from tuner.campaign.planning import amounts_of
from tuner.campaign.record import Campaign
from tuner.campaign.steps import STEPS
from tuner.campaign.studies import Stopped


def run(campaign: Campaign, force_unlock: bool = False) -> int:
    """Do what is left of a campaign and print its answer; returns the exit status.

    Raises InputError where another process runs it, and where the data are not those that it began with.
    """
    with held(campaign, force_unlock):
        if campaign.paths.record.exists():
            campaign = record.load(campaign.results_dir, campaign.asked.name)
        else:
            campaign.save()
        try:
            for number, step in enumerate(STEPS, start=1):
                if step.name in campaign.done:
                    continue
                _check_data(campaign)
                print(_heading(campaign, number, step.name), file=sys.stderr)
                campaign = campaign.after(step.name, step.run(campaign))
        except Stopped as stopped:
            if stopped.status != 130:
                print(f"the campaign is not finished; go on with: {campaign.again}", file=sys.stderr)
            return stopped.status
        except KeyboardInterrupt:
            print(f"\nstopped; go on with: {campaign.again}", file=sys.stderr)
            return 130
        print()
        for line in answer(campaign):
            print(line)
    return 0


def _heading(campaign: Campaign, number: int, name: str) -> str:
    amount = amounts_of(campaign.asked).get(name)
    what = f", {amount_text(campaign.asked.limit, amount)}" if amount else ""
    return f"\ncampaign {campaign.asked.name}, step {number} of {len(STEPS)}: {name}{what}"


@contextmanager
def held(campaign: Campaign, force: bool = False) -> Iterator[None]:
    """The right to run the campaign. Raises InputError where another process has it."""
    folder, name = campaign.paths.folder, campaign.asked.name
    if not force and (holder := holder_of(folder)) is not None:
        raise InputError(_refusal(name, str(holder)))
    lock = StudyLock(folder, force=force)
    try:
        lock.acquire()
    except InputError as error:
        if (holder := holder_of(folder)) is None:
            raise
        raise InputError(_refusal(name, str(holder))) from error
    try:
        yield
    finally:
        lock.release()


def _refusal(name: str, holder: str) -> str:
    return (
        f"{name}: this campaign is running, held by {holder}; wait for it, stop it there with Ctrl-C, or choose "
        "another --name"
    )


def _check_data(campaign: Campaign) -> None:
    data = campaign.asked.data
    here = open_intact(data["path"]).fingerprint
    if here != data["fingerprint"]:
        raise InputError(
            f"{data['path']}: the data changed since the campaign began (fingerprint here {here[:12]}, then "
            f"{data['fingerprint'][:12]}); restore them and go on, or begin another campaign with --name"
        )
