"""Notices of a search: to a real webhook and a real command, and never in its way."""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from search_spaces import InputError
from tuner.callbacks import notify, observers
from tuner.callbacks.background import Background
from tuner.callbacks.notify import check_targets, notifier, send


@pytest.fixture(autouse=True)
def _patient(monkeypatch):
    """A slow machine leaves out no notice at the end."""
    monkeypatch.setattr(notify, "Background", lambda *given, patience: Background(*given, patience=600.0))


@pytest.fixture
def webhook():
    """A local server: `.url`, and `.got`, the JSON bodies posted to it; paths /500 and /slow misbehave."""
    got = []
    release = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/slow":
                release.wait()
            got.append((self.headers["Content-Type"], json.loads(body)))
            self.send_response(500 if self.path == "/500" else 200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    server.url = f"http://127.0.0.1:{server.server_port}"
    server.got = got
    yield server
    release.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def into(tmp_path):
    """A command that appends its standard input to a file, and a way to read what came."""
    script = tmp_path / "append it.sh"
    path = tmp_path / "notices.jsonl"
    script.write_text('cat >> "$1"')
    read = lambda: [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []  # noqa: E731
    return f"sh '{script}' {path}", read


def run(toy, name, targets, kinds, **settings):
    """A study driven to its end with a notifier."""
    study = toy.create(name, **settings)
    hearer = notifier(toy.folder / name, targets, kinds)
    study.observers.append(hearer)
    # The observer was not there for the first event: as on a resume, it catches up from the log.
    toy.drive(study)
    study.interrupt("budget")
    hearer.close()
    return study


def test_the_end_reaches_a_webhook_and_a_command(toy, webhook, into):
    """Both get the same JSON: kind, a line for people, the study, its best and why it ended."""
    command, read = into
    study = run(toy, "s", [webhook.url, command], ["end"])
    leader = study.state.leader
    (kind, notice) = webhook.got[0]
    assert kind == "application/json"
    assert read() == [notice]
    assert len(webhook.got) == 1
    assert notice["kind"] == "end"
    assert notice["reason"] == "budget"
    assert notice["study"] == "toy"
    assert notice["trials"] == 12
    assert notice["best_per"] == pytest.approx(leader.best[0])
    assert notice["best_trial"] == leader.number
    assert notice["text"] == f"toy: ended (budget) after 12 trials; best PER {leader.best[0]:.4f} by trial " + str(
        leader.number
    )


def test_each_new_best_is_told_when_its_trial_ends(toy, into):
    """`best`: once for each trial that lowered the best, falling from notice to notice, the last one the leader."""
    command, read = into
    study = run(toy, "s", [command], ["best"])
    pers = [notice["best_per"] for notice in read()]
    assert pers == sorted(set(pers), reverse=True)
    assert pers[-1] == study.state.leader.best[0]
    trials = list(study.state.trials.values())
    expected, best = [], 9.0
    for trial in trials:
        if trial.best and trial.best[0] < best:
            best = trial.best[0]
            expected.append(trial.number)
    assert [notice["trial"] for notice in read()] == expected


def test_a_failure_is_told_once_it_is_final(toy, into):
    """A trial that is tried again is no news; one that failed for good is, with its error."""
    command, read = into
    study = toy.create("s", retries=1)
    hearer = notifier(toy.folder / "s", [command])
    study.observers.append(hearer)
    for _ in range(2):
        job = study.ask()
        study.fail(job.trial, job.attempt, "CUDA out of memory")
    hearer.close()
    assert [(notice["kind"], notice["trial"], notice["error"]) for notice in read()] == [
        ("failure", 0, "CUDA out of memory")
    ]


def test_after_a_resume_the_old_best_is_no_news(toy, into):
    """A study that goes on tells of a best only when it is better than what was there before."""
    command, read = into
    study = toy.create("s")
    toy.drive(study, events=40)
    before = study.state.leader.best[0]
    study.close()
    hearer = notifier(toy.folder / "s", [command], ["best", "end"])
    from tuner.study.study import Study

    again = Study.resume(toy.folder / "s", {}, [hearer])
    toy.drive(again)
    again.interrupt("budget")
    hearer.close()
    notices = read()
    assert all(notice["best_per"] < before for notice in notices if notice["kind"] == "best")
    assert notices[-1]["trials"] == 12


@pytest.mark.parametrize("how", ["refused", "500", "slow", "failing command", "hanging command"])
def test_a_target_that_fails_is_one_warning_line(toy, webhook, into, how, monkeypatch, capfd):
    """Nobody listening, an error, no answer, a command that fails or hangs: one line; the other target is told. That
    one is of the other sort, so that its own limit is never reached, however slow the machine.
    """
    good, read = into if how in ("refused", "500", "slow") else (webhook.url, lambda: [body for _, body in webhook.got])
    monkeypatch.setattr(notify, "TIMEOUT", 0.3 if how == "slow" else 600.0)
    monkeypatch.setattr(notify, "COMMAND_TIMEOUT", 0.3 if how == "hanging command" else 600.0)
    bad = {
        "refused": "http://127.0.0.1:9/",
        "500": webhook.url + "/500",
        "slow": webhook.url + "/slow",
        "failing command": f"{sys.executable} -c \"import sys; sys.exit('no mail today')\"",
        "hanging command": f'{sys.executable} -c "import time; time.sleep(600)"',
    }[how]
    study = run(toy, "s", [bad, good], ["end", "best"])
    assert study.done
    lines = [line for line in capfd.readouterr().err.splitlines() if line]
    assert len(lines) == 1
    assert lines[0].startswith(f"warning: --notify {notify.named(bad)}: ")
    assert lines[0].endswith("the search continues")
    assert ("no mail today" in lines[0]) == (how == "failing command")
    assert [notice["kind"] for notice in read()][-1] == "end"
    assert len(read()) > 1


def test_a_command_is_not_run_by_a_shell(toy, tmp_path, into):
    """Characters that mean something to a shell are arguments like others."""
    command, _ = into
    marker = tmp_path / "marker"
    send(f"{command.rsplit(' ', 1)[0]} {tmp_path / 'x;touch'} ; touch {marker} && $(touch {marker})", {"kind": "end"})
    assert (tmp_path / "x;touch").exists()
    assert not marker.exists()


@pytest.mark.parametrize(
    ("target", "word"),
    [
        ("no-such-command --x", "there is no command 'no-such-command'"),
        ("", "there is no command ''"),
        ("mail 'me", "No closing quotation"),
        ("ftp://host/x", "only http and https"),
        ("file:///etc/passwd", "only http and https"),
        ("http://", "is not a valid address"),
        ("https://[bad", "is not a valid address"),
        ("https://me:SECRET@host/path", "a user and password is not allowed"),
    ],
)
def test_a_target_that_cannot_be_is_refused_before_the_search(target, word):
    """An unknown command, open quotes, other schemes and empty addresses: one line each."""
    with pytest.raises(InputError) as caught:
        check_targets([target])
    assert len(caught.value.problems) == 1
    assert word in str(caught.value)
    assert str(caught.value).startswith("--notify ")
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        ("https://hooks.slack.com/services/T0/B0/SECRET", "https://hooks.slack.com/..."),
        ("https://host:8443/?token=SECRET", "https://host:8443/..."),
        ("curl -d @- https://hooks.slack.com/services/SECRET", "curl ..."),
        ("/usr/bin/tell", "/usr/bin/tell"),
    ],
)
def test_a_webhook_is_named_by_its_host(target, shown):
    """The path of a webhook is its key, and a command's arguments may hold one: neither is shown."""
    assert notify.named(target) == shown


def test_what_failed_does_not_quote_the_key(toy, into, capfd):
    """An address that urllib refuses, quoting its path, is told without it."""
    run(toy, "s", ["http://127.0.0.1:9/services/SEC RET/x"], ["end"])
    said = capfd.readouterr().err
    assert said.startswith("warning: --notify http://127.0.0.1:9/...: ") and said.count("\n") == 1
    assert "RET" not in said


def test_kinds_of_notices_are_checked(cli, tmp_path, tiny_data, real_space):
    """An unknown kind and kinds without a target are refused, from the command line too, before anything is made."""
    with pytest.raises(InputError, match="'finish' is not allowed; give end, failure, best"):
        observers.check([], ["true"], "end,finish")
    with pytest.raises(InputError, match="there is nothing to notify"):
        observers.check([], [], "end")
    done = cli("search", real_space, "--data", tiny_data, "--notify", "gopher://x", "--notify", "no-such", cwd=tmp_path)
    assert done.status == 2
    assert [line[:16] for line in done.err.splitlines()] == ["error: --notify "] * 2
    assert not list(tmp_path.iterdir())


def test_a_search_never_waits(toy):
    """An observer that hangs costs the study nothing; closing gives up after its patience, with one line."""
    stuck = threading.Event()
    hearer = Background("stuck", lambda _: stuck.wait() and None, patience=0.1)
    study = toy.create("s")
    study.observers.append(hearer)
    toy.drive(study)  # would hang here, or in the next line, if the observer were waited for
    hearer.close()
    assert study.done and not stuck.is_set()
    stuck.set()


def test_an_observer_that_raises_is_switched_off_with_one_line(toy, capfd):
    """The first exception of an observer is its last; every other observer still gets all events."""
    seen, calls = [], []

    def broken(event):
        calls.append(event)
        raise RuntimeError("first line\nsecond line")

    hearers = [Background("broken", broken), Background("whole", seen.append)]
    study = toy.create("s")
    study.observers += hearers
    toy.drive(study)
    for hearer in hearers:
        hearer.close()
    assert len(calls) == 1
    assert len(seen) > 50
    err = capfd.readouterr().err
    assert err == "warning: broken: RuntimeError: first line; it is switched off, the search continues\n"
