"""`tuner spaces import` as a user runs it."""

import yaml

from tests.search_spaces.test_foreign import SWEEP


def test_the_command_writes_the_file_and_says_what_is_lost(call, tmp_path):
    """A table of what became of each parameter, notes, and the next command; an existing file is not replaced."""
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(SWEEP), encoding="utf-8")
    arguments = ("spaces", "import", tmp_path / "sweep.yaml", "--out", tmp_path / "mine.yaml")
    status, out, err = call(*arguments, "--map", "attention_heads=model.layers")
    assert status == 0, err
    assert "schedule.peak_lr" in out and "tuner search" in out and "note: method bayes" in out
    assert call("spaces", "show", tmp_path / "mine.yaml")[0] == 0
    status, _, err = call(*arguments)
    assert status == 2 and "exists; choose another --out, or replace it by --force" in err
