"""Commands that are printed can be pasted: folders and files with spaces are quoted, and --results goes along."""

import re
import shlex
from pathlib import Path

from results.store.paths import RESULTS, where_option


def test_the_results_folder_goes_along_quoted():
    """Nothing for the usual folder; a shell gets any other one back as it is."""
    assert where_option(RESULTS) == ""
    for name in ("my results/studies", "a'b", "$(touch x)", "雪"):
        assert shlex.split(where_option(Path(name))) == ["--results", name]


def test_what_is_printed_can_be_pasted(toy, tmp_path, monkeypatch, cli):
    """Each `tuner ...` in what these commands print reads as its arguments, with the folders of two words whole."""
    driven = toy.create("my results/s")
    toy.drive(driven)
    driven.close()
    results = toy.folder / "my results"
    out = tmp_path / "a new space.yaml"
    said = [
        cli("spaces", "narrow", "s", "--results", results, "--out", out),
        cli("importance", "s", "--results", results),
        cli("stop", "s", "--trial", 0, "--results", results),
        cli("show", "s", "0", "--results", results),
        cli("results", "add-recorded", "--study", "recorded", "--results", results),
        cli("simulate", "s", "--stopping", "median", "--repeats", "2", "--results", results),
        cli("data", "synthetic", "tiny", "--out", tmp_path / "my data"),
    ]
    printed = []
    for one in said:
        text = one.out + one.err
        printed += [match.strip() for match in re.findall(r"tuner (?:[^;\n]|(?<=['\"]);)+", text) if "'" in match]
    words = [word for command in printed for word in shlex.split(command.split("   ")[0])]
    assert str(results) in words and str(out) in words and str(tmp_path / "my data") in words
    assert not any(str(results).startswith(word) and word.endswith("/my") for word in words)
