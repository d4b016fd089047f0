"""Verdicts on nets that differ in one rule, and on files of other kinds."""

import json

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from keras_pdp import PDPCallback, PDPWrapper, sparse_inference_report, to_tflite
from keras_pdp.deployment.conversion import converted
from keras_pdp.deployment.flatbuffer import decoded
from keras_pdp.deployment.packing import inlined, pack
from keras_pdp.deployment.signature import signature_of
from keras_pdp.deployment.sparse_inference import judged
from keras_pdp.deployment.sparse_writer import sparsely_stored
from tests.deployment.convert import convert, model_file, subgraph, tensor
from tests.deployment.nets import L, conv, net, pruned
from tests.deployment.sparse_cases import CASES, clipped_stem, dw, same_stem, strided


@pytest.fixture(scope="module")
def plain():
    """An eligible net as a dense file."""
    return converted(signature_of(pruned(net(dw(), strided()))), None, {})


@pytest.fixture(scope="module")
def pooled():
    """An unsafe one."""
    return converted(signature_of(pruned(net(L.MaxPooling2D()))), None, {})


@pytest.mark.parametrize("name", CASES)
def test_rule(name):
    build, verdict, kind = CASES[name]
    report = sparse_inference_report(pruned(build()))
    assert report.verdict == verdict, str(report)
    assert bool(report.findings) == (verdict != "eligible")
    if kind is not None:
        assert kind in " ".join(each.operation for each in report.findings)
    assert all(each.reason and each.advice for each in report.findings)


@pytest.mark.parametrize("verdict", ["eligible", "inert", "unsafe"])
def test_every_verdict_is_in_the_table(verdict):
    assert sum(row[1] == verdict for row in CASES.values()) >= 10


@pytest.mark.parametrize("sparsity, verdict", [(0.66, "inert"), (0.675, "eligible")])
def test_two_thirds_of_the_pointwise_weights(sparsity, verdict):
    report = sparse_inference_report(pruned(net(dw()), sparsity))
    assert report.verdict == verdict
    assert report.sparsity == pytest.approx(sparsity, abs=0.005)


def test_sparsity_is_of_all_pointwise_convolutions_together():
    model = pruned(net(conv(), conv()), 0.9)
    first = next(x for x in model.layers if getattr(x, "kernel_size", 0) == (1, 1))
    first.kernel.assign(keras.random.normal(first.kernel.shape))
    report = sparse_inference_report(model)
    weights = [w for w in model.weights if w.shape[:-2] == (1, 1)]
    zeros = sum(np.count_nonzero(w.numpy() == 0) for w in weights)
    assert report.sparsity == zeros / sum(w.numpy().size for w in weights)


def test_a_dense_head_that_only_the_newest_runtimes_count():
    model = pruned(net(dw()), 0.68)
    model.layers[-1].kernel.assign(keras.random.normal((32, 10)))
    report = sparse_inference_report(model)
    assert report.verdict == "eligible"
    assert "Dense layers" in report.findings[0].reason
    model = pruned(net(dw()), 0.66)
    model.layers[-1].kernel.assign(keras.ops.zeros((32, 10)))
    assert sparse_inference_report(model).verdict == "inert"


def test_what_stands_behind_a_stem_that_does_not_start():
    model = pruned(net(dw(strides=2), L.MaxPooling2D(), start=same_stem()))
    operations = [f.operation for f in sparse_inference_report(model).findings]
    kinds = ["CONV_2D", "DEPTHWISE_CONV_2D", "MAX_POOL_2D"]
    assert [operation.split()[2] for operation in operations] == kinds


def test_a_dense_model_is_inert():
    report = sparse_inference_report(net(dw()))
    assert report.verdict == "inert"
    assert "no weight that is stored sparsely" in report.findings[0].reason


def test_a_wrapped_model_is_judged_stripped():
    first = keras.Input((32, 32, 3))
    x = L.Conv2D(8, 3, strides=2)(L.ZeroPadding2D(1)(first))
    x = PDPWrapper(L.Conv2D(32, 1), sparsity=0.9)(x)
    model = keras.Model(first, L.Dense(4)(L.GlobalAveragePooling2D()(x)))
    callback = PDPCallback()
    callback.set_model(model)
    callback.update(1.0)
    report = sparse_inference_report(model)
    assert report.verdict == "eligible"
    assert report.sparsity == pytest.approx(0.9, abs=0.01)


def test_files(tmp_path, plain, pooled):
    model = pruned(net(dw()))
    model.save(tmp_path / "model.keras")
    report = sparse_inference_report(str(tmp_path / "model.keras"))
    assert (report.verdict, report.name) == (
        "eligible",
        str(tmp_path / "model.keras"),
    )
    for data, verdict in [(plain, "eligible"), (pooled, "unsafe")]:
        (tmp_path / "model.tflite").write_bytes(data)
        assert sparse_inference_report(tmp_path / "model.tflite").verdict == verdict
        (tmp_path / "model.tflite").write_bytes(sparsely_stored(data).data)
        report = sparse_inference_report(tmp_path / "model.tflite")
        assert (report.verdict, report.judged) == (verdict, "as it is stored")
        (tmp_path / "model.tflite").rename(tmp_path / "MODEL.TFLITE")
        assert sparse_inference_report(tmp_path / "MODEL.TFLITE").verdict == verdict


def test_nothing_happens_without_sparse_storage(pooled):
    assert judged(pooled).verdict == "inert"
    assert judged(pooled, ()).verdict == "inert"
    weights = [x.index for x in decoded(pooled, "file").weights]
    # any weight asks for sparse inference, whichever it is
    assert {judged(pooled, [each]).verdict for each in weights} == {"unsafe"}
    assert judged(sparsely_stored(pooled).data).verdict == "unsafe"


@pytest.mark.parametrize("wrong", [-1, 10**6])
def test_numbers_that_are_no_constants(plain, wrong):
    with pytest.raises(ValueError, match="expected numbers of constants"):
        judged(plain, [wrong])


@pytest.mark.parametrize("layers, verdict", [((), "eligible"), ((1,), "unsafe")])
def test_float16(layers, verdict):
    model = pruned(net(*(L.MaxPooling2D() for _ in layers)))
    data = convert(model, "float16")
    assert judged(sparsely_stored(data).data).verdict == verdict


def test_full_int8_is_never_taken():
    data = convert(pruned(net(L.MaxPooling2D())), "int8")
    sparse = [x.index for x in decoded(data, "file").weights]
    assert judged(data, sparse).verdict == "inert"


def unpacked(data):
    """A file, for changes by hand, and its first graph."""
    model = schema.ModelT.InitFromPackedBuf(data, 0)
    inlined(model, data)
    return model, model.subgraphs[0]


def kind(model, operator):
    code = model.operatorCodes[operator.opcodeIndex]
    return max(code.builtinCode, code.deprecatedBuiltinCode)


def added_op(model, name, inputs, outputs):
    number = getattr(schema.BuiltinOperator, name)
    code = schema.OperatorCodeT(
        builtinCode=number, deprecatedBuiltinCode=min(number, 127), version=1
    )
    model.operatorCodes.append(code)
    return schema.OperatorT(
        opcodeIndex=len(model.operatorCodes) - 1, inputs=inputs, outputs=outputs
    )


def behind_dequantize(data, count):
    """The file with the weights of its first convolutions as int8 and a DEQUANTIZE."""
    model, graph = unpacked(data)
    convolutions = [
        each
        for each in graph.operators
        if kind(model, each) == schema.BuiltinOperator.CONV_2D
    ]
    for each in convolutions[:count]:
        weight = graph.tensors[each.inputs[1]]
        values = np.asarray(model.buffers[weight.buffer].data).view("<f4")
        scale = np.abs(values).max() / 127
        stored = np.round(values / scale).astype(np.int8).view(np.uint8)
        model.buffers.append(schema.BufferT(data=stored))
        last = len(model.buffers) - 1
        graph.tensors.append(tensor(weight.shape, "INT8", last, scale=[scale]))
        weight.buffer = 0
        graph.operators.insert(
            0,
            added_op(model, "DEQUANTIZE", [len(graph.tensors) - 1], [each.inputs[1]]),
        )
    return pack(model)


@pytest.mark.parametrize("count", [1, 3])
def test_int8_that_is_unpacked_to_floats_is_unsafe(pooled, count):
    """The stem alone starts; and all 1×1 convolutions count as the floats they are."""
    data = behind_dequantize(pooled, count)
    weights = decoded(data, "file").weights
    assert [each.dtype for each in weights].count("int8") == count
    for sparse in weights:
        assert judged(data, [sparse.index]).verdict == "unsafe"


def test_int8_stem_of_an_eligible_net_is_a_doubt(plain):
    data = behind_dequantize(plain, 1)
    report = judged(data, [x.index for x in decoded(data, "file").weights])
    assert report.verdict == "unsafe"
    assert "int8" in report.findings[0].reason


def test_a_map_that_is_kept_in_a_variable_is_in_the_way(plain):
    model, graph = unpacked(sparsely_stored(plain).data)
    number = schema.BuiltinOperator.DEPTHWISE_CONV_2D
    place = next(
        i for i, each in enumerate(graph.operators) if kind(model, each) == number
    )
    graph.tensors.append(tensor((), "RESOURCE"))
    variable, kept = len(graph.tensors) - 1, int(graph.operators[place].outputs[0])
    graph.operators[place + 1 : place + 1] = [
        added_op(model, "VAR_HANDLE", [], [variable]),
        added_op(model, "ASSIGN_VARIABLE", [variable, kept], []),
    ]
    report = judged(pack(model))
    assert report.verdict == "unsafe"
    assert [f.operation.split()[2] for f in report.findings] == ["ASSIGN_VARIABLE"]


def test_a_stem_that_is_clipped_is_exported_densely(tmp_path):
    model = pruned(net(L.MaxPooling2D(), start=clipped_stem))
    report = to_tflite(model, tmp_path / "model.tflite")
    assert (report.storage.encoded, report.storage.verdict.verdict) == (0, "unsafe")
    reasons = [each.reason for each in report.storage.verdict.findings]
    assert any("RELU_N1_TO_1" in each for each in reasons)


def test_dense_layers_by_blocks_are_not_called_dense(tmp_path):
    model = keras.Sequential([keras.Input((512,)), L.Dense(512)])
    generator = np.random.default_rng(0)
    kept = np.repeat(generator.random((128, 512)) < 0.05, 4, axis=0)
    model.layers[0].kernel.assign(generator.normal(size=(512, 512)) * kept)
    exported = to_tflite(model, tmp_path / "model.tflite")
    assert [each.storage for each in exported.weights] == ["block"]
    report = sparse_inference_report(tmp_path / "model.tflite")
    assert (report.verdict, report.judged) == ("inert", "as it is stored")
    (finding,) = report.findings
    assert "Dense layers stored by blocks" in finding.reason
    for text in (str(report), str(exported)):
        assert "no weight that is stored sparsely" not in text
        assert "Dense layers by blocks" in text


def test_dynamic_int8_beside_small_float_weights_is_unsafe():
    """Weights of fewer than 1,024 values stay floats, such as the stem's."""
    data = convert(pruned(net(conv(64), conv(64), conv(8))), "dynamic")
    weights = decoded(data, "file").weights
    assert {x.dtype for x in weights} == {"float32", "int8"}
    report = judged(data, [x.index for x in weights])
    assert report.verdict == "unsafe"
    assert any("integer" in str(finding) for finding in report.findings)


def test_reports_as_data_and_text(plain, pooled):
    report = judged(sparsely_stored(pooled).data, name="pooled")
    assert json.loads(json.dumps(report.to_dict()))["findings"][0]["advice"]
    lines = str(report).splitlines()
    assert lines[0].startswith("pooled: unsafe")
    assert "MAX_POOL_2D" in lines[-1] and "max_pooling2d" in lines[-1]
    assert "x86" not in str(judged(sparsely_stored(plain).data))


def test_a_stem_in_front_of_pooling_keeps_a_stock_net_inert():
    model = pruned(net(L.MaxPooling2D(), start=same_stem()))
    finding = sparse_inference_report(model).findings[0]
    assert "ZeroPadding2D(1)" in finding.advice


@pytest.mark.parametrize("wrong", [None, 3, keras.layers.Dense(2)])
def test_what_is_no_model(wrong):
    with pytest.raises(TypeError, match="expected a Keras model or the path"):
        sparse_inference_report(wrong)


def test_other_files(tmp_path):
    with pytest.raises(ValueError, match=r"expected a \.keras or \.tflite file"):
        sparse_inference_report(tmp_path / "model.h5")
    for name in ("model.keras", "model.tflite"):
        with pytest.raises(FileNotFoundError, match=f"there is no file .*{name}"):
            sparse_inference_report(tmp_path / name)
    (tmp_path / "model.tflite").write_bytes(b"not a model at all")
    with pytest.raises(ValueError, match=r"model\.tflite: expected a TFLite model"):
        sparse_inference_report(tmp_path / "model.tflite")


def test_a_cut_file_is_an_error(plain):
    for length in np.linspace(8, len(plain) - 1, 60).astype(int):
        with pytest.raises(ValueError, match="the file"):
            judged(plain[:length])


def test_damaged_bytes_end_in_an_error_or_a_verdict(plain):
    sparse = bytearray(sparsely_stored(plain).data)
    generator = np.random.default_rng(0)
    ends = set()
    for _ in range(300):
        damaged = bytearray(sparse)
        for place in generator.integers(8, len(sparse), 4):
            damaged[place] = generator.integers(256)
        try:
            ends.add(judged(bytes(damaged)).verdict)
        except ValueError:
            ends.add("error")
    assert {"error", "eligible"} <= ends <= {"error", "eligible", "inert", "unsafe"}


def test_ops_that_the_format_may_have_but_no_converter_writes():
    """No options, no inputs, no outputs, tensors that are out of range."""
    tensors = [tensor((1, 4, 4, 3), "FLOAT32"), tensor((3, 1, 1, 3), "FLOAT32", 1)]
    values = [np.zeros(9, np.float32).view(np.uint8)]
    for op in (
        ("CONV_2D", [0, 1], [0]),
        ("CONV_2D", [], [0]),
        ("ADD", [0], [0]),
        ("MEAN", [0], []),
        ("PAD", [0], [0]),
    ):
        data = model_file([subgraph(tensors, [op], [0])], values)
        assert judged(data, [1]).verdict == "inert"
    data = model_file([subgraph(tensors, [("CONV_2D", [0, 9], [0])], [0])], values)
    with pytest.raises(ValueError, match="the file"):
        judged(data, [1])
