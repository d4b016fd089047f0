"""Rewrites a dense .tflite file with its sparse weights stored sparsely.

A weight is replaced by what is not zero in it, with its positions, and an op DENSIFY
at the front unfolds it when the file is loaded. All ops compute with the weights that
they had before:

    conv(x, weight)                     conv(x, DENSIFY(sparse weight))
    conv(x, DEQUANTIZE(float16 weight)) conv(x, DEQUANTIZE(DENSIFY(sparse weight)))

Everything else stays what and, but for the numbers of ops, where it was. This takes
the place of the converter's `Optimize.EXPERIMENTAL_SPARSITY`; `tflite.py` says why.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from types import ModuleType
from typing import Any

import numpy as np

from keras_pdp.deployment.block_kernels import (
    BLOCK_KERNELS,
    BlockKernel,
    BlockKernels,
)
from keras_pdp.deployment.flatbuffer import decoded, naming, schema_for
from keras_pdp.deployment.packing import Once, inlined, pack, packed_bytes
from keras_pdp.deployment.sparse_candidates import Candidates, numbers
from keras_pdp.deployment.sparse_encoding import Array
from keras_pdp.deployment.sparse_tables import filled, sparsity_table
from keras_pdp.deployment.sparsify import compressed, in_blocks
from keras_pdp.deployment.tflite_file import ConstantTensor

# The version of FULLY_CONNECTED that takes blocks, and the first runtimes that know it
# and DENSIFY.
_BLOCKS_VERSION = 8
_RUNTIME = "2.3.0"
# An entry in the list of tensors or of ops.
_LISTED = 4


@dataclass(frozen=True)
class SparseFile:
    """A .tflite file and what became of its weights.

    Args:
        data: the file.
        encoded: the numbers of the buffers that are stored sparsely.
        tolerance: how far what it computes may be from what the dense file computes,
            see BlockKernel; 0 if nothing is stored by blocks: then not one bit.
        left_dense: `{number of the buffer: reason}` for the other weights that hold
            zeros.
    """

    data: bytes = field(repr=False)
    encoded: frozenset[int]
    tolerance: float
    left_dense: dict[int, str]


def sparsely_stored(
    data: bytes, name: str = "the file", *, kernels: BlockKernels = BLOCK_KERNELS
) -> SparseFile:
    """Stores those weights sparsely that become smaller by it and can be.

    Args:
        data: a .tflite file.
        name: what to call it in errors.
        kernels: `{type of the values: kernel}`, by default those that pay; with `{}`
            nothing is stored by blocks.

    Returns:
        The sparse file, or `data` itself if nothing became smaller. Stored zeros that
        were -0.0 are 0.0 in it; all other values are the same to the bit.

    Raises:
        ValueError: the file is empty, cut short, damaged or no TFLite model.
        ImportError: no package with the file format's schema is installed.

    Example:

        >>> sparse = sparsely_stored(Path("model.tflite").read_bytes())
        >>> len(sparse.data), sparse.left_dense
    """
    constants = [x for x in decoded(data, name).constants if x.values.size]
    schema = schema_for(data, name)
    with naming(name):
        model = schema.ModelT.InitFromPackedBuf(data, 0)
        inlined(model, data)
        writer = _Writer(schema, model, kernels)
        refusal = writer.refusal(data)
        for sharing in _by_buffer(constants):
            writer.store(sharing, refusal)
        return writer.finished(data)


def _by_buffer(constants: Sequence[ConstantTensor]) -> list[list[ConstantTensor]]:
    """The constants that share each buffer, where they are weights with zeros."""
    ordered = sorted(constants, key=lambda each: each.buffer)
    groups = [list(group) for _, group in groupby(ordered, lambda each: each.buffer)]
    return [group for group in groups if any(x.is_weight and x.zeros for x in group)]


class _Writer:
    """Changes one unpacked file, weight by weight."""

    def __init__(self, schema: ModuleType, model: Any, kernels: BlockKernels) -> None:
        self._schema = schema
        self._model = model
        self._kernels = kernels
        self._metadata = model.metadata or ()
        self._candidates = Candidates(schema, model)
        self._densify: dict[int, list[Any]] = {}
        self._encoded: set[int] = set()
        self._tolerance = 0.0
        self._left_dense: dict[int, str] = {}

    def refusal(self, data: bytes) -> str:
        """Why nothing in the file can be stored sparsely; `""` if something can."""
        if len(data) >= 1 << 31:
            return "the file is larger than what can be rewritten, 2 GiB"
        if any(x.name == b"model_control_dependencies" for x in self._metadata):
            return "the file's metadata counts on the numbers of its ops"
        operators = (op for graph in self._model.subgraphs for op in graph.operators)
        if any(op.largeCustomOptionsOffset for op in operators):
            return "the file has options of ops behind its end"
        if self._candidates.is_dynamic():
            return "with dynamic int8 sparse weights do not load, or compute wrongly"
        return ""

    def store(self, sharing: Sequence[ConstantTensor], refusal: str) -> None:
        """Stores the values that `sharing` share sparsely, or notes why not."""
        refusal = refusal or self._candidates.refusal(sharing)
        if not refusal:
            kernel = self._kernel(sharing)
            if kernel is not None:
                refusal = self._as_blocks(sharing, kernel)
            else:
                refusal = self._candidates.behind_densify(sharing)
                refusal = refusal or self._behind_densify(sharing)
        if refusal:
            self._left_dense[sharing[0].buffer] = refusal
        else:
            self._encoded.add(sharing[0].buffer)

    def finished(self, dense: bytes) -> SparseFile:
        """The file after the last weight."""
        if not self._encoded:
            return SparseFile(dense, frozenset(), 0.0, self._left_dense)
        for number, ops in self._densify.items():
            for op in ops:
                op.opcodeIndex = self._code("DENSIFY", 1)
            operators = self._model.subgraphs[number].operators
            # in front of everything, as what they compute depends on nothing
            self._model.subgraphs[number].operators = ops + operators
        self._require_runtime()
        data = pack(self._model)
        if len(data) >= len(dense):
            reason = "with it the file would not be smaller"
            left = self._left_dense | dict.fromkeys(self._encoded, reason)
            return SparseFile(dense, frozenset(), 0.0, left)
        encoded = frozenset(self._encoded)
        return SparseFile(data, encoded, self._tolerance, self._left_dense)

    def _kernel(self, sharing: Sequence[ConstantTensor]) -> BlockKernel | None:
        """The block kernel that computes faster with the values, if there is one."""
        first = sharing[0]
        kernel = self._kernels.get(first.dtype)
        if kernel is None or not self._candidates.only_in_dense_layers(sharing):
            return None
        return kernel if kernel.pays(first.values) else None

    def _as_blocks(self, sharing: Sequence[ConstantTensor], kernel: BlockKernel) -> str:
        stored, layout = in_blocks(sharing[0].values, kernel.width)
        sparsity = Once(sparsity_table(self._schema, layout))
        refusal = self._replaced(sharing[0], stored, sparsity)
        if not refusal:
            self._tolerance = max(self._tolerance, kernel.tolerance)
            for tensor in sharing:
                self._table(tensor).sparsity = sparsity
                for name, op, _ in self._candidates.uses(tensor):
                    known = self._model.operatorCodes[op.opcodeIndex].version
                    version = max(known, _BLOCKS_VERSION)
                    op.opcodeIndex = self._code(name, version)
        return refusal

    def _behind_densify(self, sharing: Sequence[ConstantTensor]) -> str:
        stored, layout = compressed(sharing[0].values)
        sparsity = Once(sparsity_table(self._schema, layout))
        twins = [self._dense_twin(tensor) for tensor in sharing]
        ops = [filled(self._schema.OperatorT, inputs=[0], outputs=[0]) for _ in sharing]
        refusal = self._replaced(sharing[0], stored, sparsity, *twins, *ops)
        if not refusal:
            for tensor, twin, op in zip(sharing, twins, ops, strict=True):
                self._put(tensor, sparsity, twin, op)
        return refusal

    def _replaced(self, tensor: ConstantTensor, stored: Array, *tables: Any) -> str:
        """Replaces the values of a tensor if that saves bytes, else says what it costs.

        Args:
            tensor: one of those that share the values.
            stored: the new values.
            tables: what else has to be in the file then.
        """
        content = filled(self._schema.BufferT, data=stored.view(np.uint8))
        after = packed_bytes(content, *tables) + _LISTED * len(tables)
        before = packed_bytes(self._model.buffers[tensor.buffer])
        if after < before:
            self._model.buffers[tensor.buffer] = content
            return ""
        return (
            f"with {tensor.zeros / tensor.size:.0%} zeros it would take {after:,} "
            f"bytes instead of {before:,}"
        )

    def _put(self, tensor: ConstantTensor, sparsity: Any, twin: Any, op: Any) -> None:
        subgraph = self._model.subgraphs[tensor.subgraph]
        new = len(subgraph.tensors)
        for reader in subgraph.operators:
            inputs = numbers(reader.inputs)
            moved = np.where(inputs == tensor.index, new, inputs)
            reader.inputs = moved.astype(np.int32)
        op.inputs, op.outputs = [tensor.index], [new]
        table = self._table(tensor)
        table.sparsity = sparsity
        if table.quantization is not None:
            # scales by channel can be as large as the kernel: one copy for both
            table.quantization = twin.quantization = Once(table.quantization)
        subgraph.tensors.append(twin)
        self._densify.setdefault(tensor.subgraph, []).append(op)

    def _table(self, tensor: ConstantTensor) -> Any:
        return self._model.subgraphs[tensor.subgraph].tensors[tensor.index]

    def _dense_twin(self, tensor: ConstantTensor) -> Any:
        """What DENSIFY gives: a tensor without a constant value."""
        table = self._table(tensor)
        return filled(
            self._schema.TensorT,
            shape=table.shape,
            type=table.type,
            buffer=0,
            name=f"dense_{tensor.index}",
            hasRank=table.hasRank,
        )

    def _code(self, name: str, version: int) -> int:
        """The place of an op's code in the file, which is added if it isn't there."""
        number = getattr(self._schema.BuiltinOperator, name)
        codes = self._model.operatorCodes
        for place, code in enumerate(codes):
            if (code.builtinCode, code.version) == (number, version):
                return place
        codes.append(
            # the second is an old field for numbers below 127
            filled(
                self._schema.OperatorCodeT,
                builtinCode=number,
                deprecatedBuiltinCode=number,
                version=version,
            )
        )
        return len(codes) - 1

    def _require_runtime(self) -> None:
        """Raises the version of the runtime that the file says it needs."""
        for entry in self._metadata:
            if entry.name == b"min_runtime_version":
                buffer = self._model.buffers[entry.buffer]
                stated = bytes(buffer.data).rstrip(b"\0").decode()
                if _version(stated) < _version(_RUNTIME):
                    padded = _RUNTIME.encode().ljust(len(buffer.data), b"\0")
                    buffer.data = np.frombuffer(padded, np.uint8)


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdecimal())
