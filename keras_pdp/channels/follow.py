"""Follows the channels of a model from its inputs to its outputs, rule by rule."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras

from keras_pdp.channels import graph
from keras_pdp.channels.graph import Call, Graph, Ref, Shape
from keras_pdp.channels.rules import rule_for
from keras_pdp.channels.tensor import Tensor
from keras_pdp.channels.trace import Called, Trace

Unwrapped = Callable[[Any], Any]

# Layers whose result is exact for constants whatever their mask leaves out.
_MASKED = (keras.layers.BatchNormalization, keras.layers.GlobalAveragePooling1D)


def traced(model: keras.Model, unwrapped: Unwrapped = lambda layer: layer) -> Trace:
    """The channels of a model and what hangs on them.

    Args:
        model: A built Sequential or functional model, for which `graph.readable`.
        unwrapped: Gives the layer that a wrapper stands for. Defaults to the layer.
    """
    trace = Trace()
    ends = graph.read(model)
    inputs = [trace.pinned(ref.shape, "the model's input") for ref in ends.inputs]
    for output in _follow(ends, inputs, trace, unwrapped, prefix=""):
        trace.ties.pin(output.every_id, "the model's output")
    return trace


def _follow(
    ends: Graph,
    inputs: Sequence[Tensor],
    trace: Trace,
    unwrapped: Unwrapped,
    prefix: str,
) -> list[Tensor]:
    at: dict[Ref, Tensor] = dict(zip(ends.inputs, inputs, strict=True))
    made = _outputs_by_call(ends)
    for call in ends.calls:
        called = _called(call, at, made, unwrapped, prefix)
        layer = called.layer
        inner = graph.read(layer) if graph.readable(layer) else None
        rule = None if inner else rule_for(layer, len(called.inputs))
        reason = _unusual(called) if inner or rule else None
        if reason is not None:
            outputs = trace.refuse(called, reason)
        elif inner is not None and _fits(called.call, inner):
            _count_inputs(called, trace)
            # Constants flow on through the steps inside: nothing is said of the whole.
            inside = f"{called.name}/"
            outputs = _follow(inner, called.inputs, trace, unwrapped, inside)
        elif rule is not None:
            outputs = rule(called, trace)
        else:
            reason = f"the channels of {_kind(layer)} are not known"
            outputs = trace.refuse(called, reason)
        for index, tensor in enumerate(outputs):
            at[Ref(call.name, call.node, index)] = tensor
    return [at[ref] for ref in ends.outputs]


def _called(
    call: Call,
    at: dict[Ref, Tensor],
    made: dict[tuple[str, int], dict[int, Shape]],
    unwrapped: Unwrapped,
    prefix: str,
) -> Called:
    shapes = made.get((call.name, call.node), {})
    if isinstance(unwrapped(call.operation), _MASKED):
        # Where all are constant, some of them are too.
        kwargs = {k: v for k, v in call.kwargs.items() if k != "mask"}
        call = dataclasses.replace(call, kwargs=kwargs)
    described = tuple(shapes.get(i, ()) for i in range(max(shapes, default=-1) + 1))
    return Called(
        layer=unwrapped(call.operation),
        name=f"{prefix}{call.name}",
        call=call,
        inputs=tuple(at[ref] for ref in call.refs),
        shapes=_sized(call, at, described),
    )


def _sized(
    call: Call, at: dict[Ref, Tensor], described: tuple[Shape, ...]
) -> tuple[Shape, ...]:
    """The outputs' shapes for the inputs that there are.

    A nested model may be made for inputs of any size; it is called with one.
    """
    inputs = [at[ref].shape for ref in call.refs]
    if _known(described) or not inputs or not _known(inputs):
        return described

    def tensor(value: Any) -> Any:
        if not isinstance(value, Ref):
            return value
        return keras.KerasTensor(at[value].shape, value.dtype)

    args, kwargs = keras.tree.map_structure(tensor, (call.args, call.kwargs))
    outputs = call.operation.compute_output_spec(*args, **kwargs)
    found = tuple(tuple(each.shape) for each in keras.tree.flatten(outputs))
    return found[: len(described)]


def _known(shapes: Sequence[Shape]) -> bool:
    """Whether all sizes are known but those of the batch."""
    return all(None not in shape[1:] for shape in shapes)


def _unusual(called: Called) -> str | None:
    """Why a call is not what the rules expect; None where it is."""
    call = called.call
    training = [call.kwargs.get("training"), *call.args]
    if any(each is True for each in training):
        return f"'{called.name}' is called with training=True"
    return None


def _fits(call: Call, inner: Graph) -> bool:
    """Whether a nested model is called as it was made: a dictionary with one."""
    given = call.args[0] if len(call.args) == 1 else None
    keys = tuple(sorted(given)) if isinstance(given, dict) else None
    return keys == inner.keys and len(call.refs) == len(inner.inputs)


def _count_inputs(called: Called, trace: Trace) -> None:
    """A nested model has input layers, whose shapes count the channels too."""
    for position, tensor in enumerate(called.inputs):
        for axis, ids in enumerate(tensor.ids):
            trace.count(called.layer, f"input {position}", ids, axis)


def _outputs_by_call(ends: Graph) -> dict[tuple[str, int], dict[int, Shape]]:
    made: dict[tuple[str, int], dict[int, Shape]] = {}
    for ref in _every_ref(ends):
        made.setdefault((ref.name, ref.node), {})[ref.output] = ref.shape
    return made


def _every_ref(ends: Graph) -> Iterator[Ref]:
    for call in ends.calls:
        yield from call.refs
    yield from ends.outputs


def _kind(operation: Any) -> str:
    name = type(operation).__name__
    return name if isinstance(operation, keras.Layer) else f"keras.ops ({name})"
