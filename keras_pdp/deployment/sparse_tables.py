"""The tables of the file format that say how a sparse tensor is laid out."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from keras_pdp.deployment.sparse_encoding import Array, Level, SparseLayout

_VECTORS = {1: "Uint8Vector", 2: "Uint16Vector", 4: "Int32Vector"}


def sparsity_table(schema: ModuleType, layout: SparseLayout) -> Any:
    """The table that goes with a tensor whose values are stored in a layout.

    Args:
        schema: the classes of the file format.
        layout: how the values are stored; indices have the type that the file is to
            have: uint8, uint16 or int32.
    """
    return filled(
        schema.SparsityParametersT,
        traversalOrder=np.array(layout.order, np.int32),
        blockMap=np.array(layout.block_map, np.int32),
        dimMetadata=[_dimension(schema, level) for level in layout.levels],
    )


def filled(kind: Callable[[], Any], **fields: Any) -> Any:
    """A table of a class of the file format.

    The classes of LiteRT 2.0 take no arguments.
    """
    table = kind()
    for name, value in fields.items():
        if not hasattr(table, name):
            raise AttributeError(f"{kind} has no field {name!r}")
        setattr(table, name, value)
    return table


def _dimension(schema: ModuleType, level: Level) -> Any:
    formats = schema.DimensionType
    if level.segments is None or level.indices is None:
        return filled(
            schema.DimensionMetadataT, format=formats.DENSE, denseSize=level.size
        )
    segments, indices = _vector(schema, level.segments), _vector(schema, level.indices)
    return filled(
        schema.DimensionMetadataT,
        format=formats.SPARSE_CSR,
        arraySegmentsType=segments[0],
        arraySegments=segments[1],
        arrayIndicesType=indices[0],
        arrayIndices=indices[1],
    )


def _vector(schema: ModuleType, numbers: Array) -> tuple[int, Any]:
    """Which member of a union, and the member."""
    name = _VECTORS[numbers.itemsize]
    vector = filled(getattr(schema, name + "T"), values=numbers)
    return getattr(schema.SparseIndexVector, name), vector
