"""A table of results: an Arrow table with a display of its own, which opens in pandas and polars in one call."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from results.output import Sheet, render
from search_spaces.errors import InputError
from tuner.front import html

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

ROWS = 10
"""Number of rows shown; the data frames have all."""


class Table:
    """Rows of results. `shown` names the columns that are displayed; the data frames have all columns.

    pandas, polars, DuckDB and Arrow also take the object itself, by Arrow's C stream: `polars.DataFrame(table)`.
    """

    def __init__(self, table: pa.Table, shown: Sequence[str] = ()) -> None:
        self._table = table
        self._shown = [name for name in shown if name in table.column_names] or table.column_names

    @property
    def columns(self) -> list[str]:
        """The names of all columns. `tuner query --schema` says what they mean."""
        return list(self._table.column_names)

    def to_pandas(self) -> pd.DataFrame:
        """The table as a pandas data frame. Raises InputError if pandas is not installed."""
        _need("pandas")
        return self._table.to_pandas()

    def to_polars(self) -> pl.DataFrame:
        """The table as a polars data frame. Raises InputError if polars is not installed."""
        frame: pl.DataFrame = _need("polars").from_arrow(self._table)
        return frame

    def to_arrow(self) -> pa.Table:
        """The table as an Arrow table."""
        return self._table

    def to_dicts(self) -> list[dict[str, Any]]:
        """The rows as dictionaries of plain Python values."""
        rows: list[dict[str, Any]] = self._table.to_pylist()
        return rows

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self._table.__arrow_c_stream__(requested_schema)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.to_dicts())

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __repr__(self) -> str:
        return f"{render(self._head())}{self._size()}"

    def _repr_html_(self) -> str:
        return html.table(self._head(), caption=self._size())

    def _head(self) -> Sheet:
        if self._shown == self._table.column_names:  # by position: a query may give two columns one name
            return Sheet.of_table(self._table.slice(0, ROWS))
        return Sheet.of_table(self._table.select(self._shown).slice(0, ROWS))

    def _size(self) -> str:
        rows, columns = self._table.num_rows, self._table.num_columns
        size = f"{rows} row{'s' * (rows != 1)}, {columns} column{'s' * (columns != 1)}"
        hidden = rows > ROWS or len(self._shown) < columns
        return f"{size}; to_pandas(), to_polars() and to_arrow() have them all" if hidden else size


def _need(package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise InputError(f"{package} is not installed; run: pip install {package}, or use to_arrow()") from error
