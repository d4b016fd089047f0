"""Packs an unpacked .tflite file, the tables of the schema's object API, into bytes."""

import importlib
from typing import Any, Protocol

import numpy as np

# Where the values of a tensor begin, in bytes from the start of the file; kernels of
# microcontrollers rely on what the converter does.
_ALIGNMENT = 16


class Table(Protocol):
    """What the classes of the schema can do."""

    def Pack(self, builder: Any) -> int:  # noqa: N802
        """Writes the table; returns where it is."""


class Once:
    """A table that several others refer to, written once."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._builder: Any = None
        self._place = 0

    def Pack(self, builder: Any) -> int:  # noqa: N802
        """Writes the table the first time that this builder asks for it."""
        if builder is not self._builder:
            self._builder, self._place = builder, self._table.Pack(builder)
        return self._place


class _Aligned:
    """A buffer whose values begin at a multiple of `_ALIGNMENT`."""

    def __init__(self, buffer: Any) -> None:
        self._buffer = buffer

    def Pack(self, builder: Any) -> int:  # noqa: N802
        if self._buffer.data is not None:
            builder.Prep(_ALIGNMENT, len(self._buffer.data))
        place: int = self._buffer.Pack(builder)
        return place


def inlined(model: Any, data: bytes) -> None:
    """Takes the buffers that stand behind the model, as in big files, into it."""
    for buffer in model.buffers:
        # offset 1 is a placeholder of the writer
        if buffer.offset > 1:
            buffer.data = np.frombuffer(
                data, np.uint8, buffer.size, offset=buffer.offset
            )
        buffer.offset = buffer.size = 0


def pack(model: Any) -> bytes:
    """The bytes of a file. `model` cannot be changed or packed again afterwards."""
    size = sum(x.data.size for x in model.buffers if isinstance(x.data, np.ndarray))
    builder = _builder(size + size // 8 + 1024)
    model.buffers = [_Aligned(buffer) for buffer in model.buffers]
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def packed_bytes(*tables: Table) -> int:
    """How many bytes some tables take."""
    builder = _builder(1024)
    for table in tables:
        last = table.Pack(builder)
    builder.Finish(last)
    return len(builder.Output())


def _builder(size: int) -> Any:
    # comes with every package that has the schema
    return importlib.import_module("flatbuffers").Builder(size)
