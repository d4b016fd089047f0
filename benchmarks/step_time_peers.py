"""The peers of the step time benchmark: tfmot, through Keras 2, and PQuantML."""

import gc
import math
import operator
from collections.abc import Mapping
from typing import Any

from benchmarks.accuracy_nets import is_pruned
from benchmarks.step_time_training import (
    SPARSITY,
    Prepare,
    Task,
    Training,
    compiled_step,
)


def dense_keras_2(task: Task) -> Training:
    """Keras 2, nothing pruned."""
    import tf_keras

    return Training(compiled_step(task.net.build(tf_keras), task, tf_keras))


def tfmot(frequency: int) -> Prepare:
    """`prune_low_magnitude` on a ramp; masks are set anew every so many steps."""

    def prepare(task: Task) -> Training:
        import tensorflow_model_optimization as tfmot
        import tf_keras

        keras_api = tfmot.sparsity.keras
        end = task.steps + 1
        schedule = keras_api.PolynomialDecay(0.1, SPARSITY, 1, end, 1, frequency)

        def pruned(layer: Any) -> Any:
            if not is_pruned(layer):
                return layer
            return keras_api.prune_low_magnitude(layer, pruning_schedule=schedule)

        net = task.net.build(tf_keras)
        model = tf_keras.models.clone_model(net, clone_function=pruned)
        step = compiled_step(model, task, tf_keras)
        update = keras_api.UpdatePruningStep()
        update.set_model(model)
        update.on_train_begin()
        wrappers = [each for each in model.layers if hasattr(each, "pruning_vars")]
        masks = [mask for each in wrappers for _, mask, _ in each.pruning_vars]
        size = sum(math.prod(mask.shape) for mask in masks)

        def sparsity() -> float:
            return 1.0 - sum(float(mask.numpy().sum()) for mask in masks) / size

        return Training(step, size, sparsity)

    return prepare


def pquant(task: Task) -> Training:
    """PQuantML's PDP in its main phase, halfway up the ramp; it moves once an epoch.

    Its layers stand in the net in the place of Keras's. Its own conversion of a model
    takes chains of layers only.
    """
    import keras
    from pquant.core.hyperparameter_optimization import pdp_config
    from pquant.core.keras.train import PQuantCallback

    config = pdp_config()
    config.quantization_parameters.enable_quantization = False
    pruning, training = config.pruning_parameters, config.training_parameters
    pruning.sparsity, pruning.epsilon = SPARSITY, 0.1
    training.pretraining_epochs, training.epochs = 0, 10
    model = keras.models.clone_model(
        task.net.build(keras), clone_function=lambda layer: _theirs(layer, config)
    )
    gc.collect()
    step = compiled_step(model, task, keras)
    callback = PQuantCallback(config, log_ebops=False, log_keep_ratio=False)
    callback.set_model(model)
    callback.on_train_begin()
    callback.on_epoch_begin(4)
    layers = [each for each in model.layers if hasattr(each, "pruning_layer")]
    sizes = [math.prod(each.pruning_layer.mask.shape) for each in layers]

    def sparsity() -> float:
        shares = [float(each.pruning_layer.r.numpy()) for each in layers]
        return sum(map(operator.mul, shares, sizes)) / sum(sizes)

    return Training(step, sum(sizes), sparsity)


def _theirs(layer: Any, config: Any) -> Any:
    """PQuantML's layer in the place of Keras's; attention stays as it is.

    Of attention it would prune the last of four kernels alone.
    """
    from pquant.core.keras import layers

    kind = type(layer).__name__
    given = layer.get_config()
    shared = ("name", "use_bias")
    window = ("kernel_size", "strides", "padding", *shared)
    match kind:
        case "Dense":
            return layers.PQDense(config, **_some(given, "units", *shared))
        case "Conv2D":
            return layers.PQConv2d(config, **_some(given, "filters", *window))
        case "DepthwiseConv2D":
            return layers.PQDepthwiseConv2d(config, **_some(given, *window))
    return type(layer).from_config(given)


def _some(given: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: given[name] for name in names}
