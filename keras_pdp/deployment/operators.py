"""The ops of a .tflite file with their options: what will be computed, in order."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from keras_pdp.deployment.consumers import vector
from keras_pdp.deployment.flatbuffer import decoded, naming, schema_for
from keras_pdp.deployment.tflite_file import ConstantTensor

# Ops on constants that the runtime computes once, while it loads.
DENSIFY = "DENSIFY"
_FOLDED = (DENSIFY, "DEQUANTIZE")


@dataclass(frozen=True)
class Options:
    """The options of an op, as far as a rule asks for them; (height, width) pairs.

    Args:
        stride: steps of the window.
        dilation: distance of the window's taps.
        same: whether the op pads by itself, as `padding="same"`.
        activation: what is computed on the output in the same op: `"NONE"`, `"RELU"`, …
        keep_dims: whether a reduction leaves axes of size 1.
    """

    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    same: bool = False
    activation: str = "NONE"
    keep_dims: bool = False


@dataclass(frozen=True, eq=False)
class Tensor:
    """One tensor of a subgraph.

    Args:
        name: its name in the file.
        shape: its shape; -1 where it is not known before the model runs.
        dtype: `"float32"`, `"int8"`, …
        constant: its values, when the file holds them, also those behind a DENSIFY or
            DEQUANTIZE; `None` for what is computed.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    constant: ConstantTensor | None


@dataclass(frozen=True)
class Operator:
    """One op of a subgraph.

    Args:
        index: its number in the subgraph.
        kind: `"CONV_2D"`, …
        inputs: numbers of its input tensors; -1 for an optional one that is absent.
        outputs: numbers of its output tensors.
        options: its options; `None` where the file has none.
    """

    index: int
    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Options | None


@dataclass(frozen=True, eq=False)
class Graph:
    """One subgraph of a file.

    Args:
        tensors: its tensors.
        operators: the ops that run, in their order; not those that unfold constants.
        outputs: numbers of the tensors that it gives.
        unfolds: whether a DENSIFY unfolds one of its weights.
    """

    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    outputs: tuple[int, ...]
    unfolds: bool

    def computed(self, numbers: tuple[int, ...]) -> tuple[int, ...]:
        """Those of these tensors that are no constants and not absent."""
        return tuple(x for x in numbers if x >= 0 and self.tensors[x].constant is None)


def read_graphs(data: bytes, name: str) -> tuple[Graph, ...]:
    """Reads the ops of a .tflite file in memory.

    Args:
        data: the bytes of the file.
        name: what errors call it.

    Returns:
        Its subgraphs; number 0 is the model.

    Raises:
        ValueError: the file is damaged, cut short, or no TFLite model.
    """
    schema = schema_for(data, name)
    file = decoded(data, name)
    constants = {(x.subgraph, x.index): x for x in file.constants}
    with naming(name):
        model = schema.Model.GetRootAs(data, 0)
        return tuple(
            _graph(schema, model.Subgraphs(number), number, kinds, constants)
            for number, kinds in enumerate(file.operators)
        )


def _graph(
    schema: ModuleType,
    subgraph: Any,
    number: int,
    kinds: tuple[str, ...],
    constants: Mapping[tuple[int, int], ConstantTensor],
) -> Graph:
    count = subgraph.TensorsLength()
    operators = [
        _operator(schema, subgraph.Operators(index), index, kind, count)
        for index, kind in enumerate(kinds)
    ]
    known = {x: constants[number, x] for x in range(count) if (number, x) in constants}
    running, unfolds = [], False
    for operator in operators:
        source = known.get(operator.inputs[0]) if operator.inputs else None
        if operator.kind in _FOLDED and source is not None:
            known |= dict.fromkeys(operator.outputs, source)
            unfolds = unfolds or operator.kind == DENSIFY
        else:
            running.append(operator)
    dtypes = _members(schema.TensorType)
    tensors = tuple(
        _tensor(subgraph.Tensors(x), dtypes, known.get(x)) for x in range(count)
    )
    outputs = _numbers(subgraph, "Outputs", count)
    return Graph(tensors, tuple(running), outputs, unfolds)


def _tensor(
    tensor: Any, dtypes: dict[int, str], constant: ConstantTensor | None
) -> Tensor:
    # the signature has -1 where the plain shape says 1 for "any size"
    sizes = vector(tensor, "ShapeSignature")
    sizes = sizes if sizes.size else vector(tensor, "Shape")
    name = tensor.Name().decode() if tensor.Name() is not None else ""
    dtype = dtypes.get(tensor.Type(), f"type {tensor.Type()}").lower()
    return Tensor(name, tuple(int(size) for size in sizes), dtype, constant)


def _operator(
    schema: ModuleType, operator: Any, index: int, kind: str, count: int
) -> Operator:
    inputs = _numbers(operator, "Inputs", count)
    outputs = _numbers(operator, "Outputs", count)
    return Operator(index, kind, inputs, outputs, _options(schema, operator))


def _numbers(table: Any, name: str, count: int) -> tuple[int, ...]:
    numbers = tuple(int(x) for x in vector(table, name))
    for number in numbers:
        if number >= count or number < -1:
            raise ValueError(f"reference to tensor {number} of {count}")
    return numbers


def _options(schema: ModuleType, operator: Any) -> Options | None:
    table = operator.BuiltinOptions()
    name = _members(schema.BuiltinOptions).get(operator.BuiltinOptionsType(), "")
    if table is None or not hasattr(schema, name):
        return None
    options = getattr(schema, name)()
    options.Init(table.Bytes, table.Pos)

    def read(field: str, default: int) -> int:
        return int(getattr(options, field)()) if hasattr(options, field) else default

    same = read("Padding", -1) == schema.Padding.SAME
    activation = read("FusedActivationFunction", 0)
    activations = _members(schema.ActivationFunctionType)
    return Options(
        stride=(read("StrideH", 1), read("StrideW", 1)),
        dilation=(read("DilationHFactor", 1), read("DilationWFactor", 1)),
        same=same,
        activation=activations.get(activation, f"activation {activation}"),
        keep_dims=bool(read("KeepDims", 0)),
    )


def _members(enumeration: Any) -> dict[int, str]:
    return {
        value: name for name, value in vars(enumeration).items() if type(value) is int
    }
