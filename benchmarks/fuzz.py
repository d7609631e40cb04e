"""Damages what the program reads, in thousands of seeded ways, and counts what it should never do.

    python benchmarks/fuzz.py --inputs 3000                   # all areas, a few minutes on one core
    python benchmarks/fuzz.py --area log --inputs 1000 --seed 7 --keep found

An input is something whole (a study, a data folder, a space file, ...) with one to three edits drawn from the seed, and
the commands that read it, called in this process:

log        events.jsonl with flipped bits, edited numbers, lines doubled, moved, cut or put in; with tables and without
parquet    a table's file, likewise, beside its whole log
packed     the files of a packed data folder
hdf5       recordings in the '25 layout: attributes, data sets, links and bytes
mat        the '24 MATLAB files: cells, blocks, texts and bytes
pickle     the reference's pickle: what its lists hold, and bytes
arrays     the plain layout: what its arrays hold, and bytes
yaml       spaces and runs
curves     recorded curves as CSV
sql        queries and conditions
options    the command line: any command, options with values of any kind
names      names of studies, trials, files and folders

Counted: a crash (an exception that is no answer to the user: "this is a bug"), a hang (over --limit seconds),
and a silent change (the answer differs from the undamaged one's, and no line says why). Where that can be told only of
what proves itself: log and tables. Of recordings with one spoilt object, every other utterance must come in. What is
found is reduced to the fewest edits that still show it. Exit status 1 if anything was found.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # benchmarks/ is beside the packages, not one of them

import click

from benchmarks.fuzz_edits import Edit, apply, draw, draw_text, odd_value
from benchmarks.fuzz_recordings import LAYOUTS, make_layout, spoilt, untouched
from results.output import Sheet, render
from search_spaces.errors import InputError
from tuner.cli import main as command_line
from tuner.cli import tuner as commands

AREAS = ("log", "parquet", "packed", *LAYOUTS, "yaml", "curves", "sql", "options", "names")
BAD = {"crash": "crashes", "hang": "hangs", "silent change": "silent changes"}
"""What should never be, one and many."""
WRITERS = ("search", "resume", "train", "confirm", "lineage", "submit", "dashboard", "stop", "delete", "sync", "watch")
"""Commands that the area `options` calls only with what they refuse: they would run, wait, or serve."""


class Hang(BaseException):
    """A command took too long; no handler of the program's may take it for its own."""


@dataclass
class Answer:
    """What a command said."""

    status: int
    out: str
    err: str

    @property
    def crashed(self) -> bool:
        """Whether it ended in a way that is no answer."""
        return "this is a bug" in self.err or "Traceback" in self.err

    @property
    def told(self) -> bool:
        """Whether it says that something is wrong with what it read."""
        return self.status != 0 or "note: " in self.err or "warning: " in self.err or "problem: " in self.out


@dataclass
class Found:
    """Something that should never be."""

    area: str
    what: str
    """crash, hang or silent change"""
    where: str
    """The command, and the error or the difference: one of a kind is kept."""
    number: int
    edits: list[Edit]
    count: int = 1


@dataclass
class Counts:
    """Of one area."""

    inputs: int = 0
    seconds: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)


def call(*arguments: Any, limit: float = 30.0) -> Answer:
    """The command line in this process. Raises `Hang` after `limit` seconds."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    status = 0

    def stop(*_: Any) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, limit)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            command_line([str(argument) for argument in arguments])
    except SystemExit as left:
        status = left.code if isinstance(left.code, int) else 0
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    texts = (stream.buffer.getvalue().decode("utf-8", "replace") for stream in (out, err))
    return Answer(status, *texts)


Case = Callable[[list[Edit]], Iterator[tuple[str, Answer, str | None]]]
"""Edits -> (command, its answer, what a sound input answers or None) of each call, on a fresh copy."""


def judge(case: Case, edits: list[Edit], limit: float) -> tuple[str, str]:
    """(outcome, where) of one input: same, told, refused, silent change, crash or hang; the worst of its commands."""
    worst = ("same", "")
    ranks = ("same", "told", "refused", "silent change", "hang", "crash")
    command = "?"
    try:
        for command, answer, sound in case(edits):
            if answer.crashed:
                lines = [line for line in answer.err.splitlines() if line.startswith("error: ")]
                found = ("crash", f"{command}: {lines[0][7:] if lines else answer.err.strip().splitlines()[-1]}")
            elif sound is not None and answer.status == 0 and answer.out != sound and not answer.told:
                found = ("silent change", command)
            else:
                found = ("refused" if answer.status else "told" if answer.told else "same", "")
            worst = max(worst, found, key=lambda each: ranks.index(each[0]))
    except Hang:
        return "hang", f"{command}: over {limit:g} s"
    except (Exception, SystemExit) as error:  # of a function called without the command line
        return "crash", f"after {command}: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    return worst


def reduced(case: Case, edits: list[Edit], outcome: str, limit: float) -> list[Edit]:
    """The fewest of the edits that still come to this outcome."""
    for edit in list(edits):
        fewer = [other for other in edits if other is not edit]
        if fewer and judge(case, fewer, limit)[0] == outcome:
            edits = fewer
    return edits


class Place:
    """Where the inputs are made; a study, data and curves that are whole."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.results = root / "sound" / "results"
        self.work = root / "work"

    def make(self, areas: Sequence[str]) -> None:
        """Make what the areas start from."""
        from benchmarks.fuzz_sound import make_study
        from trainable.data.synthetic import make_synthetic

        make_study(self.results / "s")
        if {"packed", "options"} & set(areas):
            make_synthetic(self.root / "sound" / "data", "tiny")
        for kind in set(LAYOUTS) & set(areas):
            make_layout(LAYOUTS[kind], self.root / "sound" / kind)

    def fresh(self, name: str) -> Path:
        """A copy of something sound, in place of the last one."""
        shutil.rmtree(self.work, ignore_errors=True)
        shutil.copytree(self.root / "sound" / name, self.work / name, symlinks=True)
        return self.work / name


TRIALS = "select trial, status, best_per, last_per, epochs, cpu_seconds, attempts from trials order by trial"
EPOCHS = "select trial, epoch, per, val_loss, decision, rung from epochs order by all"
_sound: dict[str, str] = {}


def _asked(results: Path, sql: str) -> Answer:
    return call("query", sql, "--format", "json", "--results", results)


def _sound_of(place: Place, sql: str) -> str:
    if sql not in _sound:
        _sound[sql] = _asked(place.results, sql).out
    return _sound[sql]


def log_case(place: Place, rng: random.Random) -> tuple[Case, list[Edit]]:
    """The log of a study, with its tables or without."""
    whole = (place.results / "s" / "events.jsonl").read_bytes()
    with_tables, more = rng.random() < 0.5, rng.sample(range(7), 2)

    def case(edits: list[Edit]) -> Iterator[tuple[str, Answer, str | None]]:
        results = place.fresh("results")
        (results / "s" / "events.jsonl").write_bytes(apply(whole, edits))
        if not with_tables:
            for path in results.rglob("*.parquet"):
                path.unlink()
        for sql in (TRIALS, EPOCHS):
            yield "query", _asked(results, sql), _sound_of(place, sql)
        at = ("--results", results)
        others: tuple[tuple[Any, ...], ...] = (
            ("status", "s", *at),
            ("status", "s", "--format", "json", *at),
            ("best", "s", *at),
            ("show", "s/0", *at),
            ("results", "check", *at),
            ("results", "compact", "s", *at),
            ("report", "s", "--out", results / "page.html", *at),
        )
        for which in more:
            yield others[which][0], call(*others[which]), None
        yield "resume", _resumed(results / "s"), None
        yield "results repair", call("results", "repair", "s", *at), None
        yield "query after repair", _asked(results, TRIALS), None

    return case, draw(rng, whole)


def _resumed(folder: Path) -> Answer:
    from benchmarks.fuzz_sound import go_on

    try:
        problems = go_on(folder, epochs=3)
    except InputError as error:
        return Answer(2, "", "\n".join(f"error: {line}" for line in error.problems))
    return Answer(0, "", "\n".join(f"warning: {line}" for line in problems))


def parquet_case(place: Place, rng: random.Random) -> tuple[Case, list[Edit]]:
    """One table's file, beside the log that it was made from."""
    name = rng.choice(["studies", "trials", "epochs"])
    whole = (place.results / "s" / f"{name}.parquet").read_bytes()
    edits = draw(rng, whole)

    def case(edits: list[Edit]) -> Iterator[tuple[str, Answer, str | None]]:
        results = place.fresh("results")
        (results / "s" / f"{name}.parquet").write_bytes(apply(whole, edits))
        for sql in (TRIALS, EPOCHS):
            yield "query", _asked(results, sql), _sound_of(place, sql)
        at = ("--results", results)
        yield "best", call("best", "s", *at), None
        yield "results check", call("results", "check", *at), None
        yield "results compact", call("results", "compact", "s", *at), None

    return case, edits


def packed_case(place: Place, rng: random.Random) -> tuple[Case, list[Edit]]:
    """A file of a packed data folder."""
    name = rng.choice(["dataset.json", "dataset.json", "features.npy", "utterances.parquet", "utterances.parquet"])
    whole = (place.root / "sound" / "data" / name).read_bytes()
    head = whole[:200] if name == "features.npy" else whole

    def case(edits: list[Edit]) -> Iterator[tuple[str, Answer, str | None]]:
        data = place.fresh("data")
        changed = apply(head, edits) + whole[len(head) :]
        (data / name).write_bytes(changed)
        yield "data show", call("data", "show", data), None
        yield "data check", call("data", "check", data), None

    return case, draw(rng, head)


def recordings_case(kind: str) -> Callable[[Place, random.Random], tuple[Case, list[Edit]]]:
    """Recordings of a layout: an object of another kind in the place of one, or the bytes of a file."""

    def make(place: Place, rng: random.Random) -> tuple[Case, list[Edit]]:
        layout = LAYOUTS[kind]
        sound = place.root / "sound" / kind
        labels = ("--labels", sound / "labels.csv") if layout.labels else ()
        whole = (sound / layout.file).read_bytes()
        edits = draw(rng, whole) if rng.random() < 0.25 else [("object", rng.randrange(2**31), b"")]

        def case(edits: list[Edit]) -> Iterator[tuple[str, Answer, str | None]]:
            target = place.fresh(kind) / layout.file
            touched: set[str] | None = set()
            for edit in edits:
                if edit[0] == "object":
                    touched = spoilt(layout, target, random.Random(edit[1]), touched)
                else:
                    target.write_bytes(apply(target.read_bytes(), [edit]))
                    touched = None
            out = place.root / "packed"
            shutil.rmtree(out, ignore_errors=True)
            source = place.work / kind / layout.source
            yield "data import", call("data", "import", layout.kind, source, "--out", out, *labels), None
            if touched is not None:  # whatever happens to one utterance, the others come in as they were
                before, after = untouched(sound / "packed", touched), untouched(out, touched).splitlines()
                came = "\n".join(line for line in before.splitlines() if line in after)
                yield f"the other utterances of {layout.kind}", Answer(0, came, ""), before

        return case, edits

    return make


def yaml_case(place: Place, rng: random.Random) -> tuple[Case, list[Edit]]:
    """A space or a run."""
    import search_spaces

    kind = rng.choice(["spaces", "runs"])
    files = sorted((Path(search_spaces.__file__).parent / kind).glob("*.yaml"))
    whole = rng.choice(files).read_bytes()

    def case(edits: list[Edit]) -> Iterator[tuple[str, Answer, str | None]]:
        shutil.rmtree(place.work, ignore_errors=True)
        place.work.mkdir(parents=True)
        path = place.work / "mine.yaml"
        path.write_bytes(apply(whole, edits))
        yield f"{kind} show", call(kind, "show", path), None
        if kind == "spaces":
            yield "plan", call("plan", path), None

    return case, draw_text(rng, whole) if rng.random() < 0.7 else draw(rng, whole)


CURVES = "trial,batch,per,horizon\n" + "".join(
    f"t{trial},{10 * epoch},{round(0.9 - 0.05 * epoch - 0.01 * trial, 4)},80\n"
    for trial in range(5)
    for epoch in range(1, 9)
)


def curves_case(place: Place, rng: random.Random) -> tuple[Case, list[Edit]]:
    """Recorded curves."""
    whole = CURVES.encode()
    rule = rng.choice(["asha", "median", "asha at=horizon grace=0.25"])

    def case(edits: list[Edit]) -> Iterator[tuple[str, Answer, str | None]]:
        shutil.rmtree(place.work, ignore_errors=True)
        place.work.mkdir(parents=True)
        path = place.work / "curves.csv"
        path.write_bytes(apply(whole, edits))
        yield "audit", call("audit", path, "--rule", rule), None

    return case, draw_text(rng, whole) if rng.random() < 0.5 else draw(rng, whole)


SQL = (
    TRIALS,
    EPOCHS,
    "select study, min(best_per), count(*) from trials group by 1 having count(*) > 1 order by 2 desc limit 3",
    "with b as (select trial, min(per) p from epochs group by 1) select * from trials join b using (trial) where p < 1",
    "select created, ended - created, strftime(created, '%Y') from studies",
    "select trial, avg(per) over (partition by trial order by epoch rows 2 preceding) from epochs",
)


def sql_case(place: Place, rng: random.Random) -> tuple[Case, list[Edit]]:
    """A query, or a condition."""
    whole = rng.choice(SQL).encode()

    def case(edits: list[Edit]) -> Iterator[tuple[str, Answer, str | None]]:
        sql = apply(whole, edits).decode("utf-8", "replace").replace("\0", "")
        yield "query", call("query", sql, "--results", place.results), None
        _, _, where = sql.partition(" where ")
        yield "best --where", call("best", "--where", where or sql, "--results", place.results), None

    return case, draw_text(rng, whole)


def options_case(place: Place, rng: random.Random) -> tuple[Case, list[Edit]]:
    """Any command, with options of its own and values of any kind."""
    path, command = rng.choice(_leaves(commands, ()))
    words: list[str] = []
    for parameter in command.params:
        if isinstance(parameter, click.Argument):
            words += [odd_value(rng, place)] * rng.choice([0, 1, 1, 1, 2])
        elif rng.random() < 0.3:
            words.append(rng.choice(parameter.opts))
            if not getattr(parameter, "is_flag", False):
                words.append(odd_value(rng, place))
    rng.shuffle(words)
    edits: list[Edit] = [("word", index, word.encode("utf-8", "surrogateescape")) for index, word in enumerate(words)]

    def case(edits: list[Edit]) -> Iterator[tuple[str, Answer, str | None]]:
        given = [edit[2].decode("utf-8", "surrogateescape") for edit in edits]
        place.fresh("results")
        before = Path.cwd()
        os.chdir(place.work)
        try:
            if path[0] in WRITERS or path[-1] in WRITERS:
                given = ["--no-such-option", *given]
            yield " ".join(path), call(*path, *given), None
        finally:
            os.chdir(before)

    return case, edits


def _leaves(group: click.Group, path: tuple[str, ...]) -> list[tuple[tuple[str, ...], click.Command]]:
    found: list[tuple[tuple[str, ...], click.Command]] = []
    with click.Context(group) as context:
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            if isinstance(command, click.Group):
                found += _leaves(command, (*path, name))
            elif command is not None:
                found.append(((*path, name), command))
    return found


def names_case(place: Place, rng: random.Random) -> tuple[Case, list[Edit]]:
    """Odd names of studies, trials and files."""
    name = odd_value(rng, place)
    edits: list[Edit] = [("name", 0, name.encode("utf-8", "surrogateescape"))]
    makes = rng.random() < 0.5

    def case(edits: list[Edit]) -> Iterator[tuple[str, Answer, str | None]]:
        given = edits[0][2].decode("utf-8", "surrogateescape")
        results = place.fresh("results")
        if makes and "/" not in given and given not in ("", ".", "..") and "\0" not in given and len(given) < 200:
            (results / "s").rename(results / given)
        at = ("--results", results)
        for words in (
            ("status", given), ("best", given), ("show", f"{given}/0"), ("results", "check", given),
            ("results", "compact", given), ("results", "merge", given), ("importance", given), ("export", f"{given}/0"),
            ("runs", "show", given), ("spaces", "show", given), ("search", given, "--data", given),
            ("resume", given, "--data", given), ("data", "show", given),
        ):  # fmt: skip
            yield (
                " ".join(words[:-1]) or words[0],
                call(*words, *(at if words[0] not in ("runs", "spaces", "data") else ())),
                None,
            )

    return case, edits


MAKERS: dict[str, Callable[[Place, random.Random], tuple[Case, list[Edit]]]] = {
    "log": log_case,
    "parquet": parquet_case,
    "packed": packed_case,
    **{kind: recordings_case(kind) for kind in LAYOUTS},
    "yaml": yaml_case,
    "curves": curves_case,
    "sql": sql_case,
    "options": options_case,
    "names": names_case,
}


def run(
    inputs: int, seed: int, areas: Sequence[str], limit: float, say: Callable[[str], None]
) -> tuple[dict[str, Counts], list[Found]]:
    """Try `inputs` inputs, spread evenly over the areas; returns the counts and what was found, one of a kind."""
    counts = {area: Counts() for area in areas}
    found: dict[tuple[str, str, str], Found] = {}
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder))
        place.make(areas)
        for number in range(inputs):
            area = areas[number % len(areas)]
            rng = random.Random(f"{seed}/{area}/{number}")
            case, edits = MAKERS[area](place, rng)
            begun = time.perf_counter()
            outcome, where = judge(case, edits, limit)
            counts[area].inputs += 1
            counts[area].seconds += time.perf_counter() - begun
            counts[area].outcomes[outcome] += 1
            if outcome in BAD:
                key = (area, outcome, where)
                if key in found:
                    found[key].count += 1
                    continue
                found[key] = Found(area, outcome, where, number, reduced(case, edits, outcome, limit))
                say(f"{area}: {outcome}: {where}: input {number}, {found[key].edits}")
    return counts, list(found.values())


def table(counts: dict[str, Counts]) -> str:
    """The counts as a Markdown table."""
    rows = []
    for area, each in counts.items():
        kinds = {kind: each.outcomes[kind] for kind in ("same", "told", "refused")}
        bad = {plural: each.outcomes[kind] for kind, plural in BAD.items()}
        per = 1000 * each.seconds / max(1, each.inputs)
        rows.append({"area": area, "inputs": each.inputs, **kinds, **bad, "ms an input": round(per)})
    return render(Sheet.of(rows), "markdown")


def main(arguments: list[str] | None = None) -> int:
    """Run it; exit status 1 if anything was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=900)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--area", action="append", choices=AREAS, help="only these; may be given several times")
    parser.add_argument("--limit", type=float, default=30.0, help="seconds that a command may take")
    parser.add_argument("--keep", type=Path, help="write what is found to this file, as JSON")
    given = parser.parse_args(arguments)
    counts, found = run(
        given.inputs,
        given.seed,
        given.area or AREAS,
        given.limit,
        lambda line: print(line, file=sys.stderr, flush=True),
    )
    print(table(counts))
    for each in found:
        print(f"{each.count} x {each.area}: {each.what}: {each.where} (input {each.number} of seed {given.seed})")
    print(f"seed {given.seed}; load average {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores")
    if given.keep:
        rows = [{**vars(each), "edits": [[k, n, data.hex()] for k, n, data in each.edits]} for each in found]
        given.keep.write_text(json.dumps(rows, indent=1) + "\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
