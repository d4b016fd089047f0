"""The tables of the file format that say how a sparse tensor is laid out."""

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
    return schema.SparsityParametersT(
        traversalOrder=np.array(layout.order, np.int32),
        blockMap=np.array(layout.block_map, np.int32),
        dimMetadata=[_dimension(schema, level) for level in layout.levels],
    )


def _dimension(schema: ModuleType, level: Level) -> Any:
    formats = schema.DimensionType
    if level.segments is None or level.indices is None:
        return schema.DimensionMetadataT(formats.DENSE, level.size)
    segments, indices = _vector(schema, level.segments), _vector(schema, level.indices)
    return schema.DimensionMetadataT(formats.SPARSE_CSR, 0, *segments, *indices)


def _vector(schema: ModuleType, numbers: Array) -> tuple[int, Any]:
    """Which member of a union, and the member."""
    name = _VECTORS[numbers.itemsize]
    vector = getattr(schema, name + "T")(numbers)
    return getattr(schema.SparseIndexVector, name), vector
