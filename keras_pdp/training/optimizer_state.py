"""The optimizer's variables, made before the first step."""

import keras

from keras_pdp.training.tree import walk


def build(model: keras.Model) -> None:
    """Makes the variables of the model's optimizer, where it has none yet.

    In `fit` on TensorFlow the first step would make them. TensorFlow then traces the
    step twice, once with variables to make and once without, and each of the wrapped
    kernels takes its time in both. Metrics that are named by strings make variables in
    the first step as well, and bring the second trace back; objects of
    `keras.metrics` do not.

    Nothing is done for a model with a `train_step` of its own, which may apply more or
    less than the model's weights, or none by this optimizer, and for one whose layers
    are not all built.
    """
    optimizer = model.optimizer
    if optimizer is None or optimizer.built:
        return
    if type(model).train_step is not keras.Model.train_step:
        return
    if all(layer.built for _, layer in walk(model)):
        optimizer.build(model.trainable_variables)
