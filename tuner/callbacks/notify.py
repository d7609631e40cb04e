"""Notifications that a search ended, a trial failed, or there is a new best: to a command or a webhook.

Both get one JSON object: {kind: end|failure|best, text, study, time, host, trials, ...}. `text` is one line for people
and the key that Slack, Mattermost and similar programs show. A command gets it on standard input, a webhook by POST.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any

from search_spaces import InputError
from search_spaces.redact import HIDDEN, host_of, redacted, secrets_of
from tuner.callbacks.background import Background, Follower, warn
from tuner.callbacks.display import summarise
from tuner.study.trial_state import FINAL

KINDS = ("end", "failure", "best")
TIMEOUT = 10.0
"""Seconds for a webhook to answer."""
COMMAND_TIMEOUT = 60.0
"""Seconds for a command to end; it is killed after that."""


def check_targets(targets: Sequence[str], environment: Mapping[str, str] = os.environ) -> None:
    """Raises InputError, a line for each target that is neither an http(s) address nor an existing command."""
    problems = []
    for target in targets:
        if _is_address(target):
            try:
                host = urllib.parse.urlsplit(target).hostname
            except ValueError:
                host = None
            if not host:
                problems.append(f"--notify {named(target)}: is not a valid address; give one such as https://host/path")
            elif secrets_of(target.partition("?")[0]):
                problems.append(
                    f"--notify {named(target)}: an address with a user and password is not allowed; give one "
                    "without, or a command (curl takes them from a file)"
                )
            continue
        try:
            words = shlex.split(target)
        except ValueError as error:
            problems.append(f"--notify {named(target)}: {error}; quote it as for a shell")
            continue
        if "://" in target.split(" ")[0]:
            problems.append(f"--notify {named(target)}: only http and https addresses are allowed; or give a command")
        elif not words or shutil.which(words[0], path=environment.get("PATH")) is None:
            program = redacted(words[0]) if words else ""
            problems.append(f"--notify {named(target)}: there is no command {program!r}; give one, or a URL")
    if problems:
        raise InputError(problems)


def notifier(folder: Path, targets: Sequence[str], kinds: Sequence[str] = ("end", "failure")) -> Background:
    """An observer of the study in `folder` that sends notifications of these kinds to all targets, in the background.

    `best` is sent when a trial ends that has improved the study's best PER. A failing target gives one warning line,
    once; later notifications are still tried.
    """
    notices = Notices(folder, kinds)
    complained: set[str] = set()

    def handle(event: Mapping[str, Any]) -> None:
        for notice in notices.of(event):
            for target in targets:
                try:
                    send(target, notice)
                except (OSError, ValueError, HTTPException, subprocess.SubprocessError) as error:
                    if target not in complained:
                        complained.add(target)
                        warn(f"--notify {named(target)}: {_said(error, target)}; the search continues")

    return Background("--notify", handle, patience=TIMEOUT + 5)


class Notices:
    """Makes notifications from events. It has its own state of the study, because it runs in another thread."""

    def __init__(self, folder: Path, kinds: Sequence[str]) -> None:
        self._kinds = kinds
        self._follower = Follower(folder)
        self._best: float | None = None

    def of(self, event: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The notifications for an event, usually none."""
        state, kind = self._follower.state, event["event"]
        self._follower.take(event)
        found: list[dict[str, Any]] = []
        if kind == "study_resumed":  # an earlier best is not new
            self._best = state.leader.best[0] if state.leader and state.leader.best else None
        elif kind == "trial_ended":
            trial = state.trials[event["trial"]]
            if event["status"] == "failed" and not event.get("retry"):
                text = f"trial {trial.number} failed at epoch {trial.epoch}: {event.get('error')}"
                found.append(self._notice("failure", event, text, trial=trial.number, error=event.get("error")))
            if trial.best and (self._best is None or trial.best[0] < self._best):
                self._best = trial.best[0]
                text = f"new best PER {trial.best[0]:.4f} by trial {trial.number} (epoch {trial.best[1]})"
                chosen = summarise(trial)
                found.append(self._notice("best", event, text + (f": {chosen}" if chosen else ""), trial=trial.number))
        elif kind == "study_ended":
            found.append(self._end(event))
        return [notice for notice in found if notice["kind"] in self._kinds]

    def _end(self, event: Mapping[str, Any]) -> dict[str, Any]:
        state = self._follower.state
        leader = state.leader
        ended = sum(t.status in FINAL for t in state.trials.values())
        text = f"ended ({event['reason']}) after {ended} trials"
        if leader and leader.best:
            text += f"; best PER {leader.best[0]:.4f} by trial {leader.number}"
        return self._notice("end", event, text, reason=event["reason"])

    def _notice(self, kind: str, event: Mapping[str, Any], text: str, **more: Any) -> dict[str, Any]:
        state = self._follower.state
        leader = state.leader
        return {
            "kind": kind,
            "text": f"{state.settings.study}: {text}",
            "study": state.settings.study,
            "time": event["time"],
            "host": event.get("host"),
            "trials": len(state.trials),
            "best_per": leader.best[0] if leader and leader.best else None,
            "best_trial": leader.number if leader else None,
            **more,
        }


def send(target: str, notice: Mapping[str, Any]) -> None:
    """Send a notification to an address or a command.

    Raises OSError (urllib's errors are that too), ValueError, HTTPException or SubprocessError if it was not taken.
    """
    body = json.dumps(notice).encode() + b"\n"
    if _is_address(target):
        headers = {"Content-Type": "application/json", "User-Agent": "b2t-tuner"}
        request = urllib.request.Request(target, body, headers)  # noqa: S310  http or https, checked
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310
            answer.read(1 << 16)
        return
    done = subprocess.run(
        shlex.split(target),
        input=body,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        timeout=COMMAND_TIMEOUT,
        check=False,
        start_new_session=True,  # Ctrl-C in the search must not end it
    )
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise ChildProcessError(f"exit status {done.returncode}" + (f", {said[-1][:200]}" if said else ""))


def _is_address(target: str) -> bool:
    return target.lower().startswith(("http://", "https://"))


def named(target: str) -> str:
    """A target as it is shown: the host of an address, the program of a command. The path of a webhook is secret, and a
    command's arguments may be.
    """
    if _is_address(target):
        return host_of(target)
    program, _, rest = target.strip().partition(" ")
    return f"{host_of(program)}{' ...' if rest else ''}"


def _said(error: BaseException, target: str) -> str:
    """The first line of an error, without the secret parts of the target."""
    if isinstance(error, subprocess.TimeoutExpired):
        return f"not done after {COMMAND_TIMEOUT:g} s"
    text = (str(error).splitlines() or [type(error).__name__])[0]
    if _is_address(target):
        parts = urllib.parse.urlsplit(target)
        hidden = [part for part in (f"{parts.path}?{parts.query}", parts.path, parts.query) if len(part) > 1]
    else:
        hidden = [word for word in shlex.split(target)[1:] if len(word) > 3]
    for part in hidden:
        text = text.replace(part, HIDDEN)
    return text
