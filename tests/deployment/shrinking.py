"""What the tests of `shrink` share: weights that speak, and channels that do not."""

import keras
import numpy as np

from keras_pdp.channels import follow


def lively(model, seed=0):
    """Random weights everywhere, biases, offsets and statistics too."""
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        if not keras.backend.is_float_dtype(variable.dtype):
            continue
        if variable.name in ("moving_variance", "variance", "gamma"):
            value = rng.uniform(0.5, 1.5, variable.shape)
        elif len(variable.shape) > 1:
            fan = max(1, int(np.prod(variable.shape[:-1])))
            value = rng.normal(size=variable.shape) / np.sqrt(fan)
        else:
            value = rng.normal(size=variable.shape) * 0.3
        variable.assign(value.astype("float32"))
    return model


def silence(model, name, channels, axis=-1, kernel="kernel", bias=True):
    """Takes output channels out of a layer by hand."""
    layer = model.get_layer(name)
    weight = getattr(layer, kernel)
    value = np.array(keras.ops.convert_to_numpy(weight))
    np.moveaxis(value, axis, 0)[channels] = 0.0
    weight.assign(value)
    if bias and getattr(layer, "bias", None) is not None:
        value = np.array(keras.ops.convert_to_numpy(layer.bias))
        value[channels] = 0.0
        layer.bias.assign(value)


def silence_tied(model, share, seed=0, offsets=True):
    """Takes a random share of all channels that may go, with all that is tied to them.

    Args:
        offsets: Whether biases and the offsets of normalisations go as well.
    """
    rng = np.random.default_rng(seed)
    trace = follow.traced(model)
    roots = trace.ties.all_roots()
    free = [r for r in np.unique(roots) if trace.ties.reason(int(r)) is None]
    gone = np.zeros(len(roots), bool)
    gone[rng.permutation(free)[: int(len(free) * share)]] = True
    gone = gone[roots]
    for each in trace.slices.values():
        small = each.variable.name in ("bias", "gamma", "beta")
        if each.makes or (small and offsets):
            value = np.array(keras.ops.convert_to_numpy(each.variable))
            np.moveaxis(value, each.axis, 0)[gone[each.ids]] = 0.0
            each.variable.assign(value)


def samples(model, count=3, seed=1):
    rng = np.random.default_rng(seed)
    found = []
    for tensor in model.inputs:
        shape = (count, *(size or 5 for size in tensor.shape[1:]))
        if "int" in tensor.dtype:
            found.append(rng.integers(0, 5, shape).astype(tensor.dtype))
        else:
            found.append(rng.normal(size=shape).astype("float32"))
    return found


def outputs(model, data):
    result = model(data if len(data) > 1 else data[0], training=False)
    return [keras.ops.convert_to_numpy(each) for each in keras.tree.flatten(result)]


def difference(one, other, data):
    """The largest difference of the outputs, relative to the largest output."""
    pairs = zip(outputs(one, data), outputs(other, data), strict=True)
    return max(np.abs(a - b).max() / max(np.abs(a).max(), 1e-12) for a, b in pairs)


def widths(report):
    return {each.name: each.channels.after for each in report.layers}
