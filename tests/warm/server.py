"""A Python that has imported torch, Ray and the program once, and forks for each call: a worker of Ray or a command.

What a fresh Python needs two or three seconds for is there already. Arguments, variables, folder, priority and streams
are the caller's (`python.py`), the process is one of its own, and a call whose caller was killed is killed. Programs of
Ray, its workers and agents, have a server for each set of Ray's variables, which the first call of its kind starts.

    python server.py FOLDER        until its standard input is closed
"""

from __future__ import annotations

import array
import atexit
import contextlib
import gc
import importlib
import json
import logging
import os
import runpy
import select
import selectors
import signal
import socket
import sys
import threading
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

FOLDER = Path(sys.argv[1])
"""Where the sockets are, and the program that stands in for `python`."""
WORKER = (
    "torch",
    "pandas",
    "pyarrow.dataset",
    "pyarrow.parquet",
    "requests",
    "jsonschema",
    "trainable.loop",
    "trainable.keeping",
    "tuner.backend.worker",
    "tuner.study.faults",
)
"""What a worker of Ray needs, but for Ray: it reads its variables when it is imported."""
COMMAND = ("optuna", "tuner.cli", "tuner.backend.ray_backend", "tuner.commands.search", "tuner.launch.search")
"""What commands need beside that."""
OWN = ("RAY_NODE_ID", "RAY_RAYLET_PID", "RAY_NODE_MANAGER_PORT", "RAY_JOB_ID")
"""Variables of Ray that are another one for each process, and no setting that it reads when it is imported. One it does
read: a worker ends when the process RAY_RAYLET_PID has ended, which `python.py` looks after in its stead."""
Taken = tuple[dict[str, Any], list[int], socket.socket]
"""A call, the caller's three streams, and the caller."""


def imported(names: tuple[str, ...]) -> None:
    """Import them, and let no collection in a process that was forked look at what there is by now."""
    for name in names:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()


def received(caller: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """A call, and the caller's three streams."""
    streams = array.array("i")
    head, extra, _, _ = caller.recvmsg(4, socket.CMSG_SPACE(3 * streams.itemsize))
    for _, _, data in extra:
        streams.frombytes(data)
    size, text = int.from_bytes(head, "big"), b""
    while len(text) < size or not head:
        if not (part := head and caller.recv(size - len(text))):
            raise EOFError
        text += part
    return json.loads(text), list(streams)


def become(call: dict[str, Any], streams: list[int], changed: dict[str, str]) -> None:
    """Be the process that was asked for, but for what the imports have set among the variables."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(call["folder"])
    os.environ.clear()
    os.environ.update(call["variables"] | changed)
    given = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    sys.path[1:1] = [path for path in given if path not in sys.path]
    os.nice(call["nice"] - os.nice(0))
    # One that is replaced, as Ray replaces two, must not close its number.
    opened = (os.fdopen(number, mode, closefd=False) for number, mode in enumerate("rww"))
    sys.stdin, sys.stdout, sys.stderr = opened
    sys.stdout.reconfigure(line_buffering=sys.stdout.isatty())
    sys.stderr.reconfigure(line_buffering=True, errors="backslashreplace")
    sys.executable = str(FOLDER / "python")


def run(words: list[str]) -> None:
    """What `python` does with these words: `-m MODULE`, `-c CODE` or a file, and what follows them."""
    if words[0] == "-u":
        words = words[1:]
        sys.stdout.reconfigure(write_through=True)
    if words[0] == "-m":
        sys.argv, sys.path[0] = words[1:], str(Path.cwd())
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    elif words[0] == "-c":
        sys.argv, sys.path[0] = ["-c", *words[2:]], ""
        main = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(words[1], vars(main))
    else:
        sys.argv, sys.path[0] = words, str(Path(words[0]).resolve().parent)
        main = sys.modules["__main__"] = types.ModuleType("__main__")
        main.__file__ = words[0]
        exec(compile(Path(words[0]).read_text(encoding="utf-8"), words[0], "exec"), vars(main))


def door_of(kind: str) -> socket.socket:
    """Where calls of a kind come in."""
    door = socket.socket(socket.AF_UNIX)
    door.bind(str(FOLDER / kind))
    door.listen(64)
    print("ready", flush=True)
    return door


def at_door(door: socket.socket) -> Taken:
    """The next call; EOFError if its caller was killed before it had asked."""
    caller, _ = door.accept()
    try:
        return *received(caller), caller
    except EOFError:
        caller.close()
        raise


def handed_on(pipe: socket.socket) -> Taken:
    """The next call that `serve_ray` took; once that has ended, so does this process."""
    text, descriptors, _, _ = socket.recv_fds(pipe, 2**20, 4)
    if not text:
        os._exit(0)
    *streams, caller = descriptors
    return json.loads(text), streams, socket.socket(fileno=caller)


def serve_ray(door: socket.socket) -> NoReturn:
    """Give each call to the server of its program and its settings of Ray, which the first such call starts."""
    servers: dict[tuple[Any, ...], socket.socket] = {}
    while door in select.select([door, sys.stdin], [], [])[0]:
        try:
            call, streams, caller = at_door(door)
        except EOFError:
            continue
        program, variables = next(word for word in call["words"] if word.endswith(".py")), call["variables"]
        settings = {name for name in variables if name.startswith(("RAY_", "TUNE_"))} - set(OWN)
        kind = (program, *((name, variables[name]) for name in sorted(settings)))
        if kind not in servers:
            servers[kind], pipe = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            if os.fork() == 0:
                for held in (door, caller, *servers.values()):
                    held.close()
                for stream in streams:
                    os.close(stream)
                serve(pipe, handed_on, become_server(program, variables))
            pipe.close()
        with contextlib.suppress(OSError):  # it could not be imported: the caller does without
            socket.send_fds(servers[kind], [json.dumps(call).encode()], [*streams, caller.fileno()])
        for stream in streams:
            os.close(stream)
        caller.close()
    os._exit(0)


def become_server(program: str, variables: dict[str, str]) -> dict[str, str]:
    """Import what a program of Ray imports, under the variables of one that called it; returns those this has set."""
    os.environ.clear()
    os.environ.update(variables | {"RAY_RAYLET_PID": str(os.getpid())})
    before = dict(os.environ)
    sys.argv, sys.path[0] = [program], str(Path(program).parent)
    logging.disable()
    found = runpy.run_path(program, run_name="imported")
    if "DashboardAgent" in found:  # it imports more when it runs
        found["dashboard_utils"].get_all_modules(found["dashboard_utils"].DashboardAgentModule)
    logging.disable(logging.NOTSET)
    imported(("tuner.backend.actor",) if program.endswith("_worker.py") else ())
    return changed_since(before)


def changed_since(before: dict[str, str]) -> dict[str, str]:
    """The variables that imports have set."""
    return {name: value for name, value in os.environ.items() if before.get(name) != value}


def serve(door: socket.socket, taken: Callable[[socket.socket], Taken], changed: dict[str, str]) -> NoReturn:
    """Answer the calls that come through a door, until standard input is closed."""
    events = selectors.DefaultSelector()

    def answer() -> None:
        try:
            call, streams, caller = taken(door)
        except EOFError:
            return
        if (number := os.fork()) == 0:
            for held in (events, door, caller):
                held.close()
            os.setsid()
            become(call, streams, changed)
            do(call["words"])
        for stream in streams:
            os.close(stream)
        with contextlib.suppress(OSError):  # killed meanwhile, which `left` sees
            caller.sendall(number.to_bytes(4, "big"))
        process = os.pidfd_open(number)
        events.register(process, selectors.EVENT_READ, lambda: ended(number, process, caller))
        events.register(caller, selectors.EVENT_READ, lambda: left(number, caller))

    def ended(number: int, process: int, caller: socket.socket) -> None:
        status = os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])
        with contextlib.suppress(OSError):
            caller.sendall(status.to_bytes(4, "big", signed=True))
        with contextlib.suppress(KeyError):
            events.unregister(caller)
        events.unregister(process)
        os.close(process)
        caller.close()

    def left(number: int, caller: socket.socket) -> None:
        if caller.fileno() < 0:  # the call ended in the same moment
            return
        events.unregister(caller)
        os.kill(number, signal.SIGKILL)

    events.register(door, selectors.EVENT_READ, answer)
    events.register(sys.stdin, selectors.EVENT_READ, lambda: os._exit(0))
    while True:
        for key, _ in events.select():
            key.data()


def do(words: list[str]) -> NoReturn:
    """Run them and end as Python ends, but for the collection of all that was imported."""
    status: Any = 0
    try:
        run(words)
    except SystemExit as error:
        status = error.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    if not isinstance(status, int | None):
        print(status, file=sys.stderr)
        status = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status or 0)


if __name__ == "__main__":
    # Arrow's thread for its memory makes ready for a fork by itself.
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
    at_start = dict(os.environ)
    if os.fork() == 0:
        serve_ray(door_of("service"))
    imported(WORKER)
    if os.fork() == 0:
        serve_ray(door_of("worker"))
    imported(COMMAND)
    serve(door_of("command"), at_door, changed_since(at_start))
