"""The pages of docs/: what they show works, and what they list is what there is."""

from __future__ import annotations

import importlib.util
import itertools
import re
import shlex
from pathlib import Path
from types import ModuleType

import click
import pytest
from click.shell_completion import shell_complete

from results.store.events import EventLog
from results.store.tables import compact
from search_spaces import load_run, load_space, to_dict
from tuner.cli import tuner

ROOT = Path(__file__).parents[1]
ROOMS = ("search_spaces", "trainable", "results", "tuner")
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.glob("*.md")])
BLOCKS = re.findall(r"### (\w+)\n\n```python\n(.*?)```", (DOCS / "tables.md").read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    """Two studies of real configurations whose kinds differ, so that their columns do; one trial has no PER."""
    root = tmp_path / "results" / "studies"
    for name, run in (("an4", "small"), ("t15", "speechBaseline4")):
        with EventLog(root / name / "events.jsonl") as log:
            log.append("study_started", study=name, space=None, data={"name": name}, seed=0, objective="best_per")
            for trial, pers in enumerate([[0.9, 0.31, 0.35], [0.8, None], [0.7, 0.25]]):
                config = to_dict(load_run(run).config)
                log.append("trial_started", trial=trial, attempt=1, seed=0, origin="searched", params={}, config=config)
                for epoch, per in enumerate(pers, start=1):
                    row = {"epoch": epoch, "batch": 100 * epoch, "per": per, "per_raw": per and per + 0.01}
                    log.append("epoch", trial=trial, attempt=1, **row, decision="continue", rung=None)
                log.append("trial_ended", trial=trial, attempt=1, status="completed", cpu_seconds=2.0, gpu_seconds=0.0)
            log.append("study_ended", reason="budget")
        compact(root / name)
    return tmp_path


@pytest.mark.parametrize(("tool", "code"), BLOCKS, ids=[tool for tool, _ in BLOCKS])
def test_the_tables_open_with_nothing_of_ours(
    tool: str, code: str, studies: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each block of docs/tables.md runs as it stands, imports none of our rooms, and finds the best trial."""
    assert not re.search(r"(search_spaces|trainable|tuner|import results)", code)
    monkeypatch.chdir(studies)
    namespace: dict[str, object] = {}
    exec(compile(code, f"docs/tables.md ({tool})", "exec"), namespace)
    best = namespace["best"]
    rows = {
        "pandas": lambda: best.to_dict("records"),
        "polars": lambda: best.to_dicts(),
        "DuckDB": lambda: best.df().to_dict("records"),
    }[tool]()
    assert [(row["study"], row["trial"], row["best_per"]) for row in rows[:2]] in (
        [("an4", 2, 0.25), ("t15", 2, 0.25)],
        [("t15", 2, 0.25), ("an4", 2, 0.25)],
    )
    assert {row["schedule_kind"] for row in rows} == {"one_cycle", "constant"}
    assert "0.25" in capsys.readouterr().out


def program(name: str) -> ModuleType:
    """A program of docs/, as a module."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_tool_has_its_block() -> None:
    """The page shows pandas, polars and DuckDB."""
    assert [tool for tool, _ in BLOCKS] == ["pandas", "polars", "DuckDB"]


def test_the_page_lists_every_column() -> None:
    """docs/tables.md has the columns as the program has them; python docs/make_tables.py writes them."""
    module = program("make_tables")
    page = (DOCS / "tables.md").read_text(encoding="utf-8")
    assert module.replaced(page) == page
    assert "`schedule_peak_lr`" in page


def test_every_configuration_column_has_a_meaning() -> None:
    """A setting without a description would be a column that nobody can read; units name columns there are."""
    from results.schema import UNITS, config_columns

    columns = config_columns()
    assert all(column.meaning for column in columns)
    assert set(UNITS) <= {column.name for column in columns}
    flat = {f"{s}_{key}" for s, values in to_dict(load_run("speechBaseline4").config).items() for key in values}
    assert flat <= {column.name for column in columns}


def links(page: Path) -> list[str]:
    """Targets of the page's links and pictures that lie in the project, without the place in the page."""
    text = page.read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'<img src="([^"]+)"', text)
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def headings(page: Path) -> set[str]:
    """The places of a page that a link can name, as GitHub makes them from its headings."""
    found = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


def test_the_index_links_every_page() -> None:
    """docs/README.md names each page of docs/, and README.md leads to it."""
    listed = {(DOCS / target).resolve() for target in links(DOCS / "README.md")}
    assert set(DOCS.glob("*.md")) - {DOCS / "README.md"} <= listed
    assert "docs/README.md" in links(ROOT / "README.md")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Each relative link names a file that exists, and a heading of it where it names one."""
    for target in links(page):
        name, _, place = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{page.name}: {target}"
        assert not place or place in headings(file), f"{page.name}: {target}: there is no such heading"


def shown_lines(page: Path) -> list[str]:
    """The `tuner` command lines of a page's blocks of code; a line whose quote is open goes on in the next one."""
    lines: list[str] = []
    for line in re.sub(r"```(?!sh).*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL).splitlines():
        if lines and lines[-1].count('"') % 2:
            lines[-1] += f" {line.strip()}"
        elif line.startswith(("    tuner ", "tuner ")):
            lines += [part.strip() for part in re.split(r"; (?=tuner )", line)]
    return lines


def named_in_text(page: Path) -> list[str]:
    """The `tuner ...` phrases of a page's sentences and tables."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return [" ".join(phrase.split()) for phrase in re.findall(r"`(tuner [a-z][^`]*)`", text)]


def find_command(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that a line names, and the rest of its words."""
    command: click.Command = tuner
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(click.Context(command), words[0])
        if found is None:
            raise click.UsageError(f"there is no command {words[0]}")
        command, words = found, words[1:]
    return command, words


def parse(line: str) -> None:
    """Parse a command line as `tuner` would, without running it or looking for its files; raises as click does."""
    command, words = find_command(shlex.split(line, comments=True)[1:])
    context = click.Context(command)
    given, rest, _ = command.make_parser(context).parse_args(words)
    if rest and not any(
        isinstance(parameter, click.Argument) and parameter.nargs == -1 for parameter in command.params
    ):
        raise click.UsageError(f"{rest} is too much")
    for parameter in command.params:
        value = given.get(parameter.name)
        if not isinstance(value, str | tuple | list) or not value:  # click marks what is not given
            if isinstance(parameter, click.Argument) and parameter.required:
                raise click.UsageError(f"{parameter.name} is missing")
        elif not isinstance(parameter.type, click.Path | click.File):
            parameter.type_cast_value(context, value)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_command_lines_parse(page: Path) -> None:
    """Each `tuner` line of a page's code parses: its command and options exist, its values are allowed."""
    for line in shown_lines(page):
        try:
            parse(line)
        except (click.ClickException, ValueError) as error:
            pytest.fail(f"{page.name}: {line}: {error}")


def check_phrase(phrase: str) -> None:
    """Check the command, options and choices of a phrase such as `tuner log STUDY [--to tensorboard|mlflow]`."""
    words = re.sub(r"[\[\]]", " ", phrase).split()[1:]
    for line in itertools.product(*(word.split("|") for word in words)):
        command, rest = find_command(list(line))
        options = {name: p for p in command.get_params(click.Context(command)) for name in p.opts}
        for word, value in itertools.pairwise([*rest, ""]):
            if word.startswith("--") and len(word) > 2:
                if word not in options:
                    raise click.NoSuchOption(word)
                if isinstance(options[word].type, click.Choice) and value:
                    options[word].type.convert(value, None, None)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_named_in_sentences_exist(page: Path) -> None:
    """Each `tuner ...` phrase of a page's text names a command and options that exist, and choices that are allowed."""
    for phrase in named_in_text(page):
        try:
            check_phrase(phrase)
        except click.ClickException as error:
            pytest.fail(f"{page.name}: {phrase}: {error.format_message()}")


def test_a_wrong_line_is_found() -> None:
    """The parser above finds a command, an option and a value that do not exist, and an argument too many."""
    for line in (
        "tuner serch small",
        "tuner best first --topp 5",
        "tuner best first --format xml",
        "tuner report",
        "tuner show first 3 4",
        "tuner results shred first",
    ):
        with pytest.raises(click.ClickException):
            parse(line)
    for phrase in ("tuner serch", "tuner best --topp", "tuner log --to tensorboard|xml", "tuner results check|shred"):
        with pytest.raises(click.ClickException):
            check_phrase(phrase)


def test_the_first_study_has_ten_commands() -> None:
    """README.md keeps its promises: ten commands, and fewer than 900 words."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.partition("## A first study in ten commands")[2].partition("\n## ")[0]
    assert len(re.findall(r"^    tuner ", section, re.MULTILINE)) == 10
    assert len(text.split()) < 900


def test_the_space_of_the_page_loads(tmp_path: Path) -> None:
    """The space that docs/spaces.md shows is a space, and so are its further dimensions over the same base."""
    blocks = re.findall(r"```yaml\n(.*?)```", (DOCS / "spaces.md").read_text(encoding="utf-8"), re.DOTALL)
    found = []
    for block in blocks:
        (tmp_path / "shown.yaml").write_text(block if "base:" in block else f"base: small\n{block}", encoding="utf-8")
        found.append({dimension.kind for dimension in load_space(tmp_path / "shown.yaml").dimensions})
    assert found == [
        {"choice", "log_uniform", "uniform", "value"},
        {"int", "normal", "log_normal", "log_uniform"},
        {"choice", "log_uniform"},
    ]


def test_pictures_are_small() -> None:
    """A clone stays small: no picture of docs/ is larger than 150 kB."""
    sizes = {path.name: path.stat().st_size for path in DOCS.iterdir() if path.suffix in (".png", ".svg")}
    assert sizes
    assert max(sizes.values()) < 150_000, sizes


def test_the_picture_of_the_terminal_can_be_made_again() -> None:
    """docs/make_pictures.py draws the live view of a study from its log, and its table of the best configurations."""
    picture = program("make_pictures").terminal("study", ROOT / "tests" / "fixtures" / "before_rooms", events=20)
    words = re.sub(r"<[^>]*>|&#160;", " ", picture)
    assert "trials ended" in words
    assert "best_per" in words


def test_every_variable_of_the_environment_is_on_the_page() -> None:
    """docs/README.md has each TUNER_ variable that the code reads, and no other; completion works as it says."""
    page = (DOCS / "README.md").read_text(encoding="utf-8").partition("## Environment")[2].partition("\n## ")[0]
    files = [
        path for room in ("search_spaces", "trainable", "results", "tuner") for path in (ROOT / room).rglob("*.py")
    ]
    code = "\n".join(path.read_text(encoding="utf-8") for path in files)
    read = set(re.findall(r"""(?:environ(?:\.get)?[\[(]|envvar=)\s*"(TUNER_[A-Z_]+)""", code))
    assert read == set(re.findall(r"`(TUNER_[A-Z_]+)`", page))
    assert "_TUNER_COMPLETE=bash_source tuner" in page
    found = shell_complete(tuner, {}, "tuner", "_TUNER_COMPLETE", "bash_source")
    assert found == 0


def test_extras_are_installed_from_the_checkout() -> None:
    """The package is in no index: no text and no page says to install it from one."""
    files = [*DOCS.glob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    files += [
        path for room in ("search_spaces", "trainable", "results", "tuner") for path in (ROOT / room).rglob("*.py")
    ]
    wrong = [path.name for path in files if re.search(r"pip install ['\"]?b2t-tuner", path.read_text(encoding="utf-8"))]
    assert not wrong
