"""TensorBoard event files: their scalars by step, and the settings of the HParams page.

The package tensorboardX, which `--log tensorboard` writes with, has the protocol buffers; the frame around each record
(TFRecord: length, checksum, data, checksum) is read here, with both checksums and every length checked. tensorboard
itself would bring a web server and gRPC, and tbparse pandas and tensorboard, for those twenty lines.
"""

from __future__ import annotations

import importlib.util
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from search_spaces import InputError
from tuner.planned.imported.curves import PastLog, trials_of
from tuner.planned.imported.logs import settings_of, table_rows
from tuner.planned.imported.settings import Understood
from tuner.planned.past import PastTrial

PATTERN = "events.out.tfevents.*"
_MOST_RECORD = 64 << 10
"""Bytes of a record with scalars; longer ones are images and histograms, and are passed over."""
_MASK = 0xA282EAD8


def holds(folder: Path) -> bool:
    """Whether a folder is of this kind."""
    return next(folder.glob(PATTERN), None) is not None


def read(
    folder: Path,
    problems: list[str],
    *,
    columns: dict[str, str],
    given: str | None = None,
    utterances: int | None = None,
) -> tuple[list[PastTrial], Understood]:
    """The trial in a folder of event files. Raises `InputError` for one without a PER, or without the package."""
    if importlib.util.find_spec("tensorboardX") is None:
        raise InputError(
            f"{folder}: needs the package tensorboardX; pip install '.[tensorboard]' in the checkout of b2t-tuner"
        )
    table: dict[int, dict[str, Any]] = {}
    hparams: dict[str, Any] = {}
    for path in sorted(folder.glob(PATTERN)):
        for step, name, value in _scalars(path, hparams, problems):
            table.setdefault(step, {"step": step})[name] = value
    if not table:
        raise InputError(f"{folder}: its event files have no scalars; is it the folder of a run?")
    settings = settings_of(given, folder, utterances, hparams)
    ours = "batch" in {name for row in table.values() for name in row}
    rows = [_as_epoch(row) if ours else row for _, row in sorted(table.items())]
    found, notes, split = table_rows(rows, columns, str(folder), settings)
    return trials_of(PastLog(folder.name, found, split=split, notes=notes), settings, {}), settings


def _as_epoch(row: dict[str, Any]) -> dict[str, Any]:
    """A row of this program's own logger: its steps are epochs, and `batch` is a curve."""
    return {"epoch": row["step"], **{name: value for name, value in row.items() if name != "step"}}


def _scalars(path: Path, hparams: dict[str, Any], problems: list[str]) -> Iterator[tuple[int, str, float]]:
    """(step, name, value) of each scalar of a file; settings are put into `hparams`."""
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

    for record in records(path, problems):
        event = Event()
        try:
            event.ParseFromString(record)
        except DecodeError:
            problems.append(f"{path}: a record that is no event, left out")
            continue
        for value in event.summary.value:
            plugin = value.metadata.plugin_data
            if plugin.plugin_name == "hparams":
                data = HParamsPluginData()
                try:
                    data.ParseFromString(plugin.content)
                except DecodeError:
                    continue
                for name, each in data.session_start_info.hparams.items():
                    kind = each.WhichOneof("kind")
                    if kind in ("number_value", "string_value", "bool_value"):
                        hparams[name] = getattr(each, kind)
            elif (number := _number(value)) is not None:
                yield int(event.step), str(value.tag), number


def _number(value: Any) -> float | None:
    """A scalar, in the field of TensorFlow 1 or in a tensor of one number."""
    if value.WhichOneof("value") == "simple_value":
        return float(value.simple_value)
    if value.WhichOneof("value") != "tensor" or any(size.size != 1 for size in value.tensor.tensor_shape.dim):
        return None
    for numbers in (value.tensor.float_val, value.tensor.double_val, value.tensor.int_val, value.tensor.int64_val):
        if len(numbers) == 1:
            return float(numbers[0])
    content = value.tensor.tensor_content
    code = {(1, 4): "<f", (2, 8): "<d", (3, 4): "<i", (9, 8): "<q"}.get((value.tensor.dtype, len(content)))
    return None if code is None else float(struct.unpack(code, content)[0])


def records(path: Path, problems: list[str]) -> Iterator[bytes]:
    """The records of a TFRecord file, up to the first that is damaged or cut short, which gets a line in `problems`.

    Records that are too long for scalars are passed over without reading them.
    """
    from tensorboardX.crc32c import crc32c

    with path.open("rb") as file:
        size = path.stat().st_size
        while header := file.read(12):
            at = file.tell() - len(header)
            if len(header) < 12:
                problems.append(f"{path}: is cut short at byte {at}; what comes before it is read")
                return
            length, check = struct.unpack("<QI", header)
            if check != _masked(crc32c(header[:8])) or length > size - file.tell() - 4:
                problems.append(f"{path}: is damaged or cut short at byte {at}; what comes before it is read")
                return
            if length > _MOST_RECORD:
                file.seek(length + 4, 1)
                continue
            data = file.read(length)
            if struct.unpack("<I", file.read(4))[0] != _masked(crc32c(data)):
                problems.append(f"{path}: is damaged at byte {at}; what comes before it is read")
                return
            yield data


def _masked(checksum: int) -> int:
    return (((checksum >> 15) | (checksum << 17)) + _MASK) & 0xFFFFFFFF
