"""The record of how often a test split was scored."""

import pytest

from results.test_uses import FILE, record_use, uses, uses_text
from search_spaces import InputError


def test_each_use_is_counted_for_its_own_data(tmp_path):
    """In order, with what was scored; other data have their own count."""
    results = tmp_path / "new" / "studies"
    assert uses(results, "a") == []
    assert record_use(results, "a", what="s/0", per=0.2) == 1
    assert record_use(results, "b", what="s/0", per=0.3) == 1
    assert record_use(results, "a", what="s/1", per=0.1) == 2
    assert [(use["what"], use["per"]) for use in uses(results, "a")] == [("s/0", 0.2), ("s/1", 0.1)]
    assert uses_text(1) == "the first use of this test split" and uses_text(3) == "use 3 of this test split"


def test_a_line_cut_by_a_crash_still_counts_as_a_use(tmp_path):
    """Nothing is lost before or after it: somebody may have seen its number."""
    record_use(tmp_path, "a", what="s/0", per=0.2)
    with (tmp_path / FILE).open("ab") as file:
        file.write(b'{"time": "2026-')
    assert record_use(tmp_path, "a", what="s/1", per=0.1) == 3
    assert [use["what"] for use in uses(tmp_path, "a")] == ["s/0", "unknown", "s/1"]


def test_where_no_use_can_be_written_it_is_one_line(tmp_path):
    """A folder that is a file."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="a use of the test split must be recorded"):
        record_use(tmp_path / "file", "a", what="s/0", per=0.2)
