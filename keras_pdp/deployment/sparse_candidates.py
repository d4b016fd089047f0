"""Which weights of a dense .tflite file may be stored sparsely, and why not others.

What the runtime was seen to do decides: a weight is left dense where the file would
not load or would be wrong, or where nobody has looked.
"""

from collections.abc import Iterable, Iterator, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from keras_pdp.deployment.consumers import element
from keras_pdp.deployment.sparse_encoding import Array
from keras_pdp.deployment.tflite_file import ConstantTensor

# The ops whose weights the runtime takes when they are sparse; which input they are.
_OPS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")
_WEIGHTS = 1
# Which input is the data that the weights are applied to; input 0 unless named.
_DATA = {"TRANSPOSE_CONV": 2}
_OUTPUT_SHAPE = 0  # which input of TRANSPOSE_CONV that is
# The types that DENSIFY knows, and the type of the data that goes with each.
_COMPUTED_IN = {"float32": "float32", "float16": "float32", "int8": "int8"}

# The option of FULLY_CONNECTED that says how its weights are laid out; 0 is plainly.
_FORMAT = "weightsFormat"


class Candidates:
    """Judges the weights of one file.

    Args:
        schema: the classes of the file format.
        model: the file, unpacked.
    """

    def __init__(self, schema: ModuleType, model: Any) -> None:
        self._schema = schema
        self._model = model
        codes = _code_names(schema, model)
        self._called = set(self._callees())
        self._integers = {schema.TensorType.INT8, schema.TensorType.INT4}
        kinds = schema.ActivationFunctionType
        self._activations = {kinds.NONE, kinds.RELU, kinds.RELU_N1_TO_1, kinds.RELU6}
        # {(subgraph, tensor): [(op name, operator, slot)]}
        self._readers: dict[tuple[int, int], list[tuple[str, Any, int]]] = {}
        for number, subgraph in enumerate(model.subgraphs):
            for op in subgraph.operators:
                for slot, tensor in enumerate(numbers(op.inputs)):
                    reader = (codes[op.opcodeIndex], op, slot)
                    key = (number, int(tensor))
                    self._readers.setdefault(key, []).append(reader)

    def is_dynamic(self) -> bool:
        """Whether some op applies integer weights to float32, quantized on the fly.

        The runtime loads no such op behind a DENSIFY, or it gives wrong values; nor is
        it known what the sparse kernels make of its neighbours.
        """
        return any(
            name in _OPS
            and slot == _WEIGHTS
            and self._data(number, name, op).type == self._schema.TensorType.FLOAT32
            and self._tensor(number, tensor).type in self._integers
            for (number, tensor), readers in self._readers.items()
            for name, op, slot in readers
        )

    def refusal(self, sharing: Sequence[ConstantTensor]) -> str:
        """Why the tensors that share a buffer must stay dense; `""` if they need not.

        Args:
            sharing: all constants of one buffer.
        """
        first = sharing[0]
        if any((x.shape, x.dtype) != (first.shape, first.dtype) for x in sharing):
            return "other tensors of other shapes or types share its values"
        return next(filter(None, map(self._refusal, sharing)), "")

    def behind_densify(self, sharing: Sequence[ConstantTensor]) -> str:
        """Why tensors that need not be dense can't stand behind a DENSIFY, or `""`."""
        if sharing[0].dtype == "int8" and "FULLY_CONNECTED" in self._users(sharing):
            return "int8 FULLY_CONNECTED does not load behind a DENSIFY"
        return ""

    def only_in_dense_layers(self, sharing: Sequence[ConstantTensor]) -> bool:
        """Whether FULLY_CONNECTED ops use the tensors, and no others."""
        return self._users(sharing) == {"FULLY_CONNECTED"}

    def uses(self, tensor: ConstantTensor) -> Iterator[tuple[str, Any, int]]:
        """The uses of a tensor, of float16 ones those behind the DEQUANTIZE."""
        for name, op, slot in self._readers.get((tensor.subgraph, tensor.index), ()):
            if name == "DEQUANTIZE" and tensor.dtype == "float16":
                yield from self._readers.get(
                    (tensor.subgraph, numbers(op.outputs)[0]), ()
                )
            else:
                yield name, op, slot

    def _users(self, sharing: Sequence[ConstantTensor]) -> set[str]:
        return {name for tensor in sharing for name, _, _ in self.uses(tensor)}

    def _refusal(self, tensor: ConstantTensor) -> str:
        if tensor.storage != "dense":
            return "it is sparse already"
        if tensor.dtype not in _COMPUTED_IN:
            return f"DENSIFY does not know {tensor.dtype}"
        if np.any(tensor.quantization.zero_point):
            return "DENSIFY fills in 0, and 0 is not its zero point"
        # A DENSIFY computes once and keeps the result, and a loop's memory may move.
        if tensor.subgraph in self._called:
            return "it is inside a loop or a branch"
        if self._is_output(tensor):
            return "it is an output of the model"
        refusals = (self._use_refusal(tensor, *use) for use in self.uses(tensor))
        return next(filter(None, refusals), "")

    def _use_refusal(
        self, tensor: ConstantTensor, name: str, op: Any, slot: int
    ) -> str:
        if name not in _OPS or slot != _WEIGHTS:
            return f"{name} does not take sparse values"
        data = self._data(tensor.subgraph, name, op)
        if data.type != self._type(_COMPUTED_IN[tensor.dtype]):
            return f"its op applies {tensor.dtype} to other numbers"
        if name == "FULLY_CONNECTED" and getattr(op.builtinOptions, _FORMAT, None):
            return "its values are shuffled"
        if tensor.dtype == "float16" and not self._in_xnnpack(tensor, name, op):
            return f"the kernel of {name} that would run misreads sparse float16"
        return ""

    def _in_xnnpack(self, tensor: ConstantTensor, name: str, op: Any) -> bool:
        """Whether XNNPACK takes an op, as far as the file decides.

        XNNPACK unfolds sparse float16 weights for itself. What it leaves to the plain
        kernel, for its activation or because its size is computed, then reads zeros or
        anything. TensorFlow 2.18 computes the size of a Conv2DTranspose.
        """
        activation = getattr(op.builtinOptions, "fusedActivationFunction", None)
        if activation is not None and activation not in self._activations:
            return False
        if name != "TRANSPOSE_CONV":
            return True
        size = self._tensor(tensor.subgraph, numbers(op.inputs)[_OUTPUT_SHAPE])
        return element(self._model.buffers, size.buffer).data is not None

    def _data(self, subgraph: int, name: str, op: Any) -> Any:
        """The tensor that an op applies its weights to."""
        inputs = numbers(op.inputs).tolist()
        return self._tensor(subgraph, element(inputs, _DATA.get(name, 0)))

    def _tensor(self, subgraph: int, number: int) -> Any:
        # -1 stands for an input that is absent, which none of these may be
        return element(self._model.subgraphs[subgraph].tensors, number)

    def _is_output(self, tensor: ConstantTensor) -> bool:
        subgraph = self._model.subgraphs[tensor.subgraph]
        behind = {
            numbers(op.outputs)[0]
            for name, op, _ in self._readers.get((tensor.subgraph, tensor.index), ())
            if name == "DEQUANTIZE"
        }
        return bool({tensor.index, *behind} & set(numbers(subgraph.outputs)))

    def _type(self, dtype: str) -> int:
        number: int = getattr(self._schema.TensorType, dtype.upper())
        return number

    def _callees(self) -> Iterator[int]:
        """The subgraphs that are called by operators, not by the user."""
        for subgraph in self._model.subgraphs:
            for op in subgraph.operators:
                options = vars(op.builtinOptions or object)
                yield from (
                    int(value)
                    for field, value in options.items()
                    if field.lower().endswith("subgraphindex")
                )


def numbers(vector: Iterable[int] | None) -> Array:
    """A vector of tensors' numbers; one that is not in the file is empty."""
    return np.array([] if vector is None else vector, np.int32)


def _code_names(schema: ModuleType, model: Any) -> list[str]:
    names = {value: name for name, value in vars(schema.BuiltinOperator).items()}
    return [
        # numbers below 127 stand in the old field, which older writers alone fill
        names.get(max(code.builtinCode, code.deprecatedBuiltinCode), "an unknown op")
        for code in model.operatorCodes
    ]
