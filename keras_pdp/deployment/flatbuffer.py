"""Reads .tflite files: every constant, how it is stored, and which ops use it.

Nothing is executed and TensorFlow is not needed. What the file says is decoded, not
believed: a damaged file ends in a `ValueError` that names it, never in a crash or in
an allocation that the size of the file does not justify.

Values come as they are stored (int8 stays int8). A stored value is a *zero* when it
means 0.0, that is when it equals the zero point of its channel.
"""

import importlib
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from keras_pdp.deployment.consumers import Consumer, Uses, element, vector
from keras_pdp.deployment.sparse_encoding import (
    Array,
    Level,
    SparseLayout,
    densify,
)
from keras_pdp.deployment.tflite_file import ConstantTensor, Quantization, TFLiteFile

_IDENTIFIER = b"TFL3"

# How far a sparse tensor may unfold: past this many elements for each byte of the file
# (and past the floor) the file is damaged, not sparse.
_UNFOLDED_PER_BYTE = 1024
_UNFOLDED_FLOOR = 1 << 24

_DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    "COMPLEX64": np.dtype("<c8"),
    "COMPLEX128": np.dtype("<c16"),
    "FLOAT16": np.dtype("<f2"),
    "FLOAT32": np.dtype("<f4"),
    "FLOAT64": np.dtype("<f8"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
}


def read_tflite(path: str | os.PathLike[str]) -> TFLiteFile:
    """Reads a .tflite file and decodes all of its constants.

    Args:
        path: the file.

    Returns:
        Its ops and constants. Dense constants are views of the file's bytes.

    Raises:
        ValueError: the file is empty, cut short, damaged, no TFLite model, or keeps
            its weights in other files.
        OSError: the file cannot be read.
        ImportError: no package with the file format's schema is installed.

    Example:

        >>> file = read_tflite("model.tflite")
        >>> f"{file.weight_zeros / file.weight_count:.0%} of the weights are zero"
        >>> [(weight.name, weight.storage) for weight in file.weights]
    """
    return decoded(Path(path).read_bytes(), os.fspath(path))


def decoded(data: bytes, name: str) -> TFLiteFile:
    """What `read_tflite` gives, of a file in memory that errors call `name`."""
    schema = schema_for(data, name)
    with naming(name):
        return _Reader(schema, data).read(name)


class Unsupported(Exception):
    """The file may be right; it has what is not read here."""


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Turns what damaged bytes end in into a `ValueError` with the file's name."""
    try:
        yield
    except Unsupported as error:
        raise ValueError(f"{name}: {error}") from error
    # What wild offsets end in: struct and numpy refuse to read outside of the data,
    # flatbuffers raises TypeError for a number out of range, and names must be UTF-8.
    except (IndexError, OverflowError, TypeError, ValueError, struct.error) as error:
        raise ValueError(
            f"{name}: the file is damaged or cut short ({error})"
        ) from error


def schema_for(data: bytes, name: str) -> ModuleType:
    """The classes that read `data`, which must begin as a TFLite model does."""
    schema = _schema()
    if data[4:8] != _IDENTIFIER:
        raise ValueError(
            f"{name}: expected a TFLite model (bytes 4 to 8 are {_IDENTIFIER!r}), "
            f"received {len(data)} bytes with {data[4:8]!r} there"
        )
    return schema


def _schema() -> ModuleType:
    try:
        return importlib.import_module("ai_edge_litert.schema_py_generated")
    except ModuleNotFoundError:
        pass
    try:
        return importlib.import_module("tensorflow.lite.python.schema_py_generated")
    except ModuleNotFoundError as error:
        raise ImportError(
            "reading .tflite files needs the schema that comes with ai-edge-litert; "
            "pip install ai-edge-litert"
        ) from error


class _Reader:
    """Walks one file. Holds what all steps need: the schema and the bytes."""

    def __init__(self, schema: ModuleType, data: bytes) -> None:
        self._schema = schema
        self._data = data
        self._model = schema.Model.GetRootAs(data, 0)
        self._op_names = _names(schema.BuiltinOperator)
        self._type_names = _names(schema.TensorType)
        self._unfolded = _UNFOLDED_FLOOR + _UNFOLDED_PER_BYTE * len(data)

    def read(self, path: str) -> TFLiteFile:
        subgraphs = self._items(self._model, "Subgraphs")
        if not subgraphs:
            raise ValueError("there is no graph in it")
        operators = [self._items(subgraph, "Operators") for subgraph in subgraphs]
        codes = [self._op_name(x) for x in self._items(self._model, "OperatorCodes")]
        # Every buffer, used or not: a file whose end is missing must not pass.
        buffers = [self._bytes(x) for x in self._items(self._model, "Buffers")]
        uses = Uses(self._schema, subgraphs, operators, codes)
        constants = tuple(
            self._constant(tensor, (number, index), buffers, uses.of(number, index))
            for number, subgraph in enumerate(subgraphs)
            for index, tensor in enumerate(self._items(subgraph, "Tensors"))
            if self._is_constant(tensor, buffers)
        )
        names = tuple(tuple(codes[x.OpcodeIndex()] for x in each) for each in operators)
        return TFLiteFile(path, len(self._data), names, constants)

    def _items(self, table: Any, name: str) -> list[Any]:
        """The vector `name` of a table, each element of which is a table."""
        count = getattr(table, name + "Length")()
        # each element is an offset of 4 bytes
        if count * 4 > len(self._data):
            raise ValueError(f"{count} {name} in {len(self._data)} bytes")
        return [getattr(table, name)(index) for index in range(count)]

    def _op_name(self, code: Any) -> str:
        # Codes below 127 stand in the old field, which older writers alone fill.
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        name = self._op_names.get(number, f"BUILTIN_{number}")
        custom = code.CustomCode()
        return custom.decode() if name == "CUSTOM" and custom else name

    def _bytes(self, buffer: Any) -> Array:
        """The bytes of a buffer: inside the table or, for big files, after it."""
        # offset 1 is a placeholder of the writer, 0 means "inside"
        if buffer.Offset() > 1:
            return np.frombuffer(
                self._data, np.uint8, buffer.Size(), offset=buffer.Offset()
            )
        return np.empty(0, np.uint8) if buffer.DataIsNone() else buffer.DataAsNumpy()

    def _is_constant(self, tensor: Any, buffers: list[Array]) -> bool:
        # the schemas of older packages do not know this field
        if getattr(tensor, "ExternalBuffer", int)():
            raise ValueError(f"the values of {tensor.Name()!r} are in another file")
        return bool(element(buffers, tensor.Buffer()).size)

    def _constant(
        self,
        tensor: Any,
        place: tuple[int, int],
        buffers: list[Array],
        consumers: tuple[Consumer, ...],
    ) -> ConstantTensor:
        name = tensor.Name().decode() if tensor.Name() is not None else ""
        raw = element(buffers, tensor.Buffer())
        shape = tuple(int(size) for size in vector(tensor, "Shape"))
        dtype = self._type_names.get(tensor.Type(), f"type {tensor.Type()}")
        quantization = _quantization(tensor.Quantization(), shape)
        layout = self._layout(tensor.Sparsity())
        values = self._values(raw, dtype, shape, layout)
        values.flags.writeable = False
        return ConstantTensor(
            name=name,
            subgraph=place[0],
            index=place[1],
            shape=shape,
            dtype=dtype.lower(),
            storage="dense" if layout is None else layout.storage,
            values=values,
            quantization=quantization,
            value_bytes=len(raw),
            index_bytes=0 if layout is None else layout.index_bytes,
            buffer=tensor.Buffer(),
            consumers=consumers,
        )

    def _values(
        self,
        raw: Array,
        dtype: str,
        shape: tuple[int, ...],
        layout: SparseLayout | None,
    ) -> Array:
        size = _product(shape)
        if dtype == "STRING":
            return np.empty(0, np.uint8)  # no numbers, so nothing to count
        if layout is None:
            return _stored(raw, dtype, size).reshape(shape)
        self._unfolded -= size
        if self._unfolded < 0:
            raise ValueError(f"a sparse tensor of shape {shape} in so small a file")
        return densify(_stored(raw, dtype, None), layout, shape)

    def _layout(self, sparsity: Any) -> SparseLayout | None:
        if sparsity is None:
            return None
        levels = [self._level(x) for x in self._items(sparsity, "DimMetadata")]
        return SparseLayout(
            order=tuple(int(axis) for axis in vector(sparsity, "TraversalOrder")),
            block_map=tuple(int(axis) for axis in vector(sparsity, "BlockMap")),
            levels=tuple(levels),
        )

    def _level(self, level: Any) -> Level:
        if level.Format() == self._schema.DimensionType.DENSE:
            return Level(int(level.DenseSize()))
        segments = self._indices(level.ArraySegmentsType(), level.ArraySegments())
        indices = self._indices(level.ArrayIndicesType(), level.ArrayIndices())
        return Level(0, segments, indices)

    def _indices(self, kind: int, table: Any) -> Array:
        union = self._schema.SparseIndexVector
        classes = {
            union.Int32Vector: self._schema.Int32Vector,
            union.Uint16Vector: self._schema.Uint16Vector,
            union.Uint8Vector: self._schema.Uint8Vector,
        }
        if kind not in classes or table is None:
            raise ValueError(f"index vector of unknown kind {kind}")
        numbers = classes[kind]()
        numbers.Init(table.Bytes, table.Pos)
        return vector(numbers, "Values")


def _names(enumeration: Any) -> dict[int, str]:
    return {
        value: name for name, value in vars(enumeration).items() if type(value) is int
    }


def _quantization(table: Any, shape: tuple[int, ...]) -> Quantization:
    if table is None:
        return Quantization(np.empty(0, np.float32), np.empty(0, np.int64), 0)
    scale, zero_point = vector(table, "Scale"), vector(table, "ZeroPoint")
    axis = table.QuantizedDimension()
    for numbers in (scale, zero_point):
        fits = axis in range(len(shape)) and numbers.size == shape[axis]
        if numbers.size > 1 and not fits:
            raise ValueError(f"{numbers.size} scales on axis {axis} of shape {shape}")
    return Quantization(scale, zero_point, axis)


def _stored(raw: Array, dtype: str, size: int | None) -> Array:
    """Bytes as numbers; `size` of them, or as many as there are."""
    if dtype in ("INT4", "UINT4"):
        return _nibbles(raw, signed=dtype == "INT4")[:size]
    if dtype == "BFLOAT16":  # the upper half of a float32, which numpy has
        values = (raw.view("<u2").astype(np.uint32) << 16).view(np.float32)
    elif dtype in _DTYPES:
        values = raw.view(_DTYPES[dtype])
    else:
        raise Unsupported(f"values of {dtype} are not read by keras_pdp")
    if size is not None and len(values) != size:
        raise ValueError(f"{len(values)} values of {dtype}, expected {size}")
    return values


def _nibbles(raw: Array, *, signed: bool) -> Array:
    """Two numbers in each byte, the low four bits first."""
    both = np.stack([raw & 0x0F, raw >> 4], axis=-1).reshape(-1)
    if not signed:
        return both
    signs: Array = (both ^ 0x08).astype(np.int8) - np.int8(8)
    return signs


def _product(shape: tuple[int, ...]) -> int:
    # Python's integers do not overflow, as those of numpy.prod would.
    if any(size < 0 for size in shape):
        raise ValueError(f"shape {shape}")
    product = 1
    for size in shape:
        product *= size
    return product
