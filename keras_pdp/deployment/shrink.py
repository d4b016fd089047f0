"""Takes the dead channels out of a model: a smaller model, the same function.

Zeros in a kernel make no model faster; fewer channels do, on every device. Which
channels hang together is followed through the graph (`keras_pdp.channels`), what they
say is computed from the weights (`dead_channels`), and the model is built anew from its
configuration with smaller numbers in it.
"""

import warnings
from collections import Counter
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_pdp.channels import cost, follow, graph
from keras_pdp.channels.tensor import Array
from keras_pdp.channels.ties import Ids
from keras_pdp.channels.trace import Setting, Trace
from keras_pdp.deployment import dead_channels
from keras_pdp.deployment.dead_channels import Verdict
from keras_pdp.deployment.shrink_report import Change, LayerChange, ShrinkReport
from keras_pdp.training import copies, rebuild
from keras_pdp.training.surgery import check_kind, named_wrappers

_ENDS = ("the model's input", "the model's output")


def shrink(model: keras.Model) -> keras.Model:
    """A smaller model that computes the same: its dead channels are gone.

    A channel is dead when what it holds is a constant, whatever the input: a kernel of
    zeros, and what biases, normalisations and activations make of it. Constants are
    folded into the biases of the layers that read them, where that is exact; else the
    channel stays, and a warning counts such channels by their reasons. Channels that
    nobody reads go as well. Tied channels (a residual sum, a depthwise chain) go
    together or not at all, and every layer keeps one.

    Followed: Dense, EinsumDense, Embedding, convolutions of all kinds, batch and
    instance normalisation, activations, PReLU, pooling, padding, cropping, up-sampling,
    dropout, Flatten, Reshape, Permute, sums, products, maxima, means and concatenations
    of tensors, gates, MultiHeadAttention (whole heads), element-wise functions of
    `keras.ops`, nested models and shared layers. What is not followed stays whole.

    Outputs equal those of the model up to the rounding of float32. Names, dtype
    policies and configuration stay but for the widths (and `use_bias` of a layer that
    got a bias); shrinking twice changes nothing. Prune with `Channel()`, `strip`, then
    shrink.

    Args:
        model: A built Sequential or functional model without `PDPWrapper` layers. It
            stays as it is.

    Returns:
        The smaller model. `shrink_report(model)` says what it lacks and why.

    Raises:
        TypeError: If `model` is no Keras 3 model.
        ValueError: If the model is a subclassed one, not built, or still wrapped.

    Example:

    >>> small = shrink(strip(model))
    >>> to_tflite(small, "small.tflite")
    """
    small, report = shrink_with_report(model)
    if report.held:
        warnings.warn(
            f"{sum(report.held.values())} channels have a kernel of zeros and stay "
            f"all the same: {_told(report.held)}.",
            stacklevel=2,
        )
    return small


def shrink_report(model: keras.Model) -> ShrinkReport:
    """What `shrink` would do to a model: channels, parameters, MACs, and what stays.

    Args, Raises: as `shrink`.

    Example:

    >>> print(shrink_report(strip(model)))
    """
    trace = _traced(model)
    return _report(model, trace, dead_channels.search(trace))


def shrink_with_report(model: keras.Model) -> tuple[keras.Model, ShrinkReport]:
    """`shrink(model)` and `shrink_report(model)` for the work of one."""
    trace = _traced(model)
    verdict = dead_channels.search(trace)
    settings: dict[int, list[Setting]] = {}
    for each in trace.settings:
        settings.setdefault(id(each.layer), []).append(each)

    def smaller(layer: keras.Layer) -> keras.Layer:
        changed = _resized(layer.get_config(), settings.get(id(layer), []), verdict)
        if id(layer) in verdict.biases:
            changed["use_bias"] = True
        return copies.copy_of(layer, **changed)

    def described(inner: keras.Model, config: dict[str, Any]) -> dict[str, Any]:
        return _with_inputs(inner, config, settings.get(id(inner), []), verdict)

    def transfer(old: keras.Layer, new: keras.Layer) -> None:
        _give_weights(old, new, trace, verdict)

    small = rebuild.rebuilt(model, smaller, transfer, described, graph.readable)
    return small, _report(model, trace, verdict)


def _traced(model: Any) -> Trace:
    check_kind("shrink", model)
    if named_wrappers(model):
        raise ValueError(
            f"'{model.name}' still has PDPWrapper layers: shrink(strip(model))."
        )
    graph.check_readable(model)
    return follow.traced(model)


def _resized(
    config: dict[str, Any], settings: list[Setting], verdict: Verdict
) -> dict[str, Any]:
    """The entries of a layer's configuration that count channels."""
    changed: dict[str, Any] = {}
    for each in settings:
        count = int(verdict.keep[each.ids].sum())
        if each.position is None:
            changed[each.key] = count
            continue
        value = changed.get(each.key, config[each.key])
        items = [value] if isinstance(value, int) else list(value)
        items[each.position] = count
        changed[each.key] = items[0] if isinstance(value, int) else items
    return changed


def _with_inputs(
    model: keras.Model,
    config: dict[str, Any],
    settings: list[Setting],
    verdict: Verdict,
) -> dict[str, Any]:
    """A nested model's configuration with the widths of its inputs."""
    if not settings:
        return config
    config = {**config, "layers": [dict(each) for each in config["layers"]]}
    config.pop("build_input_shape", None)
    inputs = _input_entries(model, config)
    for each in settings:
        assert each.position is not None
        entry = inputs[int(each.key.removeprefix("input "))]
        shape = list(entry["config"]["batch_shape"])
        shape[each.position] = int(verdict.keep[each.ids].sum())
        entry["config"] = {**entry["config"], "batch_shape": shape}
    return config


def _input_entries(model: keras.Model, config: dict[str, Any]) -> list[dict[str, Any]]:
    if isinstance(model, keras.Sequential):
        if config["layers"][0]["class_name"] != "InputLayer":
            shape = tuple(model.inputs[0].shape)
            layer = keras.layers.InputLayer(batch_shape=shape)
            config["layers"].insert(0, keras.saving.serialize_keras_object(layer))
        return config["layers"][:1]
    by_name = {each["name"]: each for each in config["layers"]}
    return [by_name[ref.name] for ref in graph.read(model).inputs]


def _give_weights(
    old: keras.Layer, new: keras.Layer, trace: Trace, verdict: Verdict
) -> None:
    # A bias of its own making is the last variable of a smaller layer.
    for variable, to in zip(old.variables, new.variables, strict=False):
        value = verdict.values.get(id(variable))
        if value is None:
            value = ops.convert_to_numpy(variable.value)
        to.assign(ops.cast(_kept(value, variable, trace, verdict), to.dtype))
    bias = verdict.biases.get(id(old))
    if bias is not None:
        kept = bias.reshape(-1)[verdict.keep[_made_by(old, trace)]]
        new.bias.assign(ops.cast(kept, new.bias.dtype))


def _made_by(layer: keras.Layer, trace: Trace) -> Ids:
    """The ids of the channels that a layer makes."""
    return next(x.ids for x in trace.slices.values() if x.makes and x.layer is layer)


def _kept(
    value: Any, variable: keras.Variable, trace: Trace, verdict: Verdict
) -> Array:
    array = np.asarray(value)
    for axis in range(array.ndim):
        each = trace.slices.get((id(variable), axis))
        if each is not None:
            array = np.compress(verdict.keep[each.ids], array, axis=axis)
    return array


def _report(model: keras.Model, trace: Trace, verdict: Verdict) -> ShrinkReport:
    makers = [each for each in trace.slices.values() if each.makes]
    roots = trace.ties.all_roots()
    stuck: Counter[str] = Counter()
    for root in {int(r) for each in makers for r in roots[each.ids]}:
        reason = trace.ties.reason(root)
        if reason is not None and reason not in _ENDS:
            stuck[reason] += 1
    gained = {x.name: x for x in makers if id(x.layer) in verdict.biases}
    extra = sum(int(verdict.keep[each.ids].sum()) for each in gained.values())
    return ShrinkReport(
        layers=tuple(
            LayerChange(
                each.name, Change(len(each.ids), int(verdict.keep[each.ids].sum()))
            )
            for each in makers
        ),
        parameters=Change(
            model.count_params(), cost.parameters(model, trace, verdict.keep) + extra
        ),
        macs=Change(cost.macs(trace), cost.macs(trace, verdict.keep)),
        held=dict(Counter(verdict.held.values())),
        gained_bias=tuple(gained),
        not_followed=dict(stuck),
    )


def _told(reasons: dict[str, int]) -> str:
    return "; ".join(f"{count} because {why}" for why, count in reasons.items())
