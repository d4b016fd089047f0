"""MultiHeadAttention: whole heads go, and what its projections read may go."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import layers

from keras_pdp.channels.graph import Ref
from keras_pdp.channels.rules.family import Rule
from keras_pdp.channels.rules.sums import Sum, as_is
from keras_pdp.channels.tensor import Tensor, Value
from keras_pdp.channels.ties import Ids
from keras_pdp.channels.trace import Called, Flow, Knowledge, Trace


def multi_head(called: Called, trace: Trace) -> list[Tensor]:
    """A head is a channel between the value projection and the output projection.

    The weights of attention sum to 1, so a head whose values are constant adds a
    constant, whatever it attends to.
    """
    layer = called.layer
    at = _query_value_key(called)
    if at is None or len(called.shapes) != 1:
        return trace.refuse(
            called, f"'{called.name}' takes a mask, or gives more than one tensor"
        )
    query, value, key = (called.inputs[position] for position in at)
    if query.rank != 3 or layer.quantization_mode is not None:
        return trace.refuse(called, f"'{called.name}' attends over several axes")
    if layer.get_config().get("use_gate"):
        return trace.refuse(called, f"'{called.name}' has a gate for each head")
    heads = trace.ties.fresh(layer.num_heads)
    trace.count(layer, "num_heads", heads)
    places: list[int] = []
    for tensor, project in (
        (query, layer.query_dense),
        (key, layer.key_dense),
        (value, layer.value_dense),
    ):
        trace.cut(called, project.kernel, 0, tensor.ids[-1])
        trace.cut(called, project.kernel, 1, heads, makes=True)
        trace.cut(called, project.bias, 0, heads)
        length, width = tensor.shape[1] or 1, project.kernel.shape[2]
        places.append(length)
        sizes = project.kernel.shape[:1]
        trace.works_on(layer, length * width, tensor.ids[-1], heads, sizes=sizes)
    depth = layer.query_dense.kernel.shape[2] + layer.value_dense.kernel.shape[2]
    trace.works_on(layer, places[0] * places[1] * depth, heads)

    project = layer.output_dense
    made = _made(called, trace, query)
    output = Tensor(called.shapes[0], (None, None, made))
    trace.cut(called, project.kernel, 0, heads)
    trace.cut(called, project.kernel, 2, made, makes=True)
    trace.cut(called, project.bias, 0, made)
    constant = places[0] * project.kernel.shape[1]
    trace.works_on(layer, constant, heads, made, sizes=project.kernel.shape[::2])
    return trace.passes(called, [output], _flow(called, at, heads, output))


def _made(called: Called, trace: Trace, query: Tensor) -> Ids:
    """The output's channels: as many as the query's, unless `output_shape` says."""
    layer = called.layer
    described = layer.get_config()["output_shape"]
    ids = query.ids[-1]
    if described is None and ids is not None:
        # Keras takes the width from the query, so the two stay equally wide.
        return ids
    made = trace.ties.fresh(layer.output_dense.kernel.shape[2])
    if described is None:
        trace.ties.pin(made, f"'{called.name}' is as wide as its query")
    elif isinstance(described, int):
        trace.count(layer, "output_shape", made)
    else:
        trace.count(layer, "output_shape", made, len(described) - 1)
    return made


def _query_value_key(called: Called) -> tuple[int, int, int] | None:
    """Where the three are among the inputs; None with a mask or a cache among them."""
    names = ("query", "value", "key")
    given: dict[str, Any] = dict(zip(names, called.call.args, strict=False))
    given |= {k: v for k, v in called.call.kwargs.items() if k in names}
    given.setdefault("key", given.get("value"))
    if given["key"] is None:
        given["key"] = given.get("value")
    refs = called.call.refs
    if not all(isinstance(given.get(n), Ref) for n in names):
        return None
    if set(refs) != {given[n] for n in names}:
        return None
    query, value, key = (refs.index(given[n]) for n in names)
    return query, value, key


def _flow(called: Called, at: tuple[int, int, int], heads: Ids, output: Tensor) -> Flow:
    layer = called.layer
    query, value, key = at
    reads = (
        (query, _projection(called, layer.query_dense, called.inputs[query])),
        (key, _projection(called, layer.key_dense, called.inputs[key])),
        (value, _projection(called, layer.value_dense, called.inputs[value])),
    )
    total = _sum(called, layer.output_dense, "hvo", "hv", "o", {"h": heads})
    (kernel, bias) = layer.value_dense.kernel, layer.value_dense.bias

    def flow(inputs: Sequence[Value], told: Knowledge) -> list[Value]:
        for position, project in reads:
            told.consumed(project, inputs[position])
        silent = np.asarray(~told.weight(kernel).any(axis=0))
        number = np.zeros(silent.shape) + told.bias(layer.value_dense, bias)
        heads_say = Value(number, silent)
        told.consumed(total, heads_say)
        return [total.result(total.whole(heads_say), told, output)]

    return flow


def _projection(called: Called, project: Any, tensor: Tensor) -> Sum:
    ids = tensor.ids[-1]
    return _sum(called, project, "ihk", "i", "hk", {} if ids is None else {"i": ids})


def _sum(
    called: Called,
    project: Any,
    letters: str,
    inputs: str,
    outputs: str,
    summed: dict[str, Ids],
) -> Sum:
    sizes = tuple(project.kernel.shape[: len(inputs)])
    none = f"'{called.name}' has no bias that could take its constant"
    return Sum(
        layer=project,
        name=called.name,
        kernel=project.kernel,
        bias=project.bias,
        letters=letters,
        view=as_is,
        inputs=inputs,
        view_input=lambda x: np.broadcast_to(
            x.reshape(-1) if len(sizes) == 1 else x, sizes
        ),
        outputs=outputs,
        restore=lambda x: x.reshape(1, 1, -1) if outputs == "o" else x,
        bias_view=as_is,
        bias_store=as_is,
        summed=summed,
        cuts=none if project.bias is None else None,
    )


LAYERS: dict[type, Rule] = {layers.MultiHeadAttention: multi_head}
