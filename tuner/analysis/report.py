"""The report of `tuner report`: `results.report` with the parts that need torch or Optuna, and its server."""

from __future__ import annotations

import shlex
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

from results.best import Best, best
from results.confirmed import confirmed
from results.local_web import REFUSAL, is_local
from results.report import Extras, Facts, load, render, started_with
from results.store.paths import StudyPaths, find_studies
from search_spaces import InputError, RunConfig, to_dict
from trainable.schedules import lr_at
from tuner.analysis.errors import best_errors
from tuner.analysis.importance import disagreements, importance

_ROWS = 100  # of the best-config table
_PLACES = 250  # batches at which a learning rate is drawn


def make_page(results_dir: Path, studies: Sequence[str], state: str | None = None, errors: bool | None = False) -> str:
    """The report on `studies` as HTML. Raises `InputError` for an unknown study.

    `errors`: whether the best checkpoint is decoded to say which errors it makes; None where that takes seconds.
    """
    facts = load(results_dir, studies)
    again = confirmed(results_dir, studies, _ROWS)
    for one in facts:
        one.confirmed = _first_confirmed(again, one.study)
    table = again or best(results_dir, studies, top=_ROWS)
    return render(facts, table, {one.study: extras(results_dir, one, errors) for one in facts}, state)


def _first_confirmed(table: Best | None, study: str) -> int | None:
    """The trial of a study that comes first by new seeds."""
    rows = [] if table is None else table.sheet.dicts()
    return next((row["trial"] for row in rows if row["study"] == study and row["seeds"]), None)


def extras(results_dir: Path, facts: Facts, errors: bool | None = False) -> Extras:
    """Importance, learning rates, the best configuration of a study and the errors it makes, where they exist."""
    extra = Extras()
    if errors is not False:
        extra.errors, extra.errors_note = best_errors(results_dir, facts, errors is True)
    try:
        extra.importance = importance(results_dir, facts.study)
        if not any(row["ped_anova"] is not None for row in extra.importance):
            extra.importance_note = "There are too few trials to measure importance."
        elif apart := disagreements(extra.importance):
            extra.importance_note = f"The two methods disagree. {'; '.join(apart)}."
    except InputError as error:
        extra.importance_note = "; ".join(error.problems)
    first = facts.first
    wanted = [row["trial"] for row in (*facts.leaders, *([first] if first else []))]
    started = started_with(results_dir, facts.study, wanted)
    for number, event in started.items():
        config = _config(event)
        if config is not None:
            extra.rates[number] = _rates(config)
            if first is not None and first["trial"] == number:
                extra.best_yaml = _run_file(facts, first, config)
                extra.rerun = "" if event.get("origin") == "recorded" else _again(facts)
    return extra


def stamp(results_dir: Path, studies: Sequence[str]) -> str:
    """The state of the studies' logs, to detect changes: sizes and times."""
    marks = []
    for folder in find_studies(results_dir, studies):
        try:
            about = StudyPaths(folder).log.stat()
            marks.append(f"{about.st_size}.{about.st_mtime_ns}")
        except OSError:
            marks.append("none")
    return "-".join(marks)


@dataclass
class _Made:
    """The page made last, what it was made from, and when it may be made again."""

    page: str = ""
    state: str = ""
    rests_until: float = 0.0


def make_server(
    results_dir: Path, studies: Sequence[str], port: int, errors: bool | None = False
) -> ThreadingHTTPServer:
    """A server, only on this machine, that makes the page again when a log has changed since the last request.

    Raises `InputError` if the port is taken, and for an unknown study.
    """
    find_studies(results_dir, studies)
    made, lock = _Made(), threading.Lock()

    def state() -> str:
        """The state of the page that would be given now: a page that took long to make is not made again at once."""
        now = stamp(results_dir, studies)
        return now if not made.page or time.monotonic() > made.rests_until else made.state

    def page() -> str:
        with lock:
            wanted, begun = state(), time.monotonic()
            if wanted != made.state:
                made.page, made.state = make_page(results_dir, studies, wanted, errors), wanted
                made.rests_until = time.monotonic() + 3 * (time.monotonic() - begun)
            return made.page

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                if not is_local(self.headers.get("Host"), self.headers.get("Origin")):
                    self._answer(403, REFUSAL, "text/plain")
                elif self.path == "/state":
                    self._answer(200, state(), "text/plain")
                elif self.path == "/":
                    self._answer(200, page(), "text/html")
                else:
                    self._answer(404, "there is only /", "text/plain")
            except InputError as error:  # the study was deleted meanwhile
                self._answer(503, "\n".join(error.problems), "text/plain")
            except BrokenPipeError:
                self.close_connection = True

        def _answer(self, status: int, body: str, kind: str) -> None:
            data = body.encode()
            self.send_response(status)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            """No request log: a page sends a request every few seconds."""

    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    except OSError as error:
        raise InputError(f"port {port}: {error.strerror}; choose another with --port, or 0 for any free one") from error
    server.daemon_threads = True
    return server


def _config(event: Mapping[str, Any]) -> RunConfig | None:
    try:
        return RunConfig.model_validate(event.get("config"))
    except ValueError:  # a log of an older program, or of another one
        return None


def _rates(config: RunConfig) -> list[tuple[int, float]]:
    """The learning rate at the first, the last and evenly spread batches."""
    import numpy as np

    batches = np.unique(np.linspace(0, config.training.batches - 1, _PLACES).round().astype(int))
    return [(int(batch), lr_at(config, int(batch))) for batch in batches]


def _run_file(facts: Facts, row: Mapping[str, Any], config: RunConfig) -> str:
    what = "PER" if facts.objective == "best_per" else facts.measure
    purpose = {"purpose": f"the best of study {facts.study}: trial {row['trial']}, {what} {facts.score(row):.4f}"}
    text: str = yaml.safe_dump({**purpose, **to_dict(config)}, sort_keys=False, allow_unicode=True, width=100)
    return text


def _again(facts: Facts) -> str:
    data = facts.about.get("data_path") or "FOLDER"
    return f"tuner train best.yaml --data {shlex.quote(str(data))} --out best.pt"
