"""The versions that the project is tested with, as two files that pip takes with `-c`.

    make lock                             # what constraints.txt pins stays; what is missing comes, what is unused goes
    make lock CONSTRAINTS=                # the newest of everything: run the tests before it is committed
    python .ci/lock.py --without torch    # prints what the tests need, without torch
    python .ci/lock.py --age              # how old the two files are

Nothing is installed. constraints.txt is what pip resolves for the program with every extra; constraints-oldest.txt is
what uv resolves for the tests with the lowest version of everything that pyproject.toml names. CUDA's own packages are
left out of both: which of them there are depends on the build of torch that a machine gets.
"""

from __future__ import annotations

import datetime
import json
import platform
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
EXTRAS = "dev,g2p,cluster"
OF_CUDA = re.compile(r"nvidia-|cuda-|triton$")
HEAD = """\
# A version of everything that the program installs with every extra (Python {python}, {system}), of {date}, made by
# `make lock`. The suite is run with these. pip reads the file through the Makefile: pip install -c constraints.txt
"""
TORCH = "2.13.0"
"""The torch of the tests with the oldest versions."""
OLD = 180
"""Days after which a lock is called old."""
OLDEST = f"""\
# The lowest version of everything that pyproject.toml names, and what goes with it (Python {{python}}, {{system}}),
# of {{date}}, made by `make lock`. `make test-oldest` runs the core of the suite with these.
# One is not the lowest: the torch that is allowed since 2.7 brings several GB of CUDA's libraries on Linux. What is
# tested is {TORCH}; to test the lowest, write 2.7.0 here.
"""


def requirements(without: str) -> list[str]:
    """What the program and its tests need, but for one package."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    names = ["test", *re.search(r"\[(.+)\]", extras["test"][-1])[1].split(",")]
    found = project["dependencies"] + [line for name in names for line in extras[name]]
    return [line for line in found if re.split(r"[\[<>=~ ]", line)[0] not in (without, project["name"])]


def newest(constraints: str) -> dict[str, str]:
    """Name -> version of all that an installation with every extra would bring."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--report", "-"]
    if constraints:
        command += ["-c", constraints]
    done = subprocess.run([*command, f"{ROOT}[{EXTRAS}]"], stdout=subprocess.PIPE, text=True, check=True)
    found = {}
    for item in json.loads(done.stdout)["install"]:
        name = re.sub(r"[-_.]+", "-", item["metadata"]["name"]).lower()
        found[name] = item["metadata"]["version"].split("+")[0]  # 2.13.0+cpu is 2.13.0 where there is another build
    return {name: version for name, version in sorted(found.items()) if name != "b2t-tuner"}


def oldest() -> dict[str, str]:
    """Name -> version, with the lowest version of every direct requirement of the tests."""
    python = ".".join(platform.python_version_tuple()[:2])
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--resolution", "lowest-direct"]
    command += [
        "--extra",
        "test",
        "--python-version",
        python,
        "--no-header",
        "--no-annotate",
        "-c",
        "-",
        "pyproject.toml",
    ]
    done = subprocess.run(command, cwd=ROOT, input=f"torch=={TORCH}\n", stdout=subprocess.PIPE, text=True, check=True)
    return dict(line.split("==") for line in done.stdout.split() if "==" in line)


def age(text: str, today: datetime.date) -> str:
    """How old the lock with this text is, from the date in its head; from `OLD` days on, what to do."""
    days = (today - datetime.date.fromisoformat(re.search(r"of (\d{4}-\d\d-\d\d), made by", text)[1])).days
    renew = "; old: 'make lock CONSTRAINTS=' takes the newest of everything, then run the tests" if days >= OLD else ""
    return f"{days} days old{renew}"


def write(name: str, head: str, pins: dict[str, str]) -> None:
    """Write a file of pins and say how many it has."""
    pins = {package: version for package, version in pins.items() if not OF_CUDA.match(package)}
    python = ".".join(platform.python_version_tuple()[:2])
    head = head.format(python=python, system=platform.system(), date=datetime.datetime.now(datetime.UTC).date())
    (ROOT / name).write_text(head + "".join(f"{package}=={version}\n" for package, version in pins.items()))
    print(f"{name}: {len(pins)} versions")


def main(arguments: list[str]) -> None:
    """See the top of the file."""
    if arguments[:1] == ["--without"]:
        print("\n".join(requirements(arguments[1])))
        return
    if arguments == ["--age"]:
        today = datetime.datetime.now(datetime.UTC).date()
        for name in ("constraints.txt", "constraints-oldest.txt"):
            print(f"{name}: {age((ROOT / name).read_text(), today)}")
        return
    write("constraints.txt", HEAD, newest("".join(arguments)))
    write("constraints-oldest.txt", OLDEST, oldest())


if __name__ == "__main__":
    main(sys.argv[1:])
