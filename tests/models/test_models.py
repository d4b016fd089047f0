"""Models that users take from elsewhere: keras-hub backbones, keras.applications."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_pdp import PDPCallback, pruned_layers, sparsity_report, strip, wrap
from keras_pdp.training.surgery import named_wrappers
from tests import compare

RNG = np.random.default_rng(0)


def bert():
    hub = pytest.importorskip("keras_hub", reason="keras-hub is not installed")
    model = hub.models.BertBackbone(
        vocabulary_size=30,
        num_layers=2,
        num_heads=2,
        hidden_dim=8,
        intermediate_dim=16,
        max_sequence_length=6,
        dropout=0.0,
    )
    x = {
        "token_ids": RNG.integers(1, 30, (4, 6)),
        "segment_ids": np.zeros((4, 6), "int32"),
        "padding_mask": np.ones((4, 6), "int32"),
    }
    return model, x


def vit():
    hub = pytest.importorskip("keras_hub", reason="keras-hub is not installed")
    model = hub.models.ViTBackbone(
        image_shape=(16, 16, 3),
        patch_size=8,
        num_layers=2,
        num_heads=2,
        hidden_dim=8,
        mlp_dim=16,
        dropout_rate=0.0,
        attention_dropout=0.0,
    )
    return model, RNG.normal(size=(4, 16, 16, 3)).astype("float32")


def trained(model, x):
    outputs = keras.tree.map_structure(keras.ops.convert_to_numpy, model(x))
    y = keras.tree.map_structure(np.zeros_like, outputs)
    model.compile("adam", keras.tree.map_structure(lambda _: "mse", y))
    model.fit(x, y, batch_size=2, epochs=3, verbose=0, callbacks=[PDPCallback(0.7)])
    return model


@pytest.mark.filterwarnings("ignore:Not pruned")  # position tables, named below
@pytest.mark.parametrize("make", [bert, vit])
def test_backbones_of_keras_hub(make, tmp_path):
    model, x = make()
    wrapped = wrap(model)
    assert isinstance(wrapped, type(model))
    for a, b in zip(*map(keras.tree.flatten, (wrapped(x), model(x))), strict=True):
        compare.assert_array_equal(a, b)
    trained(wrapped, x)
    report = sparsity_report(wrapped)
    pruned = [t for t in report.tensors if t.how != "not wrapped"]
    tables = [t for t in report.tensors if "embedding" in t.name and t.zeros == 0]
    assert sum("encoder" in t.name or "transformer" in t.name for t in pruned) >= 12
    assert tables and all(t.how == "not wrapped" for t in tables)
    size, zeros = sum(t.size for t in pruned), sum(t.zeros for t in pruned)
    assert zeros == pytest.approx(0.7 * size, abs=len(pruned))

    path = tmp_path / "backbone.keras"
    wrapped.save(path)
    again = keras.models.load_model(path)
    stripped = strip(wrapped)
    assert type(stripped) is type(model)
    assert stripped.get_config() == model.get_config()
    for other in (again, stripped):
        for a, b in zip(*map(keras.tree.flatten, (other(x), wrapped(x))), strict=True):
            compare.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


@pytest.mark.filterwarnings("ignore:Not pruned")
def test_a_backbone_inside_a_model_of_ones_own():
    backbone, x = bert()
    inputs = keras.Input((6,), dtype="int32", name="token_ids")
    parts = {
        "token_ids": inputs,
        "segment_ids": keras.ops.zeros_like(inputs),
        "padding_mask": keras.ops.ones_like(inputs),
    }
    model = keras.Model(
        inputs, layers.Dense(2, name="head")(backbone(parts)["pooled_output"])
    )
    wrapped = wrap(model)
    inner = wrapped.get_layer(backbone.name)
    assert isinstance(inner, type(backbone))
    assert inner.token_embedding in inner.layers  # attributes lead to the new layers
    trained(wrapped, x["token_ids"])
    stripped = strip(wrapped)
    assert stripped.get_config() == model.get_config()
    compare.assert_allclose(
        stripped(x["token_ids"]), wrapped(x["token_ids"]), rtol=1e-6, atol=1e-6
    )


def test_tables_of_embeddings_are_left_unless_they_are_asked_for():
    model = keras.Sequential(
        [
            keras.Input((5,), dtype="int32"),
            layers.Embedding(11, 8, name="table"),
            layers.Flatten(),
            layers.Dense(4, name="dense"),
        ]
    )
    wrapped = wrap(model)
    assert list(named_wrappers(wrapped)) == ["dense"]
    reasons = {s.name: s.reason for s in sparsity_report(wrapped).skipped}
    assert "table of embeddings" in reasons["table/embeddings"]
    everything = wrap(model, select=lambda layer: True)
    assert list(named_wrappers(everything)) == ["table", "dense"]


@pytest.mark.parametrize(
    "application, size",
    [("MobileNetV2", 32), ("EfficientNetV2B0", 32)],
)
def test_applications(application, size):
    make = getattr(keras.applications, application)
    model = make(input_shape=(size, size, 3), weights=None, classes=3)
    wrapped = wrap(model)
    x = RNG.uniform(0, 255, (2, size, size, 3)).astype("float32")
    compare.assert_array_equal(wrapped(x), model(x))
    kernels = [v for v in model.trainable_variables if len(v.shape) > 1]
    assert sum(len(w.kernels) for w in pruned_layers(wrapped)) == len(kernels)
    pdp = PDPCallback(0.9)
    pdp.set_model(wrapped)
    pdp.update(1.0)
    stripped = strip(wrapped)
    assert sparsity_report(stripped).sparsity == pytest.approx(0.9, abs=1e-3)
    compare.assert_array_equal(stripped(x), wrapped(x))
    assert stripped.get_config() == model.get_config()
