"""Terminals that are not UTF-8, and signals at any moment: a command ends as it should, whatever is shown."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def environment(**more):
    """That of a user, without what says how Python writes text."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "LC_", "LANG"))}
    return {**kept, "PYTHONPATH": str(ROOT), "COLUMNS": "120", **more}


@pytest.mark.parametrize("setting", [{"PYTHONIOENCODING": "latin-1"}, {"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C"}])
def test_a_table_is_shown_on_any_terminal(setting, toy):
    """Where it is no UTF-8 the table's lines become hyphens and other signs question marks. A file is always UTF-8."""
    toy.create("s").close()
    sql = "select 'é 雪 …' as word, count(*) as n from trials"
    command = [sys.executable, "-m", "tuner", "query", sql, "--results", str(toy.folder)]
    done = subprocess.run(command, env=environment(**setting), capture_output=True, timeout=600)
    assert done.returncode == 0, done.stderr
    if setting.get("PYTHONIOENCODING") == "latin-1":
        shown = done.stdout.decode("latin-1")
        assert "--" in shown and "é ? ..." in shown
    else:  # click takes ASCII for a terminal that was not set up, and writes UTF-8
        assert "é 雪 …" in done.stdout.decode("utf-8")
    out = toy.folder / "out.csv"
    done = subprocess.run([*command, "--out", str(out)], env=environment(**setting), capture_output=True, timeout=600)
    assert done.returncode == 0 and out.read_text(encoding="utf-8") == "word,n\né 雪 …,0\n"


def test_an_error_is_shown_on_any_terminal(tmp_path):
    """One line and status 2, with the signs that there are."""
    command = [sys.executable, "-m", "tuner", "best", "雪", "--results", str(tmp_path)]
    done = subprocess.run(command, env=environment(PYTHONIOENCODING="ascii"), capture_output=True, timeout=600)
    assert done.returncode == 2 and done.stderr.count(b"\n") == 1 and b"Traceback" not in done.stderr


TIDIES = """
    import os, signal, sys, time
    from tuner import cli

    class Command:
        def main(self, *_, **__):
            times = int(os.environ["TIMES"])
            try:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(600)
            finally:  # it tidies up, and is told again
                if times > 1:
                    os.kill(os.getpid(), signal.SIGTERM)
                    time.sleep(600)

    cli.tuner = Command()
    sys.argv = ["tuner"]
    cli.main()
"""


@pytest.mark.parametrize("times", [1, 2])
def test_sigterm_once_and_twice_is_130(times, tmp_path):
    """Also while the command tidies up after the first."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(TIDIES)],
        env=environment(TIMES=str(times)),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 130 and done.stderr == "stopped\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_it_leaves_is_130(number):
    """A further Ctrl-C, or SIGTERM, after everything was said: no traceback, and the status of the first."""
    leaves = f"import os, time; from tuner import terminal; terminal.leaves_now(); os.kill(os.getpid(), {int(number)})"
    done = subprocess.run(
        [sys.executable, "-c", f"{leaves}; time.sleep(60)"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (130, "")


def test_a_server_that_is_told_to_end_leaves_with_130(toy):
    """A command without handlers of its own."""
    toy.create("s").close()
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "tuner", "report", "s", "--serve", "--port", "0", "--results", str(toy.folder)],
        env=environment(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert "http://127.0.0.1" in process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    assert process.wait(600) == 130
    assert "Traceback" not in process.stderr.read()
