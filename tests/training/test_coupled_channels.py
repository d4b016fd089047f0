"""Channels that hang together: one mask, and nothing of them is left in the end."""

import importlib.util
import os
import subprocess
import sys
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_pdp import (
    Absolute,
    Calibrated,
    Channel,
    Linear,
    PDPCallback,
    PDPWrapper,
    erdos_renyi,
    global_magnitude,
    lamp,
    macs,
    parameters,
    pruned_layers,
    shrink,
    shrink_report,
    sparsity_report,
    strip,
    uniform,
    wrap,
)
from keras_pdp.training.channel_gates import ChannelGates
from keras_pdp.training.coupling import coupling_of
from keras_pdp.training.surgery import named_wrappers
from tests.compare import outputs
from tests.training.channel_nets import NETS, chain, concatenated, data, residual

ROOT = Path(__file__).parents[2]
every_net = pytest.mark.parametrize("make", NETS.values(), ids=NETS.keys())
quiet = pytest.mark.filterwarnings("ignore:Not pruned")


def groups_of(model: keras.Model):
    coupling = coupling_of(model, named_wrappers(model))
    assert coupling is not None
    return coupling.groups


def free_groups(model: keras.Model):
    return [group for group in groups_of(model) if group.held is None]


def set_up(model: keras.Model, sparsity=0.5, **kwargs) -> PDPCallback:
    """A callback that has brought the model to its sparsity, without training."""
    callback = PDPCallback(sparsity, freeze_at=None, **kwargs)
    callback.set_model(model)
    callback.update(1.0)
    return callback


def keeps(model: keras.Model, group) -> list[np.ndarray]:
    """Which of the group's channels stay, by each of its members."""
    found = []
    wrapper_of = {id(k): w for w in pruned_layers(model) for k in w.gated}
    for member in group.members:
        frozen = bool(wrapper_of[id(member.kernel)].frozen.value)
        mask = ops.convert_to_numpy(member.kernel.keeps(frozen))
        columns = member.kernel.layout.bring(mask, np).reshape(-1, member.kernel.units)
        assert (columns == columns[:1]).all(), "a column lives or dies whole"
        own = columns[0][member.places]
        kept = np.zeros(group.channels, bool)
        kept[member.at] = own
        assert (kept[member.at] == own).all(), "copies of a channel agree"
        found.append(kept)
    return found


def assert_one_mask(model: keras.Model) -> None:
    for group in groups_of(model):
        first, *others = keeps(model, group)
        for other in others:
            np.testing.assert_array_equal(other, first)


def goal(group) -> int:
    member = group.members[0]
    if not member.kernel.coupled:
        return int(member.kernel.target.value)
    return int(member.kernel.goal.numpy()[member.places[0]])


class Watch(keras.callbacks.Callback):
    """Asserts after every step that the masks agree."""

    def on_train_batch_end(self, batch, logs=None):
        assert_one_mask(self.model)


def trained(model, callback, epochs=3, extra=(), **kwargs):
    x, y = data(model)
    model.compile(keras.optimizers.SGD(0.05), "mse", **kwargs)
    model.fit(
        x, y, batch_size=8, epochs=epochs, verbose=0, callbacks=[callback, *extra]
    )
    return model


@every_net
@quiet
def test_what_is_pruned_can_be_removed_and_is(make):
    model = make()
    wrapped = wrap(model, Channel())
    x, _ = data(model)
    np.testing.assert_array_equal(outputs(wrapped, x), outputs(model, x))
    set_up(wrapped, 0.4)
    assert_pruned_as_one(wrapped)


@quiet
@pytest.mark.parametrize("name", ["residual", "grouped", "attention"])
def test_masks_agree_in_every_step_of_a_training(name):
    model = wrap(NETS[name](), Channel())
    trained(model, PDPCallback(0.4, freeze_at=0.8), extra=[Watch()])
    assert all(bool(wrapper.frozen.value) for wrapper in pruned_layers(model))
    assert_pruned_as_one(model)


def assert_pruned_as_one(wrapped: keras.Model) -> None:
    """The masks agree, strip keeps the function, shrink takes all that was to go."""
    assert_one_mask(wrapped)
    x, y = data(wrapped)
    stripped = strip(wrapped)
    expected = outputs(stripped, x)
    np.testing.assert_array_equal(outputs(wrapped, x), expected)
    if wrapped.compiled:
        assert wrapped.evaluate(x, y, verbose=0) == stripped.evaluate(x, y, verbose=0)

    small = shrink(stripped)
    np.testing.assert_allclose(outputs(small, x), expected, rtol=1e-4, atol=1e-6)
    report = shrink_report(stripped)
    assert not report.held
    if not report.gained_bias:
        assert report.parameters.after == cost_at_goals(wrapped, parameters)
    assert report.macs.after == cost_at_goals(wrapped, macs)
    assert report.parameters.after < report.parameters.before
    head = stripped.get_layer("head").get_weights()[0]
    assert head.any(axis=0).all(), "the model's outputs stay whole"


def cost_at_goals(model: keras.Model, cost) -> float:
    """The formula, channel by channel: products of what stays."""
    coupling = coupling_of(model, named_wrappers(model))
    stays = np.ones(len(coupling.trace.ties), bool)
    for group in coupling.groups:
        stays[group.roots] = keeps(model, group)[0]
    total = 0
    for work in cost(model, coupling.trace):
        kept = [int(stays[coupling.trace.ties.roots(ids)].sum()) for ids in work.ids]
        total += work.constant * int(np.prod(kept))
    return total


def full_cost(model: keras.Model, cost) -> float:
    trace = coupling_of(model, named_wrappers(model)).trace
    sizes = [(w.constant, [len(ids) for ids in w.ids]) for w in cost(model, trace)]
    return sum(constant * int(np.prod(each)) for constant, each in sizes)


# The budget.


@quiet
@pytest.mark.parametrize("allocation", [global_magnitude, lamp, uniform, erdos_renyi])
@pytest.mark.parametrize("cost", [parameters, macs])
@pytest.mark.parametrize("make", [residual, concatenated])
@pytest.mark.parametrize("sparsity", [0.25, 0.6])
def test_the_budget_is_met_in_what_is_really_saved(make, cost, allocation, sparsity):
    model = wrap(make(), Channel())
    set_up(model, sparsity, cost=cost, allocation=allocation)
    whole = full_cost(model, cost)
    saved = whole - cost_at_goals(model, cost)
    # One channel of the dearest group is the coarsest step there is.
    step = max(
        whole - cost_without_one(model, group, cost) for group in free_groups(model)
    )
    assert 0.0 <= saved - sparsity * whole <= step
    assert_one_mask(model)


@pytest.mark.parametrize("sparsity", [0.3, 0.5, 0.7])
@pytest.mark.parametrize("round_to", [1, 4])
@pytest.mark.parametrize("allocation", [lamp, uniform])
def test_channels_that_the_budget_does_not_need_stay(allocation, round_to, sparsity):
    """Layers that are alike lose channels together, which may be more than enough."""
    x = inputs = keras.Input((8, 8, 3))
    for name in "abc":
        x = layers.Conv2D(16, 3, padding="same", activation="relu", name=name)(x)
    outputs = layers.Dense(10)(layers.GlobalAveragePooling2D()(x))
    model = wrap(keras.Model(inputs, outputs), Channel(round_to=round_to))
    set_up(model, sparsity, cost=macs, allocation=allocation)

    def left(widths):
        a, b, c = widths
        return 64 * 9 * (3 * a + a * b + b * c) + 10 * c

    goals = {group.name[0]: goal(group) for group in free_groups(model)}
    widths = [16 - goals[name] for name in "abc"]
    most = (1 - sparsity) * left([16, 16, 16])
    assert left(widths) <= most
    for i, width in enumerate(widths):
        wider = [*widths[:i], width + round_to, *widths[i + 1 :]]
        assert width == 16 or left(wider) > most


def cost_without_one(model: keras.Model, group, cost) -> float:
    coupling = coupling_of(model, named_wrappers(model))
    stays = np.ones(len(coupling.trace.ties), bool)
    stays[group.roots[0]] = False
    return sum(
        work.constant
        * int(np.prod([stays[coupling.trace.ties.roots(i)].sum() for i in work.ids]))
        for work in cost(model, coupling.trace)
    )


def test_the_cost_of_a_model_is_what_keras_and_shrink_count():
    model = wrap(residual(), Channel())
    plain = strip_quietly(model)
    assert full_cost(model, parameters) == plain.count_params()
    assert full_cost(model, macs) == shrink_report(plain).macs.before


def strip_quietly(model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return strip(model)


def test_at_sparsity_0_nothing_goes():
    model = wrap(residual(), Channel())
    set_up(model, 0.0)
    assert all(keeps(model, group)[0].all() for group in groups_of(model))


def test_uniform_takes_the_same_part_of_every_group():
    model = wrap(residual(), Channel())
    set_up(model, 0.5, allocation=uniform)
    # The one part that all have, but for whole channels.
    least = max((goal(g) - 1) / g.channels for g in free_groups(model))
    most = min((goal(g) + 1) / g.channels for g in free_groups(model))
    assert 0.2 < least <= most


@quiet
@pytest.mark.parametrize(
    "name, allocation",
    [(name, lamp) for name in NETS]
    + [("residual", uniform), ("residual", erdos_renyi)],
)
def test_no_group_is_ever_emptied(name, allocation):
    model = wrap(NETS[name](), Channel())
    with pytest.warns(UserWarning, match="99.90% can't be reached: .* is the most"):
        set_up(model, 0.999, allocation=allocation)
    for group in groups_of(model):
        assert keeps(model, group)[0].any()
    for wrapper in pruned_layers(model):
        for kernel in wrapper.kernels:
            assert ops.convert_to_numpy(kernel.hard()).any()


@pytest.mark.parametrize("sparsity", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("make", [chain, residual])
def test_widths_are_rounded(make, sparsity):
    model = wrap(make(), Channel(round_to=4))
    set_up(model, sparsity)
    for group in free_groups(model):
        (kept,) = {int(each.sum()) for each in keeps(model, group)}
        assert kept % 4 == 0 or kept == group.channels
        assert kept > 0


def test_a_narrow_layer_is_not_rounded_away():
    inputs = keras.Input((6,))
    x = layers.Dense(4, name="narrow")(layers.Dense(16, name="wide")(inputs))
    model = keras.Model(inputs, layers.Dense(1)(x))
    wrapped = wrap(model, Channel(round_to=2))
    set_up(wrapped, 0.7)
    narrow = wrapped.get_layer("narrow").kernels[0]
    assert int(narrow.target.value) in (0, 2)
    with pytest.raises(ValueError, match="can remove nothing from 'narrow'"):
        PDPWrapper(layers.Dense(4, name="narrow"), Channel(round_to=8)).build((None, 6))


@pytest.mark.parametrize("cost", ["macs", None, 3])
def test_a_cost_that_is_none_is_refused(cost):
    with pytest.raises(TypeError, match="`cost` should be keras_pdp.parameters"):
        PDPCallback(0.5, cost=cost)


# Who takes part.


def test_tied_kernels_are_one_group():
    names = [group.name for group in free_groups(wrap(residual(), Channel()))]
    assert names == ["a/kernel + c/kernel", "b/kernel"]
    names = [group.name for group in free_groups(wrap(concatenated(), Channel()))]
    assert names == ["a/kernel + c/kernel", "b/kernel + c/kernel"]


def test_what_is_left_whole_is_named_once():
    model = wrap(NETS["attention"](), Channel())
    with pytest.warns(UserWarning, match="Not pruned, 2 of .*heads/.*down") as seen:
        trained(model, PDPCallback(0.2))
    assert sum("Not pruned" in str(w.message) for w in seen) == 1
    assert "head/kernel" not in str(seen[0].message)
    for name in ("down", "head"):
        (kernel,) = model.get_layer(name).kernels
        assert ops.convert_to_numpy(kernel.keeps(frozen=True)).all()


def test_a_producer_that_is_not_wrapped_holds_its_channels():
    model = wrap(residual(), Channel(), select=lambda layer: layer.name != "c")
    with pytest.warns(UserWarning, match="a/kernel: 'c' makes them too"):
        set_up(model, 0.2)
    (kernel,) = model.get_layer("a").kernels
    assert ops.convert_to_numpy(kernel.hard()).all()


def test_a_sparsity_asked_for_is_obeyed_by_all_that_is_tied():
    def select(layer):
        return layer.name != "c"

    model = wrap(residual(), Channel(), select=select)
    at = model.get_layer("b")
    explicit = {"a": 0.5, "b": 0.3, "head": 1 / 3}
    set_up(model, None, allocation=explicit)
    shares = {
        name: 1 - ops.convert_to_numpy(model.get_layer(name).kernels[0].hard()).mean()
        for name in explicit
    }
    assert shares == pytest.approx(explicit)
    assert int(at.kernels[0].pruned.value) == 3

    tied = wrap(residual(), Channel())
    tied.get_layer("a").sparsity = 0.5
    callback = set_up(tied, 0.2)
    assert callback.allocate()["c/kernel"] == 0.5
    assert_one_mask(tied)
    tied.get_layer("c").sparsity = 0.25
    again = PDPCallback(0.2)
    again.set_model(tied)
    with pytest.raises(ValueError, match="can't have different sparsities"):
        again.allocate()


def test_a_model_of_outputs_alone_is_pruned_all_the_same():
    model = keras.Sequential([keras.Input((6,)), layers.Dense(8, name="only")])
    model = wrap(model, Channel())
    with pytest.warns(UserWarning, match="only/kernel: the model's output"):
        set_up(model, 0.5)
    assert int(model.get_layer("only").kernels[0].pruned.value) == 4


def test_a_normalisation_that_is_not_wrapped_is_named():
    inputs = keras.Input((6, 6, 3))
    x = PDPWrapper(layers.Conv2D(8, 3, name="conv"), Channel())(inputs)
    x = layers.BatchNormalization(name="loud")(x)
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, layers.Dense(1)(x))
    with pytest.warns(UserWarning, match=r"offset: loud\. Put them in a PDPWrapper"):
        set_up(model, 0.3)


def test_a_graph_that_cannot_be_read_is_pruned_layer_by_layer():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.one = PDPWrapper(layers.Dense(8), Channel())
            self.norm = PDPWrapper(layers.BatchNormalization(), Channel())
            self.two = layers.Dense(3)

        def call(self, x, training=None):
            x = self.norm(self.one(x, training=training), training=training)
            return self.two(x)

    model = Net()
    model(np.zeros((2, 6), "float32"))
    with pytest.warns(UserWarning, match="can't be read") as seen:
        set_up(model, 0.5)
    assert sum("can't be read" in str(w.message) for w in seen) == 1
    assert int(model.one.kernels[0].pruned.value) == 4
    assert int(model.norm.scales[0].pruned.value) == 0


# The state.


def test_training_goes_on_to_the_bit(tmp_path):
    """2 + 2 epochs with a new model from a file in between equal 4."""
    half, whole = 2, 4

    def fit(model, begin, end):
        x, y = data(model)
        callback = PDPCallback(0.5, epochs=whole)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            model.fit(
                x,
                y,
                batch_size=8,
                initial_epoch=begin,
                epochs=end,
                shuffle=False,
                verbose=0,
                callbacks=[callback],
            )
        return model

    def fresh():
        keras.utils.set_random_seed(1)
        model = wrap(residual(), Channel())
        model.compile(keras.optimizers.Adam(0.01), "mse")
        return model

    at_once = fit(fresh(), 0, whole)
    fit(fresh(), 0, half).save(tmp_path / "half.keras")
    pieces = fit(keras.models.load_model(tmp_path / "half.keras"), half, whole)
    for one, other in zip(at_once.weights, pieces.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy(), err_msg=one.path)


def test_the_configuration_round_trips():
    for granularity in (Channel(), Channel(round_to=8), Channel(axis=-2)):
        again = type(granularity).from_config(granularity.get_config())
        assert again == granularity
    assert Channel.from_config({"axis": -1}) == Channel()  # from before `round_to`
    assert str(Channel(round_to=8)) == "Channel(axis=-1, round_to=8)"


def test_every_execution_of_the_step_prunes_alike():
    losses = []
    for mode in ({"run_eagerly": True}, {"jit_compile": False}, {"jit_compile": True}):
        keras.utils.set_random_seed(7)
        model = wrap(residual(), Channel())
        x, y = data(model)
        model.compile(keras.optimizers.SGD(0.05), "mse", **mode)
        callback = PDPCallback(0.5)
        history = model.fit(
            x, y, batch_size=8, epochs=3, shuffle=False, verbose=0, callbacks=[callback]
        )
        losses.append(history.history["loss"])
        assert_one_mask(model)
    for other in losses[1:]:
        np.testing.assert_allclose(other, losses[0], rtol=1e-3)


@pytest.mark.skipif(
    keras.backend.backend() == "torch",
    reason="on torch: Keras takes one step at a time",
)
def test_steps_within_an_execution_use_the_gates_from_its_start():
    model = wrap(residual(), Channel())
    trained(model, PDPCallback(0.5), steps_per_execution=3, extra=[Watch()])
    assert sum(goal(group) for group in free_groups(model)) > 0


def test_normalisations_do_not_count_in_the_sparsity():
    model = wrap(residual(), Channel())
    callback = set_up(model, 0.5)
    zeros = size = 0
    for name in ("a", "b", "c", "head"):
        mask = ops.convert_to_numpy(model.get_layer(name).kernels[0].hard())
        zeros, size = zeros + int((~mask).sum()), size + mask.size
    assert callback.hard_sparsity() == pytest.approx(zeros / size)
    report = sparsity_report(model)
    assert (report.zeros, report.prunable) == (zeros, size)
    assert report.parameters == residual().count_params()


# The soft mask.


@pytest.mark.tensorflow("its gradient is taken by a GradientTape")
def test_the_gradient_of_a_coupled_mask_is_that_of_its_formula():
    """Against finite differences of `m(w) w`, with the other kernels held."""
    model = wrap(residual(), Channel(), temperature=Calibrated(2.0))  # no mask is hard
    set_up(model, 0.5, harden=1.0)
    (kernel,) = model.get_layer("a").kernels
    w = kernel.variable.numpy().astype("float64")
    v = np.random.default_rng(3).normal(size=w.shape)
    margin, share = kernel.margin.numpy(), kernel.share.numpy()
    q = np.square(w).mean(axis=(0, 1, 2))
    group = next(g for g in free_groups(model) if g.name.startswith("a/"))
    assert np.abs(margin).max() < 50.0 and (share > 0.0).all()
    # Four members, two kernels and two scales: the slope of the margin in q.
    tau = float(kernel.tau.numpy()[0])
    np.testing.assert_allclose(share, 1.0 / (4 * q.mean() * tau), rtol=1e-4)
    assert len(group.members) == 4

    def loss(w):
        moved = margin + share * (np.square(w).mean(axis=(0, 1, 2)) - q)
        return float(np.sum(v * w / (1.0 + np.exp(-moved))))

    found = gradient_of(kernel, v)
    rng = np.random.default_rng(4)
    for _ in range(20):
        at = tuple(int(rng.integers(n)) for n in w.shape)
        step = np.zeros_like(w)
        step[at] = 1e-5
        expected = (loss(w + step) - loss(w - step)) / 2e-5
        assert found[at] == pytest.approx(expected, rel=2e-3, abs=1e-4)


def test_coupled_masks_harden():
    """In a step, with the scales that follow; the margins stay those of tau."""
    model = wrap(residual(), Channel())
    callback = PDPCallback(0.5, schedule=Linear(0.1, 0.5))
    callback.set_model(model)
    callback.update(0.3)
    gated = [kernel for wrapper in pruned_layers(model) for kernel in wrapper.gated]
    assert len(gated) > sum(len(w.kernels) for w in pruned_layers(model))
    for kernel in gated:
        assert float(kernel.hardness.numpy()) == pytest.approx(10.0)
        values = {id(each): keras.ops.copy(each) for each in kernel.covers}
        masked = kernel.masked(values, keras.ops.convert_to_tensor(False), True)
        margin = kernel.margin.numpy().astype("float64")
        gate = 1.0 / (1.0 + np.exp(-np.clip(10.0 * margin, -700.0, 700.0)))
        shape = kernel.layout.along_outputs(tuple(kernel.variable.shape))
        for each in kernel.covers:
            own = gate.reshape(shape) if each is kernel.variable else gate
            np.testing.assert_allclose(
                keras.ops.convert_to_numpy(masked[id(each)]),
                each.numpy() * own,
                rtol=1e-4,
                atol=1e-7,
            )


def test_coupled_masks_of_the_hardest_kind_are_finite():
    """Or a model that is saved with them could not be loaded."""
    plain = keras.Sequential(
        [
            keras.Input((4, 4, 2)),
            keras.layers.Conv2D(512, 1, use_bias=False),
            keras.layers.BatchNormalization(),
            keras.layers.Conv2D(2, 1),
        ]
    )
    # One channel far above the others: relative to their mean it scores 512.
    for weight in plain.layers[0].weights + [plain.layers[1].gamma]:
        values = np.full(weight.shape, 1e-6, "float32")
        values[..., 0] = 1.0
        weight.assign(values)
    model = wrap(plain, Channel(), temperature=Absolute(1e-30))
    set_up(model, 0.5, harden=1e6)
    for wrapper in pruned_layers(model):
        for kernel in wrapper.gated:
            assert np.isfinite(kernel.margin.numpy()).all()
            assert np.isfinite(kernel.share.numpy()).all()


def gradient_of(kernel, v) -> np.ndarray:
    """Of `sum(v * masked kernel)` in the kernel, by the backend."""
    import tensorflow as tf

    variable = kernel.variable.value
    others = {id(each): each.value for each in kernel.covers}
    with tf.GradientTape() as tape:
        tape.watch(variable)
        values = others | {id(kernel.variable): tf.identity(variable)}
        masked = kernel.masked(values, tf.constant(False), training=True)
        total = tf.reduce_sum(masked[id(kernel.variable)] * v)
    return tape.gradient(total, variable).numpy()


def test_the_score_of_a_group_is_free_of_its_members_scales():
    model = wrap(residual(), Channel())
    set_up(model, 0.5)
    before = [keeps(model, group)[0] for group in free_groups(model)]
    kernel = model.get_layer("a").kernels[0].variable
    kernel.assign(100.0 * kernel.numpy())
    ChannelGates(free_groups(model)).raise_to(1.0)
    for group, expected in zip(free_groups(model), before, strict=True):
        np.testing.assert_array_equal(keeps(model, group)[0], expected)


@pytest.mark.parametrize("seed", [0, 1, 9])
def test_the_lowest_channels_may_be_copies_of_one(seed):
    """The cut between equal scores is that score, but for rounding, down as well."""
    model, random = residual(), np.random.default_rng(seed)
    for layer in model.layers:
        if layer.name != "head":
            layer.set_weights([_copied(w, random) for w in layer.get_weights()])
    model = wrap(model, Channel())
    set_up(model, 0.05)
    assert 1 in [goal(group) for group in free_groups(model)]
    model.compile(keras.optimizers.SGD(0.05), "mse")
    before = [v.numpy() for v in model.trainable_variables]
    model.train_on_batch(*data(model))
    for old, new in zip(before, model.trainable_variables, strict=True):
        assert np.abs(new.numpy() - old).max() < 1.0, new.path


def _copied(w: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The same with its first channel small, and twice more in the next places."""
    w = w * (0.5 + random.random(w.shape)).astype("float32")
    w[..., :3] = 0.1 * w[..., :1]
    return w


@pytest.mark.parametrize("name", ["grouped", "multiplied", "residual"])
def test_gates_are_open_until_a_channel_goes(name):
    """A kernel's own count may round to 1 before those of its groups do."""
    model = wrap(NETS[name](), Channel())
    callback = PDPCallback(0.5, schedule=Linear(0.0, 1.0), freeze_at=None)
    callback.set_model(model)
    seen = set()
    for step in range(1, 40):
        callback.update(step / 40)
        for kernel in (k for w in pruned_layers(model) for k in w.gated if k.coupled):
            gone = int((~kernel.keep.numpy()).sum())
            assert int(kernel.pruned.numpy()) == gone, (step, kernel.name)
            seen.add(gone)
    assert 0 in seen and len(seen) > 1


def test_a_budget_that_whole_channels_meet_exactly():
    """0.55 of 1500 is a little more than 825 in floating point, and 55 channels."""
    inputs = keras.Input((10,))
    x = layers.Dense(100, name="hidden")(inputs)
    model = wrap(keras.Model(inputs, layers.Dense(5)(x)), Channel())
    set_up(model, 0.55, cost=macs)
    assert int(model.get_layer("hidden").kernels[0].target.numpy()) == 55


def test_a_model_that_is_called_last_is_followed():
    """Keras counts its calls from 1, where it tells of the outer model's outputs."""
    given, inputs = keras.Input((8,)), keras.Input((8,))
    x = layers.Dense(16, activation="relu", name="hidden")(given)
    inner = keras.Model(given, layers.Dense(3, name="end")(x), name="inner")
    for outer in (inner(inputs), [inner(inputs), inner(layers.ReLU()(inputs))]):
        model = wrap(keras.Model(inputs, outer), Channel())
        set_up(model, 0.5)
        small, report = shrink(strip(model)), shrink_report(strip(model))
        assert report.layers[0].channels.after < 16
        x = data(model)[0]
        for one, other in zip(
            keras.tree.flatten(outputs(model, x)),
            keras.tree.flatten(outputs(small, x)),
            strict=True,
        ):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_a_schedule_closes_one_channel_after_the_other():
    model = wrap(residual(), Channel())
    callback = PDPCallback(0.5, schedule=Linear(0.0, 1.0), freeze_at=None)
    callback.set_model(model)
    seen = []
    for step in range(11):
        callback.update(step / 10)
        seen.append(sum(int((~keeps(model, g)[0]).sum()) for g in free_groups(model)))
    assert seen == sorted(seen) and seen[0] == 0 and len(set(seen)) >= 4
    assert seen[-1] == sum(goal(group) for group in free_groups(model))


ON_ANOTHER_BACKEND = """
import keras
from keras_pdp import Channel, PDPCallback, strip, wrap
from tests.training.channel_nets import data, residual
from tests.training.test_coupled_channels import Watch, assert_one_mask

model = wrap(residual(), Channel())
model.compile(keras.optimizers.SGD(0.05), "mse")
x, y = data(model)
callbacks = [PDPCallback(0.5), Watch()]
model.fit(x, y, batch_size=8, epochs=3, verbose=0, callbacks=callbacks)
assert_one_mask(model)
assert all(bool(w.frozen.value) for w in model.layers if hasattr(w, "frozen"))
same = strip(model).predict(x, verbose=0) == model.predict(x, verbose=0)
print(keras.backend.backend(), bool(same.all()))
"""


@pytest.mark.tensorflow("it starts the other backends from there")
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_channels_are_pruned_as_one_on(backend):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    done = subprocess.run(
        [sys.executable, "-c", ON_ANOTHER_BACKEND],
        env={**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip().endswith(f"{backend} True"), done.stderr[-2000:]


def pair(x, name):
    one, two = (
        PDPWrapper(layers.Dense(8, name=f"{name}{i}"), Channel()) for i in range(2)
    )
    return layers.ReLU()(layers.Add()([one(x), two(x)]))


def test_frozen_masks_stay_in_a_larger_model():
    """Layers that were pruned to the end, and new ones behind them."""
    inputs = keras.Input((8,))
    x = pair(inputs, "old")
    first = keras.Model(inputs, layers.Dense(2)(x))
    callback = PDPCallback(0.5)
    callback.set_model(first)
    callback.update(1.0)
    second = keras.Model(inputs, layers.Dense(2)(pair(x, "new")))
    old = [second.get_layer(f"old{i}") for i in range(2)]
    masks = [wrapper.kernels[0].keep.numpy() for wrapper in old]
    assert 0 < sum(masks[0]) < 8
    for wrapper, mask in zip(old, masks, strict=True):
        assert bool(wrapper.frozen.numpy())
        kernel = np.array(wrapper.layer.kernel.numpy())
        kernel[:, mask] = 1e-6  # by magnitude these would go now
        wrapper.layer.kernel.assign(kernel)
    set_up(second, 0.3)
    for wrapper, mask in zip(old, masks, strict=True):
        np.testing.assert_array_equal(wrapper.kernels[0].keep.numpy(), mask)
    assert goal(free_groups(second)[1]) > 0


def test_who_joins_frozen_channels_takes_their_mask():
    inputs = keras.Input((8,))
    old = PDPWrapper(layers.Dense(8, name="old"), Channel())
    callback = PDPCallback(0.5)
    callback.set_model(keras.Model(inputs, layers.Dense(2)(old(inputs))))
    callback.update(1.0)
    mask = ops.convert_to_numpy(old.kernels[0].keeps(True))
    assert mask.any() and not mask.all()
    new = PDPWrapper(layers.Dense(8, name="new"), Channel())
    x = layers.ReLU()(layers.Add()([old(inputs), new(inputs)]))
    second = keras.Model(inputs, layers.Dense(2)(x))
    set_up(second, 0.5)
    np.testing.assert_array_equal(
        ops.convert_to_numpy(new.kernels[0].keeps(False)), mask
    )


def test_groups_that_have_a_goal_keep_it():
    """Pruned layers that go on in a larger model; what is new there is budgeted."""
    inputs = keras.Input((8,))
    x = pair(inputs, "old")
    first = keras.Model(inputs, layers.Dense(2)(x))
    set_up(first, 0.5).allocate()
    (group,) = free_groups(first)
    before = goal(group)
    second = keras.Model(inputs, layers.Dense(2)(pair(x, "new")))
    callback = set_up(second, 0.3)
    shares = callback.allocate()
    old, new = free_groups(second)
    assert goal(old) == before
    assert goal(new) > 0
    assert shares["old0/kernel"] == shares["old1/kernel"] == before / 8
    callback.allocate()
    assert goal(free_groups(second)[1]) == goal(new)


def test_gates_follow_the_weights_before_the_ramp_of_a_second_run():
    model = wrap(residual(), Channel())
    set_up(model)
    kernels = [k for w in pruned_layers(model) for k in w.gated if hasattr(k, "margin")]
    before = [ops.convert_to_numpy(kernel.margin).copy() for kernel in kernels]
    for kernel in kernels:
        noise = np.random.default_rng(0).normal(1.0, 0.02, kernel.variable.shape)
        kernel.variable.assign(kernel.variable * noise.astype("float32"))
    again = PDPCallback(0.5, schedule=Linear(0.5, 1.0), freeze_at=None)
    again.set_model(model)
    again.update(0.0)
    early = [ops.convert_to_numpy(kernel.margin).copy() for kernel in kernels]
    assert any(np.abs(a - b).max() > 0.0 for a, b in zip(before, early, strict=True))
    again.update(0.5)
    for kernel, margin in zip(kernels, early, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(kernel.margin), margin)
