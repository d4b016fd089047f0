"""What a .tflite file holds, as values."""

from dataclasses import dataclass, field

import numpy as np

from keras_pdp.deployment.consumers import Consumer
from keras_pdp.deployment.sparse_encoding import Array


@dataclass(frozen=True, eq=False)
class Quantization:
    """`real = scale · (stored - zero point)`, for each position on `axis`.

    Args:
        scale: one number, or one for each position on `axis`. Empty when nothing is
            quantized.
        zero_point: like `scale`.
        axis: the axis of per-channel numbers.
    """

    scale: Array
    zero_point: Array
    axis: int

    def along(self, numbers: Array, rank: int) -> Array:
        """`numbers` shaped to broadcast against a tensor of `rank` axes."""
        if numbers.size <= 1:
            return numbers.reshape([1] * rank)
        shape = [1] * rank
        shape[self.axis] = -1
        return numbers.reshape(shape)


@dataclass(frozen=True, eq=False)
class ConstantTensor:
    """A constant of a .tflite file, decoded.

    Args:
        name: the tensor's name in the file.
        subgraph: number of the subgraph that holds it.
        index: its number among the tensors of the subgraph.
        shape: its dense shape.
        dtype: how values are stored: `"float32"`, `"float16"`, `"int8"`, `"int4"`, …
        storage: `"dense"`, `"csr"` or `"block"`.
        values: stored values at their dense places; read-only. int4 comes as int8.
        quantization: what stored values mean.
        value_bytes: bytes of the values in the file.
        index_bytes: bytes of the index vectors of sparse storage.
        buffer: number of the buffer that holds the values; tensors may share one.
        consumers: the ops that use it, through DEQUANTIZE, DENSIFY and loops.
    """

    name: str
    subgraph: int
    index: int
    shape: tuple[int, ...]
    dtype: str
    storage: str
    values: Array = field(repr=False)
    quantization: Quantization = field(repr=False)
    value_bytes: int
    index_bytes: int
    buffer: int
    consumers: tuple[Consumer, ...]

    @property
    def size(self) -> int:
        """Number of values, stored or not."""
        return self.values.size

    @property
    def bytes(self) -> int:
        """Bytes in the file: values and index vectors."""
        return self.value_bytes + self.index_bytes

    @property
    def zeros(self) -> int:
        """How many values mean 0.0."""
        return int(np.count_nonzero(self.values == self._zero_point))

    @property
    def is_weight(self) -> bool:
        """Whether some op multiplies by it; biases and shapes are no weights."""
        return len(self.shape) > 1 and any(use.is_weight for use in self.consumers)

    @property
    def op(self) -> str:
        """The op that uses it as a weight, else the first that uses it, else `""`."""
        uses = sorted(self.consumers, key=lambda use: not use.is_weight)
        return uses[0].op if uses else ""

    @property
    def real(self) -> Array:
        """What the stored values mean, as float32."""
        stored = self.values.astype(np.float32)
        if not self.quantization.scale.size:
            return stored
        scale = self.quantization.along(self.quantization.scale, stored.ndim)
        return (stored - self._zero_point) * scale

    @property
    def _zero_point(self) -> Array:
        zero_point = self.quantization.zero_point
        return self.quantization.along(
            zero_point if zero_point.size else np.zeros(1, np.int64), self.values.ndim
        )


@dataclass(frozen=True, eq=False)
class TFLiteFile:
    """What a .tflite file holds.

    Args:
        path: the file.
        bytes: its size.
        operators: the ops of each subgraph, in order; subgraph 0 is the model, the
            others are bodies and conditions of its loops.
        constants: every constant tensor.
    """

    path: str
    bytes: int
    operators: tuple[tuple[str, ...], ...]
    constants: tuple[ConstantTensor, ...] = field(repr=False)

    @property
    def weights(self) -> tuple[ConstantTensor, ...]:
        """The constants that are weights, each buffer once.

        The converter stores equal tensors once; so do these.
        """
        by_buffer = {each.buffer: each for each in self.constants if each.is_weight}
        return tuple(by_buffer.values())

    @property
    def weight_count(self) -> int:
        """Number of values in all weights."""
        return sum(weight.size for weight in self.weights)

    @property
    def weight_zeros(self) -> int:
        """Number of zeros in all weights."""
        return sum(weight.zeros for weight in self.weights)
