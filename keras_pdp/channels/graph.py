"""Reads the graph of a model from its configuration: public API only.

A functional configuration names, for each layer, the tensors of every call of it. A
Sequential model is a chain.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

Shape = tuple[int | None, ...]


@dataclasses.dataclass(frozen=True)
class Ref:
    """A tensor of the graph: an output of one call of one operation."""

    name: str
    node: int
    output: int
    shape: Shape = dataclasses.field(compare=False, hash=False, default=())
    dtype: str = dataclasses.field(compare=False, hash=False, default="float32")


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of a layer, or of a function of `keras.ops`.

    Args:
        operation: What is called.
        name: Its name in the model.
        node: How many calls of it came before.
        args, kwargs: As in the call, with a `Ref` for every tensor.
    """

    operation: Any
    name: str
    node: int
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @property
    def refs(self) -> list[Ref]:
        """The tensors it takes, in Keras's order: dictionaries by key."""
        return _leaves((self.args, self.kwargs))


@dataclasses.dataclass(frozen=True)
class Graph:
    """The calls of a model, every tensor before its consumers.

    Args:
        inputs, outputs: In Keras's order: dictionaries by key.
        calls: In an order in which they can be run.
        keys: Of the inputs, where they are a dictionary; else None.
    """

    inputs: tuple[Ref, ...]
    calls: tuple[Call, ...]
    outputs: tuple[Ref, ...]
    keys: tuple[str, ...] | None = None


def readable(model: Any) -> bool:
    """Whether the graph of a model is known: Sequential or functional, and built.

    A layer without a configuration makes a functional model unreadable.
    """
    if not isinstance(model, keras.Model) or not model.built:
        return False
    if isinstance(model, keras.Sequential):
        return True
    if not hasattr(model, "operations"):
        return False
    try:
        return "layers" in model.get_config()
    except NotImplementedError:
        return False


def check_readable(model: keras.Model) -> None:
    """Raises a ValueError where the graph of a model is not known."""
    if not readable(model):
        raise ValueError(
            f"The graph of '{model.name}' can't be read: it is not built, or is a "
            "subclassed model whose graph is in its code, or a layer in it has no "
            "get_config. Express it as keras.Model(inputs, outputs) of such layers."
        )


def read(model: keras.Model) -> Graph:
    """The graph of a model for which `readable` is true."""
    if isinstance(model, keras.Sequential):
        return _chain(model)
    config = model.get_config()
    operations = {each.name: each for each in model.operations}
    calls = []
    for entry in config["layers"]:
        # A layer built before it was called in this graph has calls of other graphs,
        # which the configuration leaves out; its own are counted from 0.
        for node, described in enumerate(entry["inbound_nodes"]):
            args, kwargs = (
                _with_refs(described["args"]),
                _with_refs(described["kwargs"]),
            )
            operation = operations[entry["name"]]
            calls.append(Call(operation, entry["name"], node, tuple(args), kwargs))
    inputs = tuple(
        dataclasses.replace(ref, shape=tuple(tensor.shape))
        for ref, tensor in zip(_ends(config["input_layers"]), model.inputs, strict=True)
    )
    outputs = tuple(
        dataclasses.replace(
            ref,
            node=ref.node - first_call(operations[ref.name]),
            shape=tuple(tensor.shape),
        )
        for ref, tensor in zip(
            _ends(config["output_layers"]), model.outputs, strict=True
        )
    )
    described = config["input_layers"]
    keys = tuple(sorted(described)) if isinstance(described, dict) else None
    return Graph(inputs, tuple(_in_order(calls, inputs)), outputs, keys)


def first_call(operation: Any) -> int:
    """What a configuration calls the first call of an operation, where it tells of the
    model's outputs: 1 of a functional model; elsewhere all begin with 0.
    """
    if isinstance(operation, keras.Sequential):
        return 0
    return int(isinstance(operation, keras.Model) and hasattr(operation, "operations"))


def _chain(model: keras.Sequential) -> Graph:
    tensor = model.inputs[0]
    ref = first = Ref("", 0, 0, tuple(tensor.shape), tensor.dtype)
    calls = []
    used: dict[str, int] = {}
    for layer in model.layers:
        node = used.get(layer.name, 0)
        used[layer.name] = node + 1
        calls.append(Call(layer, layer.name, node, (ref,), {}))
        # Unlike compute_output_shape, which a layer has to bring, this traces `call`.
        tensor = layer.compute_output_spec(
            keras.KerasTensor(tensor.shape, dtype=tensor.dtype)
        )
        ref = Ref(layer.name, node, 0, tuple(tensor.shape), tensor.dtype)
    return Graph((first,), tuple(calls), (ref,))


def _in_order(calls: list[Call], inputs: tuple[Ref, ...]) -> Iterator[Call]:
    """A shared layer's calls stand together in the configuration, wherever they are."""
    done: set[tuple[str, int]] = {(ref.name, ref.node) for ref in inputs}
    waiting = calls
    while waiting:
        later = []
        for call in waiting:
            if all((ref.name, ref.node) in done for ref in call.refs):
                done.add((call.name, call.node))
                yield call
            else:
                later.append(call)
        if len(later) == len(waiting):
            names = sorted({call.name for call in later})
            raise ValueError(f"The graph has no order; calls left over: {names}.")
        waiting = later


def _with_refs(value: Any) -> Any:
    """The arguments of a call, with tensors and arrays out of their descriptions."""
    if isinstance(value, dict):
        kind = value.get("class_name")
        if kind == "__keras_tensor__":
            inner = value["config"]
            name, node, output = inner["keras_history"]
            return Ref(name, node, output, tuple(inner["shape"]), inner["dtype"])
        if kind in ("__numpy__", "__tensor__"):
            return np.array(value["config"]["value"], value["config"]["dtype"])
        return {key: _with_refs(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_with_refs(each) for each in value]
    return value


def _leaves(structure: Any) -> list[Ref]:
    return [x for x in keras.tree.flatten(structure) if isinstance(x, Ref)]


def _ends(described: Any) -> list[Ref]:
    """`["name", 0, 0]`, a list of these, or any structure of them."""
    return _leaves(_structure(described))


def _structure(described: Any) -> Any:
    if isinstance(described, dict):
        return {key: _structure(each) for key, each in described.items()}
    if len(described) == 3 and isinstance(described[0], str):
        return Ref(*described)
    return [_structure(each) for each in described]
