"""The configuration columns of the trials table: name, type, unit and meaning of each, from `RunConfig` itself."""

from __future__ import annotations

import typing
from pathlib import Path
from types import UnionType
from typing import Any, Union

from pydantic import BaseModel

from results.query import schema_rows as rows_of
from results.store.columns import COLUMNS, Column
from search_spaces.config import RunConfig

UNITS = {
    "data_max_bins": "bins",
    "data_bucket_batches": "batches",
    "data_days_per_batch": "days",
    "model_hidden": "units",
    "model_layers": "layers",
    "model_kernel": "bins",
    "model_stride": "bins",
    "model_head_layers": "layers",
    "schedule_horizon": "batches",
    "schedule_warmup_batches": "batches",
    "schedule_period_batches": "batches",
    "averaging_start_batch": "batches",
    "averaging_every_batches": "batches",
    "augmentation_smoothing_sd": "bins",
    "augmentation_smoothing_kernel": "bins",
    "augmentation_random_cut": "bins",
    "training_batches": "batches",
    "training_batches_per_epoch": "batches",
    "training_batch_size": "utterances",
    "training_accumulation": "micro-batches",
}
_ARROW = {bool: "bool", int: "int64", float: "float64"}


def config_columns() -> tuple[Column, ...]:
    """Every configuration column that a trial can have; those of a study depend on its kinds."""
    columns: dict[str, Column] = {}
    for section, field in RunConfig.model_fields.items():
        for model in _models(field.annotation):
            for key, about in model.model_fields.items():
                name = f"{section}_{key}"
                meaning = about.description or ""
                if key == "kind":
                    kinds = [str(m.model_fields["kind"].default) for m in _models(field.annotation)]
                    meaning = f"kind of {section}: {', '.join(kinds)}"
                if name in columns and meaning not in columns[name].meaning.split("; "):
                    meaning = f"{columns[name].meaning}; {meaning}"
                columns[name] = Column(name, _type(about.annotation), UNITS.get(name, ""), meaning)
    return tuple(columns.values())


def schema_rows(results_dir: Path | None = None) -> list[dict[str, str]]:
    """Every column as {table, column, type, unit, meaning}.

    With a results folder, the configuration columns are those of its studies; otherwise all possible ones.
    """
    known = {column.name: column for column in config_columns()}
    if results_dir is None:
        return [
            {"table": table, "column": name, "type": kind, "unit": unit, "meaning": meaning}
            for table, fixed in COLUMNS.items()
            for name, kind, unit, meaning in (*fixed, *(known.values() if table == "trials" else ()))
        ]
    rows = rows_of(results_dir, {name: column.meaning for name, column in known.items()})
    for row in rows:
        column = known.get(row["column"])
        if row["table"] == "trials" and column is not None:
            row.update(unit=column.unit, type=column.type)
    return rows


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The section's model, or the models of its kinds."""
    if isinstance(annotation, type):
        return [annotation] if issubclass(annotation, BaseModel) else []
    return [model for part in typing.get_args(annotation) for model in _models(part)]


def _type(annotation: Any) -> str:
    """The Arrow type of a setting's column; lists are JSON text."""
    origin = typing.get_origin(annotation)
    if origin in (Union, UnionType):
        (kind,) = {_type(part) for part in typing.get_args(annotation) if part is not type(None)}
        return kind
    if origin is typing.Annotated:
        return _type(typing.get_args(annotation)[0])
    return _ARROW.get(annotation, "string")
