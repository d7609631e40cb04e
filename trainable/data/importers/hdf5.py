"""Objects of an HDF5 file, read so that what is broken is named: links, content elsewhere, content that is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from trainable.data.importers.reading import MOST_BYTES, reading, unusable


def has(group: h5py.Group, name: str, where: str) -> bool:
    """Whether a group has something of this name, be it a link that leads nowhere."""
    with reading(where):
        return name in group


def member(group: h5py.Group, name: str, where: str) -> Any:
    """The object that `name` leads to; `Unusable` where it leads nowhere or the object is damaged."""
    with reading(where):
        link = group.get(name, getlink=True)
    if isinstance(link, h5py.SoftLink | h5py.ExternalLink):
        try:
            return group[name]
        except Exception:  # a link can fail in as many ways as what it leads to
            file = f"{link.filename}:" if isinstance(link, h5py.ExternalLink) else ""
            raise unusable(where, "link that leads nowhere", f"{name} leads to {file}{link.path}"[:120]) from None
    with reading(where):
        return group[name]


def array(group: h5py.Group, name: str, where: str) -> h5py.Dataset:
    """The array `name`, not yet read; `Unusable` where it is no array or its content is not there."""
    found = member(group, name, where)
    with reading(where):
        if not isinstance(found, h5py.Dataset) or found.shape is None:
            raise unusable(where, f"{name} is not an array", f"it is {_kind(found)}")
        if found.size * found.dtype.itemsize > MOST_BYTES:
            raise unusable(where, f"{name} is too large for an utterance", f"its shape is {list(found.shape)}")
        if found.is_virtual:
            for source in found.virtual_sources():
                file = Path(found.file.filename).parent / source.file_name
                if source.file_name != "." and not file.exists():
                    raise unusable(where, "link that leads nowhere", f"{name} takes its content from {file}"[:160])
        elif found.size and found.external is None and found.id.get_storage_size() == 0:
            raise unusable(where, f"the content of {name} was never written", "only its shape is there")
    return found


def attribute(group: h5py.Group, name: str, where: str) -> Any:
    """The value of an attribute, or None without it; `Unusable` where it is empty or damaged."""
    with reading(where):
        if name not in group.attrs:
            return None
        value = group.attrs[name]
    if isinstance(value, h5py.Empty):
        raise unusable(where, f"{name} has no value")
    return value


def content(found: h5py.Dataset, where: str) -> np.ndarray:
    """Everything in an array."""
    with reading(where):
        return np.asarray(found[()])


def _kind(found: Any) -> str:
    if isinstance(found, h5py.Group):
        return "a group"
    return "an empty one" if isinstance(found, h5py.Dataset) else "a type"
