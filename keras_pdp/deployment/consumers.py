"""Which ops of a .tflite file use a tensor, and which of these uses are weights."""

from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from keras_pdp.deployment.sparse_encoding import Array

# Which inputs of an op are weights; `None`: every constant but input 0. Constants of
# fewer than two axes (biases, peepholes) are never weights.
_WEIGHT_INPUTS: dict[str, tuple[int, ...] | None] = {
    "BATCH_MATMUL": (0, 1),
    "BIDIRECTIONAL_SEQUENCE_LSTM": None,
    "BIDIRECTIONAL_SEQUENCE_RNN": None,
    "CONV_2D": (1,),
    "CONV_3D": (1,),
    "CONV_3D_TRANSPOSE": (1,),
    "DEPTHWISE_CONV_2D": (1,),
    "EMBEDDING_LOOKUP": (1,),
    "FULLY_CONNECTED": (1,),
    "GATHER": (0,),
    "LSTM": None,
    "RNN": None,
    "SVDF": None,
    "TRANSPOSE_CONV": (1,),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": None,
    "UNIDIRECTIONAL_SEQUENCE_RNN": None,
}

# Ops that hand a constant on: its users are the users of their output.
_PASSES_ON = frozenset({"DEQUANTIZE", "DENSIFY", "QUANTIZE", "RESHAPE", "TRANSPOSE"})


@dataclass(frozen=True)
class Consumer:
    """A use of a tensor: input number `slot` of the op `op`, in `subgraph`."""

    op: str
    subgraph: int
    slot: int

    @property
    def is_weight(self) -> bool:
        """Whether this input of this op is what the op multiplies by, or looks up."""
        slots = _WEIGHT_INPUTS.get(self.op, ())
        return self.slot > 0 if slots is None else self.slot in slots


class Uses:
    """Which ops use a tensor, through ops that hand it on and into loops."""

    def __init__(
        self,
        schema: ModuleType,
        subgraphs: list[Any],
        operators: list[list[Any]],
        codes: list[str],
    ) -> None:
        self._schema = schema
        self._inputs = [[int(x) for x in vector(g, "Inputs")] for g in subgraphs]
        # {(subgraph, tensor): [(op name, operator, slot)]}
        self._readers: dict[tuple[int, int], list[tuple[str, Any, int]]] = {}
        for number, ops in enumerate(operators):
            for op in ops:
                for slot, tensor in enumerate(vector(op, "Inputs")):
                    reader = (element(codes, op.OpcodeIndex()), op, slot)
                    key = (number, int(tensor))
                    self._readers.setdefault(key, []).append(reader)

    def of(self, subgraph: int, tensor: int) -> tuple[Consumer, ...]:
        """The final users of a tensor."""
        seen: set[tuple[int, int]] = set()
        waiting = [(subgraph, tensor)]
        found = []
        while waiting:
            key = waiting.pop()
            if key in seen:
                continue
            seen.add(key)
            for name, op, slot in self._readers.get(key, ()):
                onward = list(self._onward(key[0], name, op, slot))
                waiting += onward
                if not onward:
                    found.append(Consumer(name, key[0], slot))
        return tuple(found)

    def _onward(
        self, subgraph: int, name: str, op: Any, slot: int
    ) -> Iterator[tuple[int, int]]:
        if name in _PASSES_ON and slot == 0:
            yield from ((subgraph, int(x)) for x in vector(op, "Outputs"))
        if name == "WHILE":
            for callee in self._loop_subgraphs(op):
                yield callee, element(element(self._inputs, callee), slot)

    def _loop_subgraphs(self, op: Any) -> tuple[int, int]:
        table, options = op.BuiltinOptions(), self._schema.WhileOptions()
        if table is None:
            raise ValueError("a loop without a body")
        options.Init(table.Bytes, table.Pos)
        return options.CondSubgraphIndex(), options.BodySubgraphIndex()


def element(items: list[Any], index: int) -> Any:
    # Python reads a negative index from the end; in a file it is an error.
    if not 0 <= index < len(items):
        raise ValueError(f"reference to number {index} of {len(items)}")
    return items[index]


def vector(table: Any, name: str) -> Array:
    """The vector of numbers `name` of a table; empty when the file has none."""
    if getattr(table, name + "IsNone")():
        return np.empty(0, np.int32)
    numbers: Array = getattr(table, name + "AsNumpy")()
    return numbers
