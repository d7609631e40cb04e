"""`tuner report`: the page with what needs the program that ran the study, and the server that follows a search."""

from __future__ import annotations

import http.client
import shutil
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from results.store.events import EventLog
from search_spaces import InputError, RunConfig, load_run
from trainable.schedules import lr_at
from tuner.analysis.report import extras, load, make_server
from tuner.cli import tuner


@pytest.fixture(scope="module")
def searched(toys: Any) -> Path:
    """The study `toy`, searched to its end; its driver may still hold it."""
    study = toys.create("toy")
    assert toys.drive(study)
    return study.folder


@pytest.fixture
def results(searched: Path, tmp_path: Path) -> Path:
    """A results folder with a copy of it."""
    shutil.copytree(searched, tmp_path / "toy")
    return tmp_path


@contextmanager
def served(results: Path) -> Iterator[str]:
    with make_server(results, ["toy"], 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def get(url: str) -> str:
    with urllib.request.urlopen(url) as answer:
        return answer.read().decode()


def test_the_command_writes_a_page_and_says_where_and_how_large(results: Path, tmp_path: Path) -> None:
    """The page has the importance, the schedules and the best configuration beside what the tables have."""
    out = tmp_path / "page.html"
    done = CliRunner().invoke(tuner, ["report", "toy", "--results", str(results), "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert f"wrote {out} ({out.stat().st_size / 1e6:.1f} MB)" in done.output
    page = out.read_text()
    assert "Learning rates of the best" in page
    assert "Importance of settings" in page
    assert "Run it again" in page


def test_a_study_that_does_not_exist_is_one_line_and_no_file(results: Path, tmp_path: Path) -> None:
    """The nearest name is given, and the old page stays."""
    done = CliRunner().invoke(tuner, ["report", "toi", "--results", str(results), "--out", str(tmp_path / "p.html")])
    assert isinstance(done.exception, InputError)
    assert "did you mean toy?" in str(done.exception)
    assert not (tmp_path / "p.html").exists()


def test_the_best_configuration_on_the_page_is_a_run_file_that_loads(results: Path, tmp_path: Path) -> None:
    """Saved to a file it is the very configuration of the best trial."""
    [facts] = load(results, ["toy"])
    extra = extras(results, facts)
    (tmp_path / "best.yaml").write_text(extra.best_yaml)
    config = load_run(tmp_path / "best.yaml").config
    best = facts.ranked[0]
    assert isinstance(config, RunConfig)
    assert (config.schedule.peak_lr, config.training.seed) == (best["schedule_peak_lr"], best["seed"])


def test_the_rates_of_the_leaders_are_those_they_were_trained_with(results: Path, tmp_path: Path) -> None:
    """First batch, last batch and every one between of a short run, for each leader."""
    [facts] = load(results, ["toy"])
    extra = extras(results, facts)
    assert set(extra.rates) == {row["trial"] for row in facts.leaders}
    (tmp_path / "best.yaml").write_text(extra.best_yaml)
    config = load_run(tmp_path / "best.yaml").config
    places = extra.rates[facts.ranked[0]["trial"]]
    assert places == [(batch, lr_at(config, batch)) for batch in range(config.training.batches)]


def test_the_served_page_is_made_again_when_the_log_has_changed(results: Path, wait: Any) -> None:
    """While nothing changes the state stays; a new event gives another, and a page that carries it."""
    with served(results) as url:
        state = get(f"{url}/state")
        assert f'data-state="{state}"' in get(f"{url}/")
        assert get(f"{url}/state") == state
        log = EventLog(results / "toy" / "events.jsonl")
        log.append("study_ended", reason="interrupted")
        log.close()
        wait(lambda: f'data-state="{state}"' not in get(f"{url}/"))  # made a moment ago, it rests a little
        page = get(f"{url}/")
        assert f'data-state="{get(f"{url}/state")}"' in page
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get(f"{url}/etc/passwd")


def test_a_port_in_use_is_one_line(results: Path) -> None:
    """The second server names the port and the option."""
    with make_server(results, ["toy"], 0) as first, pytest.raises(InputError, match="choose another with --port"):
        make_server(results, ["toy"], first.server_port)


def test_ctrl_c_ends_the_server_with_130_and_no_traceback(results: Path, end: Any) -> None:
    """People end it by Ctrl-C; that is no error of the program."""
    command = [sys.executable, "-m", "tuner", "report", "toy", "--results", str(results), "--serve", "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert server.stdout is not None
    line = server.stdout.readline()
    assert "Best PER" in get(line.split()[0])
    server.send_signal(signal.SIGINT)
    done = end(server, results)
    assert (done.status, done.err.strip()) == (130, "stopped")


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("127.0.0.1:8777", None, 200),
        ("localhost", None, 200),
        ("LOCALHOST:9000", "http://localhost:9000", 200),
        ("[::1]:8777", None, 200),
        ("evil.example", None, 403),
        ("evil.example:8777", "http://evil.example:8777", 403),
        ("127.0.0.1.evil.example", None, 403),
        ("127.0.0.1:8777", "http://evil.example", 403),
        ("127.0.0.1:8777", "null", 403),
        ("localhost:8777@evil.example", None, 403),
        ("", None, 403),
        (None, None, 403),
    ],
)
def test_the_served_page_is_for_this_machine(results: Path, host: str | None, origin: str | None, status: int) -> None:
    """A name that was made to point here (DNS rebinding) and a request from another site's page get 403 and nothing of
    the study; 127.0.0.1 and localhost with any port (it may be forwarded) get the page and its state.
    """
    with served(results) as url:
        for path in ("/", "/state"):
            connection = http.client.HTTPConnection("127.0.0.1", int(url.rsplit(":", 1)[1]), timeout=600)
            connection.putrequest("GET", path, skip_host=True)
            for name, value in (("Host", host), ("Origin", origin)):
                if value is not None:
                    connection.putheader(name, value)
            connection.endheaders()
            answer = connection.getresponse()
            body = answer.read().decode()
            connection.close()
            assert answer.status == status
            assert ("for this machine" in body) == (status == 403)
            assert answer.getheader("Access-Control-Allow-Origin") is None
