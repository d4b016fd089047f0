"""numpy's comparisons, of what models give on every backend.

numpy asks a tensor of PyTorch for its numbers in a way that one with a gradient
refuses.
"""

import keras
import numpy as np


def numbers(x):
    held = keras.ops.is_tensor(x) or isinstance(x, keras.Variable)
    return keras.ops.convert_to_numpy(x) if held else x


def outputs(model, x):
    """What a model that is called gives, in numpy.

    Not by `predict`, which traces a function first: that takes longer than most tests.
    """
    return keras.tree.map_structure(numbers, model(x, training=False))


def assert_array_equal(one, other):
    np.testing.assert_array_equal(numbers(one), numbers(other))


def assert_allclose(one, other, **tolerances):
    np.testing.assert_allclose(numbers(one), numbers(other), **tolerances)
