"""Write the list of columns in docs/tables.md from the program's own: python docs/make_tables.py."""

from __future__ import annotations

from pathlib import Path

from results.schema import config_columns
from results.store.columns import COLUMNS, Column

PAGE = Path(__file__).with_name("tables.md")
BEGIN = "<!-- columns: written by docs/make_tables.py -->\n"
END = "<!-- end of columns -->\n"


def columns_page() -> str:
    """The part of the page between the two marks."""
    parts = []
    for table, columns in COLUMNS.items():
        parts.append(f"### {table}\n\n{_table(columns)}")
        if table == "trials":
            parts.append(
                "### trials: the configuration\n\nA column is there if a trial of the study has the setting; the "
                f"others are not.\n\n{_table(config_columns())}"
            )
    return "\n" + "\n".join(parts) + "\n"


def _table(columns: tuple[Column, ...]) -> str:
    lines = ["| column | type | unit | meaning |", "|---|---|---|---|"]
    lines += [f"| `{name}` | {kind} | {unit} | {meaning} |" for name, kind, unit, meaning in columns]
    return "\n".join(lines) + "\n"


def replaced(text: str) -> str:
    """The page with that part as it should be."""
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return head + BEGIN + columns_page() + END + tail


if __name__ == "__main__":
    PAGE.write_text(replaced(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
