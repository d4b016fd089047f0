"""Reads the graph of a model from its configuration: public API only.

A functional configuration names, for each layer, the tensors of every call of it. A
Sequential model is a chain.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import keras

Shape = tuple[int | None, ...]


@dataclasses.dataclass(frozen=True)
class Ref:
    """A tensor of the graph: an output of one call of one operation."""

    name: str
    node: int
    output: int
    shape: Shape = dataclasses.field(compare=False, hash=False, default=())


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
        """The tensors it takes, in order."""
        return list(_refs((self.args, self.kwargs)))


@dataclasses.dataclass(frozen=True)
class Graph:
    """The calls of a model, every tensor before its consumers."""

    inputs: tuple[Ref, ...]
    calls: tuple[Call, ...]
    outputs: tuple[Ref, ...]


def readable(model: Any) -> bool:
    """Whether the graph of a model is known: Sequential or functional, and built."""
    if not isinstance(model, keras.Model) or not model.built:
        return False
    if isinstance(model, keras.Sequential):
        return True
    return hasattr(model, "operations") and "layers" in model.get_config()


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
        dataclasses.replace(ref, shape=tuple(tensor.shape))
        for ref, tensor in zip(
            _ends(config["output_layers"]), model.outputs, strict=True
        )
    )
    return Graph(inputs, tuple(_in_order(calls, inputs)), outputs)


def _chain(model: keras.Sequential) -> Graph:
    shape = tuple(model.inputs[0].shape)
    ref = first = Ref("", 0, 0, shape)
    calls = []
    used: dict[str, int] = {}
    for layer in model.layers:
        node = used.get(layer.name, 0)
        used[layer.name] = node + 1
        calls.append(Call(layer, layer.name, node, (ref,), {}))
        ref = Ref(layer.name, node, 0, tuple(layer.compute_output_shape(ref.shape)))
    return Graph((first,), tuple(calls), (ref,))


def _in_order(calls: list[Call], inputs: tuple[Ref, ...]) -> Iterator[Call]:
    """A shared layer's calls stand together in the configuration, wherever they are."""
    known = set(inputs)
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
    del known


def _with_refs(value: Any) -> Any:
    if isinstance(value, dict):
        if value.get("class_name") == "__keras_tensor__":
            inner = value["config"]
            name, node, output = inner["keras_history"]
            return Ref(name, node, output, tuple(inner["shape"]))
        return {key: _with_refs(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_with_refs(each) for each in value]
    return value


def _refs(value: Any) -> Iterator[Ref]:
    if isinstance(value, Ref):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from _refs(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _refs(each)


def _ends(described: Any) -> list[Ref]:
    """`["name", 0, 0]`, a list of these, or any structure of them."""
    if (
        isinstance(described, list | tuple)
        and len(described) == 3
        and isinstance(described[0], str)
    ):
        return [Ref(*described)]
    values = described.values() if isinstance(described, dict) else described
    return [ref for each in values for ref in _ends(each)]
