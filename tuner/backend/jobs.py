"""`tuner submit`: a search as a Ray job, so that its driver runs on the cluster and this machine can be turned off.

Ray Jobs take a command line and a runtime environment by HTTP. The program and the YAML files of a space are sent with
the job; data and results are paths on the cluster, so relative ones are made absolute here.
"""

from __future__ import annotations

import logging
import os
import re
import shlex
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from search_spaces.errors import InputError
from search_spaces.redact import redacted, secrets_of
from tuner.backend import cluster
from tuner.study.ray_messages import said

FOLLOW_SECONDS = 1.0
"""Seconds between two reads of a job's log."""
STOP_SECONDS = 60
"""Seconds that `ray job stop` leaves the driver to write its last events, before it kills it (Ray's default is 3)."""
PATHS = ("--data", "--results")
"""Options whose values are folders on the cluster."""


def command_line(arguments: Sequence[str], options: Sequence[str], results: str) -> tuple[list[str], Path | None]:
    """The arguments for the cluster, and the folder whose YAML files are sent with the job (None if there are none).

    Folders become absolute, URIs (s3://..., file://...) stay as they are; `results` is added where no --results was
    given, "--address auto" if the command knows --address, as its `options` say. Raises InputError for files of several
    folders, for an --address, and for a URI with a key in it.
    """
    done: list[str] = []
    folders: set[Path] = set()
    given = iter(arguments)
    for argument in given:
        name, equals, value = argument.partition("=")
        if name == "--address":
            raise InputError(
                "--address after '--': the job runs on the cluster that it is sent to; leave this option out"
            )
        if name in PATHS:
            value = value if equals else next(given, "")
            done += [name, _there(name, value)]
        elif argument.endswith((".yaml", ".yml")) and Path(argument).is_file():
            folders.add(Path(argument).absolute().parent)
            done.append(Path(argument).name)
        else:
            done.append(argument)
    if len(folders) > 1:
        raise InputError(f"{', '.join(map(str, sorted(folders)))}: put the files of one search into one folder")
    if "--results" not in done and "--results" in options:
        done += ["--results", _there("--results", results)]
    if "--address" in options:
        done += ["--address", "auto"]
    return done, next(iter(folders), None)


def _there(option: str, value: str) -> str:
    """A folder or URI in the form that the cluster reads."""
    if "://" not in value:
        return str(Path(value).absolute())
    if secrets_of(value):
        raise InputError(
            f"{option} {redacted(value)}: a job's command line can be read by everybody on the cluster; leave the key "
            "out, and set it on the head with environment variables or files (~/.aws/credentials)"
        )
    return value


def connect(address: str) -> Any:
    """A client of the job server at `address` (http://HEAD:8265). Raises InputError if there is none to talk to."""
    if not re.fullmatch(r"https?://[^/\s]+/?", address):
        raise InputError(f"--address {address}: is not allowed; give the head's dashboard, such as http://HEAD:8265")
    os.environ.update(cluster.authentication())
    # Both would override the user's address.
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        os.environ.pop(name, None)
    try:
        from ray.job_submission import JobSubmissionClient

        logging.getLogger("ray").setLevel(logging.ERROR)
        logging.getLogger("ray.dashboard.modules.dashboard_sdk").setLevel(logging.ERROR)

        return JobSubmissionClient(address)
    except ConnectionError as error:
        raise InputError(
            f"--address {address}: no answer; the head must have been started with its dashboard "
            "(pip install '.[cluster]' in the checkout of b2t-tuner there) and be reachable from here"
        ) from error
    except Exception as error:  # Ray's own kinds, and those of its HTTP client
        raise InputError(_no_client(address, str(error) or type(error).__name__)) from error


def _no_client(address: str, text: str) -> str:
    if said("no job client", text):
        return "tuner submit: needs Ray's job client; here: pip install '.[cluster]' in the checkout of b2t-tuner"
    if said("job token wanted", text):
        return (
            f"--address {address}: the cluster asks for its token; copy the head's ~/.ray/auth_token here, "
            "or set RAY_AUTH_TOKEN (RAY_AUTH_MODE=disabled if it was started without)"
        )
    return f"--address {address}: {text.strip().splitlines()[0]}"


def send(client: Any, arguments: Sequence[str], files: Path | None, python: str = "python") -> str:
    """Submit `tuner <arguments>`, run by the cluster's `python`; returns the job's id.

    The YAML files of the folder `files` are sent with it.
    """
    environment = cluster.program()
    environment["env_vars"]["RAY_JOB_STOP_WAIT_TIME_S"] = str(STOP_SECONDS)
    with tempfile.TemporaryDirectory() as beside:
        for path in sorted(files.iterdir()) if files else ():
            if path.suffix in (".yaml", ".yml") and path.is_file():
                shutil.copy(path, beside)
        if files:
            environment["working_dir"] = beside
        entrypoint = shlex.join([python, "-m", "tuner", *arguments])
        job: str = client.submit_job(entrypoint=entrypoint, runtime_env=environment)
        return job


def follow(client: Any, job: str, show: Callable[[str], None], sleep: Callable[[float], None] = time.sleep) -> int:
    """Show a job's log as it grows until the job ends; returns its exit status (1 where Ray knows none)."""
    shown = 0
    while True:
        info = client.get_job_info(job)  # before the log: what ended has then written all of it
        log = client.get_job_logs(job)
        if len(log) > shown:
            show(log[shown:])
            shown = len(log)
        if info.status.is_terminal():
            if info.status.value == "SUCCEEDED":
                return 0
            if not log and info.message:
                show(f"{info.message}\n")
            return info.driver_exit_code or 1
        sleep(FOLLOW_SECONDS)
