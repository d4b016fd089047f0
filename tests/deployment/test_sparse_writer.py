"""The sparse writer: hand-made files, computed by the runtime before and after."""

import re
import tracemalloc

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_pdp.deployment.block_kernels import BlockKernel
from keras_pdp.deployment.flatbuffer import decoded
from keras_pdp.deployment.sparse_candidates import Candidates
from keras_pdp.deployment.sparse_writer import sparsely_stored
from tests.deployment.convert import model_file, subgraph, tensor

OPS = ["CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED"]
SIZE = 3  # height and width of the maps
SAME = 0
OPTIONS = {
    "CONV_2D": schema.Conv2DOptionsT(SAME, 1, 1),
    "DEPTHWISE_CONV_2D": schema.DepthwiseConv2DOptionsT(SAME, 1, 1, 1),
    "TRANSPOSE_CONV": schema.TransposeConvOptionsT(SAME, 1, 1),
    "FULLY_CONNECTED": schema.FullyConnectedOptionsT(),
}
BLOCKS = {"float32": BlockKernel(4, 0.0, 0, 1e-5), "int8": BlockKernel(16, 0.0, 0, 1)}


def raw(values):
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8)


def random_weight(shape, dtype, sparsity, seed=0):
    generator = np.random.default_rng(seed)
    values = generator.integers(1, 100, size=shape) * generator.choice([-1, 1], shape)
    return np.where(generator.random(shape) < sparsity, 0, values).astype(dtype)


def layer_file(
    op, weight, *, data=None, copies=1, zero_point=0, computed_size=False, **options
):
    """One op with a constant weight, or `copies` of it in a row, without a bias.

    Tensor 0 is the input, 1 the weight, 2 its float32 form where it is float16, 3 the
    size that TRANSPOSE_CONV puts out, which can be computed by an op.
    """
    dtype = weight.dtype.name.upper()
    data = data or ("INT8" if dtype == "INT8" else "FLOAT32")
    channels = weight.shape[0] if op != "DEPTHWISE_CONV_2D" else weight.shape[3]
    maps = () if op == "FULLY_CONNECTED" else (SIZE, SIZE)
    scale = {"scale": [0.1], "zero_point": [0]} if data == "INT8" else {}
    quantized = dtype in ("INT8", "UINT8")
    scales = {"scale": [0.1], "zero_point": [zero_point]} if quantized else {}
    tensors = [
        tensor((1, *maps, weight.shape[-1]), data, **scale),
        tensor(weight.shape, dtype, 1, **scales),
        tensor(weight.shape, "FLOAT32"),
        tensor((4,), "INT32", 2),
        tensor((channels,), "INT32" if data == "INT8" else "FLOAT32", 3)
        if data != "INT8"
        else tensor((channels,), "INT32", 3, scale=[0.01], zero_point=[0]),
    ]
    operators = [("DEQUANTIZE", [1], [2])] if dtype == "FLOAT16" else []
    if computed_size:
        tensors += [tensors[3]]
        tensors[3] = tensor((4,), "INT32")
        operators += [("MAXIMUM", [5, 5], [3], schema.MaximumMinimumOptionsT())]
    used = 2 if dtype == "FLOAT16" else 1
    chosen = type(OPTIONS[op])(**(vars(OPTIONS[op]) | options))
    last = 0
    for _ in range(copies):
        inputs = [3, used, last, 4] if op == "TRANSPOSE_CONV" else [last, used, 4]
        last = len(tensors)
        tensors.append(tensor((1, *maps, channels), data, **scale))
        operators.append((op, inputs, [last], chosen))
    shape = np.array([1, *(maps or (1, 1)), channels], np.int32)
    bias = np.zeros(channels, np.int32)
    graph = subgraph(tensors, operators, inputs=[0], outputs=[last])
    return model_file([graph], [raw(weight), raw(shape), raw(bias)])


def computed(data, delegated=True):
    """What a file gives for a fixed input, with XNNPACK or without."""
    kinds = OpResolverType
    kind = kinds.AUTO if delegated else kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(
        model_content=data, num_threads=1, experimental_op_resolver_type=kind
    )
    interpreter.allocate_tensors()
    (entry,) = interpreter.get_input_details()
    generator = np.random.default_rng(1)
    values = generator.integers(-9, 9, size=entry["shape"]).astype(entry["dtype"])
    interpreter.set_tensor(entry["index"], values)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def weight_of(data):
    (weight,) = decoded(data, "file").weights
    return weight


def operators_of(data):
    return decoded(data, "file").operators[0]


def reason(data, **options):
    """Why the one weight of a file is left dense."""
    stored = sparsely_stored(data, **options)
    assert stored.data is data
    assert not stored.encoded
    (why,) = stored.left_dense.values()
    return why


@st.composite
def weights(draw):
    op = draw(st.sampled_from(OPS))
    side = st.integers(1, 3)
    channels = st.sampled_from([1, 2, 7, 16, 33, 300])
    shape = {
        "FULLY_CONNECTED": st.tuples(channels, channels),
        "DEPTHWISE_CONV_2D": st.tuples(st.just(1), side, side, channels),
    }.get(op, st.tuples(channels, side, side, channels))
    dtype = draw(st.sampled_from([np.float32, np.float16, np.int8]))
    sparsity = draw(st.sampled_from([0.0, 0.3, 0.7, 0.9, 1.0]))
    seed = draw(st.integers(0, 99))
    return op, random_weight(draw(shape), dtype, sparsity, seed)


@settings(max_examples=120, deadline=None)
@given(weights(), st.booleans())
def test_outputs_are_the_same_to_the_bit_and_files_never_larger(case, delegated):
    op, weight = case
    dense = layer_file(op, weight)
    stored = sparsely_stored(dense, kernels={})
    assert len(stored.data) <= len(dense)
    assert bool(stored.encoded) == (len(stored.data) < len(dense))
    assert np.array_equal(weight_of(stored.data).values, weight)
    expected, received = computed(dense, delegated), computed(stored.data, delegated)
    assert expected.tobytes() == received.tobytes()


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
@pytest.mark.parametrize("op", OPS)
def test_every_op_is_encoded_or_the_reason_is_known(op, dtype):
    shape = {"FULLY_CONNECTED": (64, 90), "DEPTHWISE_CONV_2D": (1, 5, 5, 90)}
    weight = random_weight(shape.get(op, (40, 3, 3, 30)), dtype, 0.9)
    dense = layer_file(op, weight)
    stored = sparsely_stored(dense)
    if (op, dtype) == ("FULLY_CONNECTED", "int8"):
        assert stored.left_dense == {
            1: "int8 FULLY_CONNECTED does not load behind a DENSIFY"
        }
        return
    assert stored.encoded == {1}
    assert stored.left_dense == {}
    assert stored.tolerance == 0
    assert operators_of(stored.data)[0] == "DENSIFY"
    assert weight_of(stored.data).storage == "csr"
    chain = ("DENSIFY", "DEQUANTIZE", op) if dtype == "float16" else ("DENSIFY", op)
    assert operators_of(stored.data) == chain


def test_int8_dense_layers_do_not_load_behind_a_densify(monkeypatch):
    """The ground of a rule: when this fails, the runtime has learnt it."""
    monkeypatch.setattr(Candidates, "behind_densify", lambda self, sharing: "")
    dense = layer_file("FULLY_CONNECTED", random_weight((64, 90), np.int8, 0.9))
    stored = sparsely_stored(dense)
    assert stored.encoded
    with pytest.raises(RuntimeError, match="delegate|prepare"):
        computed(stored.data)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from([(np.float32, 4), (np.int8, 16)]), st.data())
def test_blocks_compute_what_the_dense_kernel_does(case, data):
    dtype, width = case
    rows, blocks = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 12))
    kept = random_weight((rows, blocks), bool, data.draw(st.floats(0.3, 1)))
    weight = random_weight((rows, blocks * width), dtype, 0.0)
    weight = weight * np.repeat(kept, width, axis=1)
    dense = layer_file("FULLY_CONNECTED", weight)
    stored = sparsely_stored(dense, kernels=BLOCKS)
    assert len(stored.data) <= len(dense)
    assert np.array_equal(weight_of(stored.data).values, weight)
    expected, received = (computed(each).astype(float) for each in (dense, stored.data))
    # int8 may round to the next step
    step = 1 if dtype is np.int8 else 1e-6 * np.abs(expected).max()
    np.testing.assert_allclose(received, expected, rtol=0, atol=step)
    if stored.encoded:
        assert weight_of(stored.data).storage == "block"
        assert operators_of(stored.data) == ("FULLY_CONNECTED",)
        assert stored.tolerance == BLOCKS[weight.dtype.name].tolerance


@pytest.mark.parametrize("columns, storage", [(512, "block"), (510, "csr")])
def test_blocks_where_they_pay_and_rows_fill_them(columns, storage):
    weight = random_weight((256, columns), np.float32, 0.0)
    weight[:, 4 * (columns // 80) :] = 0
    stored = sparsely_stored(layer_file("FULLY_CONNECTED", weight))
    assert weight_of(stored.data).storage == storage
    assert stored.tolerance == (1e-5 if storage == "block" else 0)


@pytest.mark.parametrize(
    "dtype, shape, sparsity, storage",
    [
        ("float32", (256, 256), 0.91, "block"),
        ("float32", (256, 256), 0.85, "csr"),
        ("float32", (128, 256), 0.95, "csr"),
        ("float16", (512, 512), 0.95, "csr"),
        ("int8", (1024, 1024), 0.985, "block"),
        ("int8", (1024, 1024), 0.95, "dense"),
        ("int8", (512, 512), 0.99, "dense"),
    ],
)
def test_which_dense_layers_are_stored_by_blocks(dtype, shape, sparsity, storage):
    width = 16 if dtype == "int8" else 4
    kept = random_weight((shape[0], shape[1] // width), bool, sparsity)
    weight = random_weight(shape, dtype, 0.0) * np.repeat(kept, width, axis=1)
    dense = layer_file("FULLY_CONNECTED", weight.astype(dtype))
    assert weight_of(sparsely_stored(dense).data).storage == storage


def test_one_densify_for_all_users():
    weight = random_weight((30, 1, 1, 30), np.float32, 0.9)
    dense = layer_file("CONV_2D", weight, copies=3)
    stored = sparsely_stored(dense)
    assert operators_of(stored.data) == ("DENSIFY", *["CONV_2D"] * 3)
    assert computed(dense).tobytes() == computed(stored.data).tobytes()


@pytest.mark.parametrize(
    "data, why",
    [
        (
            layer_file("CONV_2D", random_weight((20, 1, 1, 20), np.uint8, 0.9)),
            "DENSIFY does not know uint8",
        ),
        (
            layer_file(
                "CONV_2D", random_weight((20, 1, 1, 20), np.int8, 0.9) + 3, zero_point=3
            ),
            "0 is not its zero point",
        ),
        (
            layer_file(
                "CONV_2D", random_weight((40, 1, 1, 40), np.int8, 0.9), data="FLOAT32"
            ),
            "dynamic int8",
        ),
        (
            layer_file(
                "FULLY_CONNECTED",
                random_weight((40, 40), np.float32, 0.9),
                weightsFormat=1,
            ),
            "shuffled",
        ),
        (
            layer_file("CONV_2D", random_weight((40, 1, 1, 40), np.float32, 0.1)),
            r"with 1\d% zeros it would take [\d,]+ bytes instead of [\d,]+",
        ),
        (
            layer_file("CONV_2D", random_weight((4, 1, 1, 4), np.float32, 0.9)),
            r"with \d\d% zeros it would take \d+ bytes instead of \d+",
        ),
    ],
    ids=["uint8", "zero point", "dynamic", "shuffled", "few zeros", "small"],
)
def test_what_is_left_dense_and_why(data, why):
    assert re.search(why, reason(data))


def dense_layers(*weights, buffers=None, operators=None, outputs=None, **options):
    """Dense layers on one input, tensor 0; the weights are tensors 1, 2, …"""
    buffers = buffers or range(1, len(weights) + 1)
    tensors = [tensor((1, weights[0].shape[-1]), "FLOAT32")]
    tensors += [
        tensor(weight.shape, weight.dtype.name.upper(), buffer)
        for weight, buffer in zip(weights, buffers, strict=True)
    ]
    first = len(tensors)
    tensors += [tensor((1, weight.shape[0]), "FLOAT32") for weight in weights]
    chosen = schema.FullyConnectedOptionsT()
    layers = [
        ("FULLY_CONNECTED", [0, 1 + number, -1], [first + number], chosen)
        for number in range(len(weights))
    ]
    outputs = outputs or range(first, len(tensors))
    graph = subgraph(tensors, [*layers, *(operators or ())], [0], outputs)
    unique = dict(zip(buffers, weights, strict=True))
    return model_file([graph], [raw(unique[key]) for key in sorted(unique)], **options)


SPARSE = random_weight((40, 30), np.float32, 0.9)


def test_tensors_that_share_their_values():
    dense = dense_layers(SPARSE, SPARSE, buffers=[1, 1])
    stored = sparsely_stored(dense)
    assert stored.encoded == {1}
    assert operators_of(stored.data) == ("DENSIFY",) * 2 + ("FULLY_CONNECTED",) * 2
    file = decoded(stored.data, "file")
    assert file.weight_zeros == (SPARSE == 0).sum()
    assert len(stored.data) < len(dense_layers(SPARSE)), "the values are there once"
    assert computed(dense).tobytes() == computed(stored.data).tobytes()


def test_tensors_of_other_shapes_share_the_values():
    other = SPARSE.reshape(20, 60)
    data = dense_layers(SPARSE, other, buffers=[1, 1])
    assert "other shapes" in reason(data)


def test_a_weight_that_is_also_a_table():
    gather = ("GATHER", [1, 0], [3], schema.GatherOptionsT())
    assert "GATHER does not take" in reason(dense_layers(SPARSE, operators=[gather]))


def test_a_weight_that_is_also_an_output():
    assert "output of the model" in reason(dense_layers(SPARSE, outputs=[1, 2]))


TANH = schema.ActivationFunctionType.TANH


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize(
    "op, odd",
    [
        ("TRANSPOSE_CONV", {"computed_size": True}),
        ("TRANSPOSE_CONV", {"fusedActivationFunction": TANH}),
        ("CONV_2D", {"fusedActivationFunction": TANH}),
        ("DEPTHWISE_CONV_2D", {"fusedActivationFunction": TANH}),
    ],
)
def test_what_xnnpack_does_not_take_stays_dense_in_float16(op, odd, dtype):
    """Stored sparsely, LiteRT 2.3 computed with zeros or NaN."""
    shape = (1, 3, 3, 60) if op == "DEPTHWISE_CONV_2D" else (40, 3, 3, 30)
    data = layer_file(op, random_weight(shape, dtype, 0.9), **odd)
    if dtype == np.float16:
        assert "misreads sparse float16" in reason(data)
    else:
        stored = sparsely_stored(data)
        assert stored.encoded == {1}
        assert computed(stored.data).tobytes() == computed(data).tobytes()


def test_int4():
    nibbles = np.zeros(40 * 30 // 2, np.uint8)
    graph = subgraph(
        [tensor((1, 30), "INT8"), tensor((40, 30), "INT4", 1), tensor((1, 40), "INT8")],
        [("FULLY_CONNECTED", [0, 1, -1], [2], schema.FullyConnectedOptionsT())],
    )
    assert reason(model_file([graph], [nibbles])) == "DENSIFY does not know int4"


def test_what_is_sparse_already_stays_as_it_is():
    once = sparsely_stored(dense_layers(SPARSE)).data
    assert reason(once) == "it is sparse already"


def loop_file():
    """A WHILE whose body applies a sparse weight."""
    body = subgraph(
        [
            tensor((1, 30), "FLOAT32"),
            tensor((30, 30), "FLOAT32", 1),
            tensor((1, 30), "FLOAT32"),
        ],
        [("FULLY_CONNECTED", [0, 1, -1], [2], schema.FullyConnectedOptionsT())],
        inputs=[0],
        outputs=[2],
    )
    condition = subgraph([tensor((1, 30), "FLOAT32"), tensor((), "BOOL")], [], [0], [1])
    main = subgraph(
        [tensor((1, 30), "FLOAT32")] * 2,
        [("WHILE", [0], [1], schema.WhileOptionsT(1, 2))],
        inputs=[0],
        outputs=[1],
    )
    weight = random_weight((30, 30), np.float32, 0.9)
    return model_file([main, condition, body], [raw(weight)])


def test_a_weight_inside_a_loop():
    assert reason(loop_file()) == "it is inside a loop or a branch"


def test_a_file_of_several_signatures():
    graphs, signatures, weights = [], [], []
    for number, rows in enumerate((40, 50)):
        weights.append(random_weight((rows, 30), np.float32, 0.9, seed=number))
        tensors = [
            tensor((1, 30), "FLOAT32"),
            tensor((rows, 30), "FLOAT32", 1 + number),
            tensor((1, rows), "FLOAT32"),
        ]
        op = ("FULLY_CONNECTED", [0, 1, -1], [2], schema.FullyConnectedOptionsT())
        graphs.append(subgraph(tensors, [op], [0], [2]))
        signatures.append(
            schema.SignatureDefT(
                inputs=[schema.TensorMapT("x", 0)],
                outputs=[schema.TensorMapT("y", 2)],
                signatureKey=f"sign{number}",
                subgraphIndex=number,
            )
        )
    dense = model_file(graphs, [raw(each) for each in weights], signatures=signatures)
    stored = sparsely_stored(dense)
    assert stored.encoded == {1, 2}
    assert (
        decoded(stored.data, "file").operators == (("DENSIFY", "FULLY_CONNECTED"),) * 2
    )
    x = np.linspace(-1, 1, 30, dtype=np.float32)[None]
    for key in ("sign0", "sign1"):
        before, after = (
            Interpreter(model_content=each).get_signature_runner(key)(x=x)["y"]
            for each in (dense, stored.data)
        )
        assert before.tobytes() == after.tobytes()


def test_values_behind_the_model_are_taken_into_it():
    dense = dense_layers(SPARSE, SPARSE[:20] + 1, outside=True)
    stored = sparsely_stored(dense)
    model = schema.ModelT.InitFromPackedBuf(stored.data, 0)
    assert [buffer.offset for buffer in model.buffers] == [0] * 3
    assert stored.encoded == {1}
    first, second = decoded(stored.data, "file").weights
    np.testing.assert_array_equal(first.values, SPARSE)
    np.testing.assert_array_equal(second.values, SPARSE[:20] + 1)
    assert computed(dense).tobytes() == computed(stored.data).tobytes()


@pytest.mark.parametrize(
    "before, after", [("1.5.0", "2.3.0"), ("2.2.0", "2.3.0"), ("2.14.1", "2.14.1")]
)
def test_the_runtime_that_it_asks_for_knows_its_ops(before, after):
    version = np.frombuffer(before.encode().ljust(16, b"\0"), np.uint8)
    data = with_metadata(b"min_runtime_version", version)
    model = schema.ModelT.InitFromPackedBuf(sparsely_stored(data).data, 0)
    (entry,) = model.metadata
    assert bytes(model.buffers[entry.buffer].data) == after.encode().ljust(16, b"\0")


def test_metadata_that_counts_on_the_numbers_of_ops():
    data = with_metadata(b"model_control_dependencies", np.zeros(8, np.uint8))
    assert "metadata" in reason(data)


def with_metadata(name, content):
    graph = subgraph(
        [
            tensor((1, 30), "FLOAT32"),
            tensor(SPARSE.shape, "FLOAT32", 1),
            tensor((1, 40), "FLOAT32"),
        ],
        [("FULLY_CONNECTED", [0, 1, -1], [2], schema.FullyConnectedOptionsT())],
        inputs=[0],
        outputs=[2],
    )
    entry = schema.MetadataT(name=name, buffer=2)
    return model_file([graph], [raw(SPARSE), content], metadata=[entry])


def test_op_codes_and_alignment():
    wide = random_weight((256, 256), np.float32, 0.95)
    wide[:, :240] = 0
    data = sparsely_stored(dense_layers(wide, random_weight((7, 256), "f4", 0.9))).data
    model = schema.ModelT.InitFromPackedBuf(data, 0)
    ops = schema.BuiltinOperator
    assert [(x.builtinCode, x.version) for x in model.operatorCodes] == [
        (ops.FULLY_CONNECTED, 1),
        (ops.FULLY_CONNECTED, 8),
        (ops.DENSIFY, 1),
    ]
    reader = schema.Model.GetRootAs(data, 0)
    starts = [
        reader.Buffers(number)._tab.Vector(
            flatbuffers.number_types.UOffsetTFlags.py_type(
                reader.Buffers(number)._tab.Offset(4)
            )
        )
        for number in range(reader.BuffersLength())
        if not reader.Buffers(number).DataIsNone()
    ]
    assert len(starts) == 2
    assert [start % 16 for start in starts] == [0, 0]


@pytest.mark.parametrize("inputs", [[-1, 1, -1], [0, -1, -1], [-1, 1], [9, 1, -1]])
def test_ops_without_their_data_or_weights(inputs):
    """What is absent is number -1, which in Python is the last of a list."""
    tensors = [
        tensor((1, 30), "FLOAT32"),
        tensor(SPARSE.shape, "FLOAT32", 1),
        tensor((1, 40), "FLOAT32"),
    ]
    graph = subgraph(tensors, [("FULLY_CONNECTED", inputs, [2])], [0], [2])
    with pytest.raises(ValueError, match=r"my file.*reference to number"):
        sparsely_stored(model_file([graph], [raw(SPARSE)]), "my file")


def test_nothing_to_store():
    data = dense_layers(SPARSE + 1000)
    stored = sparsely_stored(data)
    assert (stored.data, stored.encoded, stored.left_dense) == (data, frozenset(), {})


@pytest.mark.parametrize("data", [b"", b"TFL3", b"PK\x03\x04" + bytes(100)])
def test_foreign_files_are_named(data):
    with pytest.raises(ValueError, match="my file: expected a TFLite model"):
        sparsely_stored(data, "my file")


def test_files_that_end_too_early():
    data = layer_file("CONV_2D", random_weight((40, 3, 3, 30), np.float16, 0.8))
    for part in range(40):
        with pytest.raises(ValueError, match="my file"):
            sparsely_stored(data[: len(data) * part // 40], "my file")


def test_flipped_bytes_end_in_a_file_or_a_value_error():
    data = layer_file("TRANSPOSE_CONV", random_weight((8, 3, 3, 30), np.float32, 0.8))
    generator = np.random.default_rng(0)
    damaged = 0
    tracemalloc.start()
    for round_ in range(300):
        flipped = np.frombuffer(data, np.uint8).copy()
        # the tables, which come before and after the values
        places = generator.integers(0, 1500, size=1 + round_ % 8)
        flipped[places * generator.choice([1, -1], places.shape)] = generator.integers(
            0, 256, size=len(places)
        )
        try:
            sparsely_stored(flipped.tobytes(), "my file")
        except ValueError as error:
            assert "my file" in str(error)
            damaged += 1
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 20 < damaged < 300
    assert peak < 200e6
