"""Files to read: made by the stock converter, or by hand from the schema."""

import tempfile

import flatbuffers
import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema


def convert(model, quantize=None, *, sparse=False):
    """The bytes of a .tflite file, optionally in the converter's sparse encoding."""
    shape = (1, *model.inputs[0].shape[1:])
    data = np.random.default_rng(0).normal(size=(20, *shape)).astype("float32")
    with tempfile.TemporaryDirectory() as folder:
        archive = keras.export.ExportArchive()
        archive.track(model)
        archive.add_endpoint(
            "serve",
            lambda x: model(x, training=False),
            [tf.TensorSpec(shape, model.inputs[0].dtype)],
        )
        archive.write_out(folder, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = [tf.lite.Optimize.DEFAULT] if quantize else []
        if sparse:
            converter.optimizations += [tf.lite.Optimize.EXPERIMENTAL_SPARSITY]
        if quantize == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if quantize == "int8":
            converter.representative_dataset = lambda: ([x] for x in data)
        return converter.convert()


def tensor(shape, dtype, buffer=0, *, scale=None, zero_point=None, axis=0):
    """A tensor of a hand-made file."""
    quantization = None
    if scale is not None:
        quantization = schema.QuantizationParametersT(
            scale=scale, zeroPoint=zero_point, quantizedDimension=axis
        )
    return schema.TensorT(
        shape=list(shape),
        type=getattr(schema.TensorType, dtype),
        buffer=buffer,
        name=f"tensor_{buffer}",
        quantization=quantization,
    )


def subgraph(tensors, operators, inputs=(), outputs=()):
    """A subgraph; an operator is `(name, inputs, outputs)` or has options as well."""
    return tensors, operators, list(inputs), list(outputs)


def model_file(subgraphs, values, *, outside=False, metadata=(), signatures=()):
    """The bytes of a hand-made file; `outside` puts the last buffer after the model."""
    names = sorted({op[0] for _, ops, *_ in subgraphs for op in ops})
    codes = []
    for name in names:
        number = getattr(schema.BuiltinOperator, name)
        codes.append(
            schema.OperatorCodeT(
                builtinCode=number, deprecatedBuiltinCode=min(number, 127)
            )
        )
    model = schema.ModelT(
        version=3,
        operatorCodes=codes,
        subgraphs=[_subgraph(names, *each) for each in subgraphs],
        buffers=[schema.BufferT()] + [schema.BufferT(data=each) for each in values],
        metadata=list(metadata),
        signatureDefs=list(signatures),
    )
    if not outside:
        return _packed(model)
    moved = model.buffers[-1]
    content, moved.data = bytes(moved.data), None
    moved.offset, moved.size = 2, len(content)
    moved.offset = len(_packed(model))
    return _packed(model) + content


def _subgraph(names, tensors, operators, inputs, outputs):
    return schema.SubGraphT(
        tensors=tensors,
        inputs=inputs,
        outputs=outputs,
        operators=[_operator(names, *op) for op in operators],
    )


def _operator(names, name, inputs, outputs, options=None):
    operator = schema.OperatorT(
        opcodeIndex=names.index(name), inputs=list(inputs), outputs=list(outputs)
    )
    if options is not None:
        kind = type(options).__name__.removesuffix("T")
        operator.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
        operator.builtinOptions = options
    return operator


def _packed(model):
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())
