"""Stands in for `python`: hands its arguments to the warm one (`server.py`) and ends as that call ends.

Ray starts its workers with it, and tests the command line. It imports little, for it is started each time.
"""

import array
import json
import os
import select
import signal
import socket
import sys

PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PIPE = "RAY_enable_pipe_based_agent_to_parent_health_check"
CONTEXT = "--serialized-runtime-env-context="


def straight(words: list[str], variables: dict[str, str]) -> list[str]:
    """The words without the program of Ray that sets a worker's variables and then starts a fresh Python."""
    if not words[0].endswith("setup_worker.py"):
        return words
    (context,) = (word for word in words if word.startswith(CONTEXT))
    variables |= json.loads(context.removeprefix(CONTEXT))["env_vars"]
    return [word for word in words[1:] if word not in (context, "--language=PYTHON")]


def ask(server: socket.socket, words: list[str]) -> None:
    """Hand over the call: arguments, variables, folder, priority, and the three streams."""
    variables = dict(os.environ)
    call = {"words": straight(words, variables), "variables": variables, "folder": os.getcwd(), "nice": os.nice(0)}  # noqa: PTH109
    text = json.dumps(call).encode()
    streams = array.array("i", [0, 1, 2])
    server.sendmsg([len(text).to_bytes(4, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
    server.sendall(text)


def kind(words: list[str], of_ray: bool) -> str:
    """The server to ask; "" where none is warm for it: a service of Ray that looks for its parent, not at its pipe, and
    every process of a Ray (`of_ray`) whose processes are not known here.
    """
    worker, service = words[0].endswith("_worker.py"), words[0] == "-u"
    if (worker or service) and not of_ray:
        return ""
    if not service:
        return "worker" if worker else "command"
    by_pipe = "RAY_RAYLET_PID" not in os.environ or os.environ.get(PIPE) == "1"
    return "service" if by_pipe and f"{os.sep}ray{os.sep}" in words[1] else ""


def outlive_no_node(server: socket.socket) -> None:
    """Wait until a worker ends, and end a second after the node of Ray that it is a part of, as workers do."""
    above = os.getppid()
    if os.environ.get("RAY_RAYLET_PID") == str(above):
        ended, _, _ = select.select([server, os.pidfd_open(above)], [], [])
        if server not in ended and not select.select([server], [], [], 1)[0]:
            sys.exit(1)


def main(folder: str, python: str, of_ray: bool, words: list[str]) -> int:
    """The status with which the call has ended; a signal that ended it ends this process too."""
    asked = kind(words, of_ray)
    if not asked:
        os.execv(python, [python, *words])
    signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(f"{folder}/{asked}")
        ask(server, words)
        number = int.from_bytes(server.recv(4), "big")
        if not number:  # that service cannot be forked
            signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
            os.execv(python, [python, *words])
        for which in PASSED_ON:
            signal.signal(which, lambda caught, frame: os.kill(number, caught))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
        if asked == "worker":
            outlive_no_node(server)
        status = int.from_bytes(server.recv(4), "big", signed=True)
    if status < 0:
        if -status != signal.SIGKILL:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    return status


if __name__ == "__main__":
    folder, python, of_ray, *words = sys.argv[1:]
    sys.exit(main(folder, python, of_ray == "ray", words))
