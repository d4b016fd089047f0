"""What the study of the defaults tries beside our settings; none of it is shipped."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from benchmarks.accuracy_data import Array
from keras_pdp import PDPWrapper
from keras_pdp.sparsity.granularity import Tensor
from keras_pdp.training.compiled import number, read
from keras_pdp.training.masked_kernel import scaled
from keras_pdp.training.prunable import PrunableWeight
from keras_pdp.training.pruned_kernel import PrunedKernel, Values
from keras_pdp.training.surgery import named_wrappers

HALVINGS = 20  # of the interval in which the threshold of a budget is sought
TEMPERATURE = 4.0  # of distillation


class _BudgetKernel(PrunedKernel):
    """The soft mask's sum is the number of kept weights (as SMART pruner has it).

    `sum(sigmoid((w^2 - x) / tau)) = kept`, with x found by halving in each step. Only
    for unstructured kernels.
    """

    def masked(self, values: Values, frozen: Tensor, training: bool) -> Values:
        if not training:
            return super().masked(values, frozen, training)
        w = values[id(self.variable)]
        pruned, tau, stored = read(self.pruned), read(self.tau), read(self.mask)
        squares = ops.square(w)
        kept = ops.cast(self.size - pruned, "float32")
        fixed = ops.stop_gradient(squares)
        # Below 0 where few are pruned: at 0 each mask is a half or more.
        low, high = -20.0 * tau, ops.max(fixed)
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            too_many = ops.sum(ops.sigmoid((fixed - middle) / tau)) > kept
            low = ops.where(too_many, middle, low)
            high = ops.where(too_many, high, middle)
        soft = scaled(w, ops.sigmoid((squares - (low + high) / 2) / tau))
        alone = ops.where(pruned > 0, soft, w)
        return {id(self.variable): ops.where(frozen, ops.where(stored, w, 0.0), alone)}


class BudgetWrapper(PDPWrapper):
    """A `PDPWrapper` whose soft masks sum to the budget."""

    def _pruned(self, weight: PrunableWeight) -> PrunedKernel:
        return _BudgetKernel(weight, self.granularity, self.temperature, self)


class _HardForwardKernel(PrunedKernel):
    """Computes with the hard mask, and learns by the soft mask's gradient.

    Nothing is taken away when the masks freeze.
    """

    def masked(self, values: Values, frozen: Tensor, training: bool) -> Values:
        hard = super().masked(values, frozen, False)
        if not training:
            return hard
        soft = super().masked(values, frozen, True)
        return {
            key: value + ops.stop_gradient(hard[key] - value)
            for key, value in soft.items()
        }


class HardForward(PDPWrapper):
    """A `PDPWrapper` that computes with hard masks and learns by the soft ones."""

    def _pruned(self, weight: PrunableWeight) -> PrunedKernel:
        return _HardForwardKernel(weight, self.granularity, self.temperature, self)


class RisingKappa(keras.callbacks.Callback):
    """Multiplies kappa by a factor that rises along the ramp, epoch by epoch.

    Args:
        first, last: the factors at the ramp's begin and end.
        begin, end: of the ramp, in fractions of the run.
    """

    def __init__(self, first: float, last: float, begin: float, end: float) -> None:
        super().__init__()
        self.first, self.last, self.begin, self.end = first, last, begin, end
        self._calibrated: dict[int, float] = {}

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        done = epoch / self.params["epochs"]
        part = min(max((done - self.begin) / (self.end - self.begin), 0.0), 1.0)
        factor = self.first * (self.last / self.first) ** part
        for wrapper in named_wrappers(self.model).values():
            for kernel in wrapper.kernels:
                if kernel.has_target:
                    tau = self._calibrated.setdefault(id(kernel), number(kernel.tau))
                    kernel.tau.assign(tau / factor)


class Taught(keras.layers.Layer):
    """Hands logits on, and adds what a teacher thinks of them to the loss.

    `share * T^2 * cross entropy` of the student at T with the teacher at T (Hinton et
    al. 2015), while it trains; `share` is a variable.

    Args:
        teacher: a net of the same inputs and outputs; its weights don't train.
        share: to begin with.
    """

    def __init__(self, teacher: keras.Model, share: float) -> None:
        super().__init__()
        self.teacher = teacher
        self.teacher.trainable = False
        self.share = self.add_weight(
            shape=(),
            initializer=keras.initializers.Constant(share),
            trainable=False,
            name="share",
        )

    def call(self, given: Sequence[Tensor], training: bool = False) -> Tensor:
        inputs, logits = given
        if training:
            told = ops.softmax(self.teacher(inputs, training=False) / TEMPERATURE)
            heard = ops.log_softmax(logits / TEMPERATURE)
            away = -ops.mean(ops.sum(ops.stop_gradient(told) * heard, axis=-1))
            self.add_loss(self.share * TEMPERATURE**2 * away)
        return logits


def taught(student: keras.Model, teacher: keras.Model, share: float) -> keras.Model:
    """A model that trains the student's layers with a teacher beside the labels."""
    logits = Taught(teacher, share)([student.input, student.output])
    return keras.Model(student.input, logits)


class SoftToHard(keras.callbacks.Callback):
    """At the freezing, the net with its soft masks becomes the teacher of the hard one.

    Args:
        wrapped: the net that is pruned.
        teacher: the plain net that takes the soft net's weights, of the `Taught` model.
        freeze_at: a fraction of the run.
        share: of the teacher's part in the loss from then on.
    """

    def __init__(
        self, wrapped: keras.Model, teacher: keras.Model, freeze_at: float, share: float
    ) -> None:
        super().__init__()
        self.wrapped, self.teacher = wrapped, teacher
        self.freeze_at, self.to_be = freeze_at, share
        self._epoch, self._done = 0, False

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        part = (batch + 1) / self.params["steps"]
        if self._done or (self._epoch + part) / self.params["epochs"] < self.freeze_at:
            return
        self._done = True
        own = [layer for layer in self.teacher.layers if layer.get_weights()]
        for layer, soft in zip(own, soft_weights(self.wrapped), strict=True):
            layer.set_weights(soft)
        told = next(x for x in self.model.layers if isinstance(x, Taught))
        told.share.assign(self.to_be)


def soft_weights(wrapped: keras.Model) -> list[list[Array]]:
    """The plain layers' weights, kernels times their soft masks, in the model's order.

    Of a model whose wrapped layers have no layers in them.
    """
    found = []
    for layer in wrapped.layers:
        if not isinstance(layer, PDPWrapper):
            if layer.get_weights():
                found.append(layer.get_weights())
            continue
        weights = layer.layer.weights
        values = {id(each): ops.copy(each) for each in weights}
        for kernel in layer.kernels:
            values |= kernel.masked(values, ops.convert_to_tensor(False), True)
        found.append([ops.convert_to_numpy(values[id(each)]) for each in weights])
    return found
