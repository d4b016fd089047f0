"""What users of other pruning packages complained of, one test each.

The numbers are those of a survey of their issue trackers and forums; the names say what
hurt. A test here is the short proof by the public API; the suites named in a comment
look closer.
"""

import inspect
import json
import os
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_pdp
from keras_pdp import (
    Calibrated,
    Channel,
    Constant,
    Linear,
    NofM,
    PDPCallback,
    PDPWrapper,
    pruned_layers,
    register_prunable,
    shrink,
    shrink_report,
    sparsity_report,
    strip,
    wrap,
)

exports = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="to_tflite runs on TensorFlow"
)


def dense_net(units=16):
    return keras.Sequential(
        [keras.Input((8,)), layers.Dense(units, activation="relu"), layers.Dense(4)]
    )


def conv_net():
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(8, 3, padding="same", activation="relu"),
            layers.Flatten(),
            layers.Dense(4),
        ]
    )


def fit(model, callbacks, *, epochs=1, samples=128, loss="mse", **kwargs):
    """Trains on random numbers, 32 a batch; the seed is always the same."""
    random = np.random.default_rng(0)
    inputs = random.normal(size=(samples, *model.input_shape[1:])).astype("float32")
    answers = random.normal(size=(samples, *model.output_shape[1:])).astype("float32")
    model.compile("adam", loss, **kwargs)
    return model.fit(
        inputs, answers, batch_size=32, epochs=epochs, callbacks=callbacks, verbose=0
    )


def test_pain_01_keras_3_models_are_taken():
    inputs = keras.Input((8,))
    functional = keras.Model(inputs, layers.Dense(4)(inputs))
    for model in (dense_net(), functional):
        assert pruned_layers(wrap(model))


def test_pain_02_a_refusal_says_which_keras_it_got():
    legacy = type("Sequential", (), {"__module__": "tf_keras.src.engine.sequential"})
    with pytest.raises(TypeError, match=r"Keras 3 model.*tf_keras\..*Sequential"):
        wrap(legacy())
    with pytest.raises(TypeError, match="before"):  # a tensor: wrapped too late
        PDPWrapper(layers.Dense(4)(keras.Input((8,))))


def test_pain_03_subclassed_models_are_pruned():  # training/test_subclassed.py
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.hidden = PDPWrapper(layers.Dense(16, activation="relu"))
            self.head = layers.Dense(4)

        def call(self, inputs):
            return self.head(self.hidden(inputs))

    model = Net()
    model(np.zeros((1, 8), "float32"))
    model.compile("adam", "mse")
    data = np.ones((64, 8), "float32"), np.ones((64, 4), "float32")
    model.fit(*data, epochs=2, callbacks=[PDPCallback(0.75)], verbose=0)
    assert sparsity_report(model).tensors[0].sparsity == 0.75


def test_pain_04_kernels_in_layers_of_layers_are_found():
    class Block(layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.steps = [layers.Dense(8, activation="relu"), layers.Dense(8)]

        def build(self, shape):
            for step in self.steps:
                step.build(shape)

        def call(self, inputs):
            return self.steps[1](self.steps[0](inputs))

    model = wrap(keras.Sequential([keras.Input((8,)), Block(), layers.Dense(4)]))
    assert [len(wrapper.kernels) for wrapper in pruned_layers(model)] == [2, 1]
    fit(model, [PDPCallback(0.75)])
    assert sparsity_report(strip(model)).sparsity == 0.75


def test_pain_05_a_backbone_used_as_a_layer_is_pruned():  # training/test_surgery.py
    inputs = keras.Input((8,))
    backbone = dense_net()
    model = wrap(keras.Model(inputs, layers.Dense(2)(backbone(inputs))))
    assert len(pruned_layers(model)) == 3
    fit(model, [PDPCallback(0.5)])
    assert sparsity_report(strip(model)).sparsity == 0.5


def test_pain_06_one_layer_that_cannot_be_pruned_does_not_stop_the_others():
    class Table(layers.Layer):
        def build(self, shape):
            self.table = self.add_weight(shape=(shape[-1], 8), name="table")

        def call(self, inputs):
            return inputs @ self.table

    model = keras.Sequential(
        [
            keras.Input((8,)),
            layers.Rescaling(2.0),
            layers.GroupNormalization(2),
            layers.EinsumDense("ab,bc->ac", 8),
            Table(name="mine"),
            layers.Dense(4),
        ]
    )
    with pytest.warns(UserWarning, match="mine/table"):
        wrapped = wrap(model)
    assert len(pruned_layers(wrapped)) == 2
    assert "mine/table" in str(sparsity_report(wrapped))
    with pytest.raises(ValueError, match="mine/table"):
        wrap(model, strict=True)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (layers.Bidirectional(layers.LSTM(4)), (5, 4)),
        (layers.TimeDistributed(layers.Dense(8)), (5, 4)),
        (layers.ConvLSTM1D(2, 3), (3, 8, 2)),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_pain_07_recurrent_and_wrapped_layers_are_pruned(layer, shape):
    # training/test_wrapper.py has every kind
    model = keras.Sequential([keras.Input(shape), PDPWrapper(layer)])
    fit(model, [PDPCallback(0.5)], samples=32)
    assert sparsity_report(strip(model)).sparsity == pytest.approx(0.5, abs=0.02)


def test_pain_08_depthwise_kernels_are_pruned():
    model = keras.Sequential(
        [keras.Input((8, 8, 4)), layers.DepthwiseConv2D(3), layers.Flatten()]
    )
    wrapped = wrap(model)
    fit(wrapped, [PDPCallback(0.75)])
    assert sparsity_report(strip(wrapped)).sparsity == 0.75


def test_pain_09_layers_of_ones_own_say_what_to_prune():
    class Form(layers.Layer):
        def build(self, shape):
            self.form = self.add_weight(shape=(shape[-1], 8), name="form")

        def call(self, inputs):
            return inputs @ self.form

    class Told(Form):
        def pdp_weights(self):
            return [self.form]

    register_prunable(Form, ["form"])
    for kind in (Form, Told):
        model = wrap(keras.Sequential([keras.Input((8,)), kind()]))
        fit(model, [PDPCallback(0.5)])
        assert sparsity_report(model).sparsity == 0.5


def test_pain_10_n_of_m_runs_along_the_inputs_of_every_convolution():
    # A 3-channel image has no 4 neighbours along its channels: named, not passed over.
    with pytest.warns(UserWarning, match=r"conv.*kernel.*NofM"):
        model = wrap(
            keras.Sequential(
                [
                    keras.Input((8, 8, 2)),
                    layers.Conv2D(8, 3, name="conv"),
                    layers.Conv2D(8, 3, name="second"),
                    layers.Flatten(),
                ]
            ),
            NofM(2, 4),
        )
    fit(model, [PDPCallback()], samples=32)
    kernel = ops.convert_to_numpy(strip(model).get_layer("second").kernel)
    groups = kernel.reshape(3, 3, 2, 4, 8)
    assert ((groups != 0).sum(axis=3) == 2).all()


def test_pain_11_a_short_training_reaches_the_target():
    model = wrap(dense_net())
    fit(model, [PDPCallback(0.9)], samples=32)  # one step in all
    assert sparsity_report(strip(model)).sparsity == pytest.approx(0.9, abs=0.005)


def test_pain_12_pruned_weights_are_exact_zeros():
    model = wrap(dense_net())
    fit(model, [PDPCallback(0.75)], epochs=3)
    plain = strip(model)
    kernels = [ops.convert_to_numpy(layer.kernel).ravel() for layer in plain.layers]
    assert (np.concatenate(kernels) == 0.0).mean() == 0.75
    inputs = np.ones((2, 8), "float32")
    np.testing.assert_array_equal(
        model.predict(inputs, verbose=0), plain.predict(inputs, verbose=0)
    )


@pytest.mark.parametrize("ours_first", [True, False])
def test_pain_13_a_checkpoint_is_sparse_in_any_order_of_callbacks(tmp_path, ours_first):
    # training/test_resume.py: save_best_only, EarlyStopping
    saving = keras.callbacks.ModelCheckpoint(tmp_path / "last.keras")
    callbacks = [PDPCallback(0.75), saving]
    model = wrap(dense_net())
    fit(model, callbacks if ours_first else callbacks[::-1], epochs=4)
    loaded = keras.models.load_model(tmp_path / "last.keras")
    assert sparsity_report(strip(loaded)).sparsity == 0.75


def test_pain_14_a_saved_model_loads_by_the_import_alone(tmp_path):
    model = wrap(dense_net(), NofM(1, 4))
    fit(model, [PDPCallback()])
    model.save(tmp_path / "model.keras")
    program = (
        "import keras, keras_pdp, sys\n"
        "model = keras.models.load_model(sys.argv[1])\n"
        "print(keras_pdp.sparsity_report(keras_pdp.strip(model)).sparsity)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "model.keras")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split()[-1] == "0.75"


def test_pain_15_a_configuration_keeps_every_option():
    wrapper = PDPWrapper(
        layers.Dense(4), NofM(1, 4, axis=-1), temperature=Calibrated(9.0)
    )
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(wrapper)))
    again = keras.saving.deserialize_keras_object(config)
    assert again.granularity == wrapper.granularity == NofM(1, 4, axis=-1)
    assert again.temperature == wrapper.temperature == Calibrated(9.0)


@exports
def test_pain_16_the_file_is_smaller_or_says_why(tmp_path):
    # deployment/test_storage.py
    model = wrap(keras.Sequential([keras.Input((256,)), layers.Dense(256)]))
    fit(model, [PDPCallback(0.9)], samples=64)
    dense = keras_pdp.to_tflite(strip(model), tmp_path / "dense.tflite", sparse=False)
    small = keras_pdp.to_tflite(strip(model), tmp_path / "small.tflite")
    assert dense.raw_bytes >= dense.dense_raw_bytes  # zeros alone change nothing
    assert dense.gzip_bytes < 0.4 * dense.dense_gzip_bytes
    assert small.raw_bytes < 0.4 * dense.raw_bytes
    assert all(size in str(small) for size in (f"{small.raw_bytes:,}", "gzip"))


@exports
def test_pain_17_what_gets_no_faster_is_said_and_channels_are_removed():
    model = wrap(conv_net(), Channel())
    report = keras_pdp.sparse_inference_report(strip_quietly(model))
    assert report.verdict != "eligible" and report.findings
    fit(model, [PDPCallback(0.5, cost=keras_pdp.macs)])
    macs = shrink_report(strip(model)).macs
    assert macs.after <= 0.5 * macs.before


@exports
def test_pain_18_a_sparse_file_loads_and_computes_the_same(tmp_path):
    from ai_edge_litert.interpreter import Interpreter

    model = wrap(keras.Sequential([keras.Input((128,)), layers.Dense(128)]))
    fit(model, [PDPCallback(0.9)], samples=64)
    answers = []
    for sparse in (False, True):
        path = tmp_path / f"{sparse}.tflite"
        keras_pdp.to_tflite(strip(model), path, sparse=sparse)
        run = Interpreter(str(path)).get_signature_runner()
        (name,) = run.get_input_details()
        (answer,) = run(**{name: np.ones((1, 128), "float32")}).values()
        answers.append(answer)
    np.testing.assert_array_equal(*answers)


@exports
def test_pain_19_what_keeps_the_sparse_kernels_away_is_named_op_by_op():
    # deployment/test_prepare.py: MobileNet and MobileNetV2 become eligible
    report = keras_pdp.sparse_inference_report(conv_net())
    assert report.verdict != "eligible"
    assert all(f.operation and f.reason for f in report.findings)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_pain_20_mixed_precision_with_a_float32_head(policy):
    # training/test_precision.py
    model = keras.Sequential(
        [
            keras.Input((8,)),
            PDPWrapper(layers.Dense(16, dtype=policy)),
            PDPWrapper(layers.Dense(4, dtype="float32")),
        ]
    )
    history = fit(model, [PDPCallback(0.75)], epochs=2)
    assert np.isfinite(history.history["loss"]).all()
    assert sparsity_report(strip(model)).sparsity == 0.75


def test_pain_21_no_state_is_summed_over_replicas():  # tests/distribution
    model = wrap(conv_net(), Channel())
    fit(model, [PDPCallback(0.5)])
    state = [v for w in pruned_layers(model) for v in w.non_trainable_variables]
    assert state and all(v.aggregation != "sum" for v in state)


def test_pain_22_a_forgotten_callback_and_a_second_fit():
    model = wrap(dense_net())
    with pytest.warns(UserWarning, match="nothing moves their"):
        fit(model, [])
    with pytest.warns(UserWarning, match="has not been pruned yet"):
        assert sparsity_report(strip(model)).sparsity == 0.0
    fit(model, [PDPCallback(0.75)])
    fit(model, [])  # the callback is not there, the masks are
    assert sparsity_report(strip(model)).sparsity == 0.75


def test_pain_23_a_training_loop_of_ones_own():  # training/test_execution.py
    model = wrap(dense_net())
    model.compile("adam", "mse")
    pdp = PDPCallback(0.75)
    pdp.set_model(model)
    data = np.ones((16, 8), "float32"), np.ones((16, 4), "float32")
    for step in range(8):
        pdp.update(step / 8)
        model.train_on_batch(*data)
    pdp.update(1.0)
    assert sparsity_report(strip(model)).sparsity == 0.75


def test_pain_24_strip_copies_and_fine_tuning_before_it_keeps_the_zeros():
    model = wrap(dense_net())
    fit(model, [PDPCallback(0.75)])
    before = [ops.convert_to_numpy(w) for w in model.weights]
    plain = strip(model)
    fit(plain, [])
    for was, now in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(was, ops.convert_to_numpy(now))
    fit(model, [], epochs=2)  # the stored masks hold while the wrapped model trains on
    assert sparsity_report(strip(model)).sparsity == 0.75
    assert "does not keep its zeros" in inspect.getdoc(strip)


@exports
@pytest.mark.parametrize("quantize", ["int8", "dynamic", "float16"])
def test_pain_25_zeros_survive_quantization(tmp_path, quantize):
    model = wrap(keras.Sequential([keras.Input((64,)), layers.Dense(64)]))
    fit(model, [PDPCallback(0.75)])
    report = keras_pdp.to_tflite(
        strip(model),
        tmp_path / "model.tflite",
        quantize=quantize,
        representative_data=np.random.default_rng(0)
        .normal(size=(32, 64))
        .astype("float32"),
    )
    assert sum(w.zeros for w in report.weights) >= 0.75 * 64 * 64


def test_pain_26_channels_are_really_removed():  # deployment/test_shrink.py
    model = wrap(conv_net(), Channel())
    fit(model, [PDPCallback(0.5)])
    plain = strip(model)
    small = shrink(plain)
    assert small.count_params() < 0.6 * plain.count_params()
    inputs = np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype("float32")
    np.testing.assert_allclose(
        small.predict(inputs, verbose=0), plain.predict(inputs, verbose=0), atol=1e-5
    )


def test_pain_27_the_sparsity_is_reported_and_a_mask_costs_a_byte_a_weight():
    model = wrap(dense_net(64))
    fit(model, [PDPCallback(0.75)])
    report = sparsity_report(model)
    assert report.sparsity == 0.75 and "75.00%" in str(report)
    masks = [
        v
        for w in pruned_layers(model)
        for v in w.non_trainable_variables
        if int(np.prod(v.shape)) > 1
    ]
    assert sum(int(np.prod(v.shape)) for v in masks) == report.prunable
    assert {keras.backend.standardize_dtype(v.dtype) for v in masks} <= {
        "bool",
        "int8",
        "uint8",
    }


def test_pain_28_the_schedule_is_computed_in_python():
    # Nothing of it is on the device, where an op might be missing.
    for schedule in (Linear(), Constant()):
        assert isinstance(schedule(keras_pdp.Position(1, 0, 4)), float)


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.99, 0.999])
@pytest.mark.parametrize("shape", [(2, 1), (3, 1), (8, 16)])
def test_pain_29_at_the_far_end_something_is_left(sparsity, shape):
    inputs, units = shape
    layer = layers.Dense(units, kernel_initializer="ones", use_bias=False)  # all ties
    model = keras.Sequential(
        [keras.Input((inputs,)), PDPWrapper(layer, sparsity=sparsity)]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a target out of reach is said
        fit(model, [PDPCallback()])
        kernel = ops.convert_to_numpy(strip(model).layers[-1].kernel)
    expected = min(round(sparsity * kernel.size), kernel.size - 1)
    assert np.isfinite(kernel).all() and (kernel == 0).sum() == expected


def test_logs_hold_python_floats_only():
    seen = []

    class Watch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append(logs["sparsity"])

    fit(wrap(dense_net()), [PDPCallback(0.5), Watch()], epochs=2)
    assert [type(value) for value in seen] == [float, float]


def test_the_import_leaves_the_environment_alone():
    program = (
        "import os\nbefore = dict(os.environ)\nimport keras_pdp, sys\n"
        "changed = {k for k in os.environ if os.environ.get(k) != before.get(k)}\n"
        "print(sorted(k for k in changed if 'KERAS' in k), 'tf_keras' in sys.modules)"
    )
    environment = {k: v for k, v in os.environ.items() if "LEGACY" not in k}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split("\n")[-2] == "[] False"


def strip_quietly(model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return strip(model)
