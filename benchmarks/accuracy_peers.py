"""The peers of the accuracy benchmark: tfmot, through Keras 2, and PQuantML."""

from dataclasses import dataclass
from typing import Any

from benchmarks.accuracy_data import Array
from benchmarks.accuracy_methods import Method
from benchmarks.accuracy_nets import is_pruned
from benchmarks.accuracy_targets import Channels, Pattern, Target, Weights
from benchmarks.accuracy_task import Prepared, Refused, Task, read_weights

BEGIN, END = 0.1, 0.5  # of the ramp, as ours: our study found them better than
TAIL = 0.25  # later ones; of the run, with the mask that it ends with
TAU = 1e-5  # PQuantML's own


class Peer(Method):
    """A method of others: that it can't do something is a result."""

    @property
    def failures(self) -> tuple[type[Exception], ...]:
        return ValueError, TypeError, AttributeError, NotImplementedError


@dataclass(frozen=True)
class Tfmot(Peer):
    """`prune_low_magnitude` with `PolynomialDecay`, on the same net in Keras 2."""

    title: str = "tfmot"
    frequency: int = 100  # its default: masks are set anew every so many steps

    def prepare(self, task: Task) -> Prepared:
        import tensorflow_model_optimization as tfmot
        import tf_keras

        keras_api = tfmot.sparsity.keras
        options = self._options(task, keras_api)

        def pruned(layer: Any) -> Any:
            if not is_pruned(layer):
                return layer
            return keras_api.prune_low_magnitude(layer, **options)

        model = tf_keras.models.clone_model(task.net(tf_keras), clone_function=pruned)
        return Prepared(
            tf_keras,
            model,
            lambda trained: read_weights(keras_api.strip_pruning(trained)),
            [keras_api.UpdatePruningStep()],
        )

    def _options(self, task: Task, keras_api: Any) -> dict[str, Any]:
        begin = round(BEGIN * task.steps)
        # A short run has no hundred steps to wait; the last update is the ramp's end.
        every = max(1, min(self.frequency, task.steps // 20))
        end = begin + (round(END * task.steps) - begin) // every * every
        match task.target:
            case Channels():
                raise Refused("prunes no channels")
            case Pattern(keep, of):
                constant = keras_api.ConstantSparsity(0.5, begin, frequency=every)
                return {
                    "pruning_schedule": constant,
                    "sparsity_m_by_n": (of - keep, of),
                }
            case Weights(share):
                ramp = keras_api.PolynomialDecay(
                    0.0, share, begin, end, power=3, frequency=every
                )
                return {"pruning_schedule": ramp}
        raise Refused("has nothing to prune to")

    def settings(self, target: Target) -> str:
        return (
            f"PolynomialDecay(0, {BEGIN}, {END}, power=3, frequency={self.frequency})"
        )

    @property
    def note(self) -> str:
        return (
            "the frequency is a twentieth of the run's steps where that is less; the "
            "same sparsity in every layer, none in depthwise kernels; N:M masks are "
            "set once, at its first step, from the weights there are then"
        )

    @property
    def environment(self) -> dict[str, str]:
        return {"TF_USE_LEGACY_KERAS": "1"}


@dataclass(frozen=True)
class PQuant(Peer):
    """PQuantML's PDP on Keras 3, without quantisation."""

    title: str = "PQuantML's PDP"

    def prepare(self, task: Task) -> Prepared:
        import keras
        from pquant.core.hyperparameter_optimization import pdp_config
        from pquant.core.keras.layers import add_compression_layers
        from pquant.core.keras.train import PQuantCallback

        match task.target:
            case Pattern():
                raise Refused("its PDP has no N:M")
            case Weights(share):
                structured = False
            case Channels(share):
                structured = True
            case _:
                raise Refused("has nothing to prune to")
        epochs = task.case.epochs
        dense, tail = max(1, round(BEGIN * epochs)), max(1, round(TAIL * epochs))
        config = pdp_config()
        config.quantization_parameters.enable_quantization = False
        pruning, training = config.pruning_parameters, config.training_parameters
        pruning.sparsity, pruning.temperature = share, TAU
        pruning.structured_pruning = structured
        pruning.epsilon = 1 / max(1, round((END - BEGIN) * epochs))
        training.pretraining_epochs = dense
        training.epochs = epochs - dense - tail
        training.fine_tuning_epochs = tail
        plain = task.net(keras)
        if structured:  # else half of the classes would go
            pruning.disable_pruning_for_layers = [plain.layers[-1].name]
        model = add_compression_layers(plain, config)
        return Prepared(
            keras,
            model,
            lambda trained: _plain_weights(trained, plain),
            [PQuantCallback(config, log_ebops=False, log_keep_ratio=False)],
        )

    def settings(self, target: Target) -> str:
        return f"temperature={TAU}, linear {BEGIN} to {END}, fine-tuning {TAIL}"

    @property
    def note(self) -> str:
        return (
            "in whole epochs; on Keras the same sparsity in every layer, as its global "
            "budget is computed and not used; channels are a share of every layer's "
            "outputs, but for the last one's"
        )


def _plain_weights(trained: Any, plain: Any) -> list[Array]:
    """Its layers come in the order of the net's, which is a chain."""
    theirs = [
        weights for layer in trained.layers if (weights := _weights_of(layer)) != []
    ]
    ours = [layer for layer in plain.layers if layer.get_weights()]
    for layer, weights in zip(ours, theirs, strict=True):
        layer.set_weights(weights)
    return read_weights(plain)


def _weights_of(layer: Any) -> list[Array]:
    from pquant.core.keras.layers import PQWeightBiasBase

    if not isinstance(layer, PQWeightBiasBase):
        return list(layer.get_weights())
    variables = [layer._kernel, *([layer._bias] if layer.use_bias else [])]
    return [variable.numpy() for variable in variables]
