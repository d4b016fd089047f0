"""What an export wrote and what was verified about it."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from keras_pdp.deployment.agreement import OutputAgreement
from keras_pdp.deployment.export_text import rendered
from keras_pdp.deployment.interpreter import Latency
from keras_pdp.deployment.storage import Storage
from keras_pdp.deployment.tflite_file import ConstantTensor


@dataclass(frozen=True)
class WeightRecord:
    """One weight tensor of the file.

    Args:
        op: the op that uses it.
        name: its name in the file.
        shape: its shape in the file (TFLite's order of axes, not that of Keras).
        dtype: how its values are stored.
        storage: `"dense"`, `"csr"` or `"block"`.
        size: number of values.
        zeros: how many of them mean 0.0.
        bytes: bytes in the file, index vectors of sparse storage included.
        left_dense: why it is stored densely although it holds zeros, or `""`.
    """

    op: str
    name: str
    shape: tuple[int, ...]
    dtype: str
    storage: str
    size: int
    zeros: int
    bytes: int
    left_dense: str = ""

    @classmethod
    def of(cls, weight: ConstantTensor, left_dense: str = "") -> "WeightRecord":
        """The record of a weight that was read from a file."""
        return cls(
            op=weight.op,
            name=weight.name,
            shape=weight.shape,
            dtype=weight.dtype,
            storage=weight.storage,
            size=weight.size,
            zeros=weight.zeros,
            bytes=weight.bytes,
            left_dense=left_dense,
        )


@dataclass(frozen=True)
class TFLiteReport:
    """What `to_tflite` wrote and what it verified.

    Sizes are in bytes; *gzipped* means gzip at level 6. The **dense** model has the
    same architecture and the same precision, and no zeros. `storage` has the sizes of
    the file with its zeros, all stored densely: raw it is as large as the dense model,
    because zeros are stored like other values; gzip is what sees them.

    Args:
        path: the file that was written.
        quantize: its precision: `None`, `"float16"`, `"dynamic"` or `"int8"`.
        raw_bytes: its size.
        gzip_bytes: its size gzipped.
        dense_raw_bytes: size of the dense model.
        dense_gzip_bytes: size of the dense model gzipped.
        dense_reference: what stands in the dense model where the file has zeros:
            `"unmasked weights"` of a wrapped model; `"random weights"`, normal with the
            standard deviation of the kernel's other weights, for a plain model, whose
            pruned values are gone; `"the file itself"` if it has no zeros to fill.
        storage: how the file is stored and why, and the verdict on sparse kernels.
        weights: the weight tensors, read back from the file. Biases are no weights.
        outputs: how far each output agrees with the Keras model.
        samples: what the outputs were compared on: `"samples"`,
            `"representative_data"`, or `"random"` (normal numbers or valid ids).
        tolerance: the relative difference that was allowed.
        latency: times on this machine, if asked for.

    Example:

        >>> report = to_tflite(model, "model.tflite", quantize="int8", ...)
        >>> print(report)
        >>> report.sparsity, report.top1_agreement
    """

    path: str
    quantize: str | None
    raw_bytes: int
    gzip_bytes: int
    dense_raw_bytes: int
    dense_gzip_bytes: int
    dense_reference: str
    storage: Storage
    weights: tuple[WeightRecord, ...]
    outputs: tuple[OutputAgreement, ...]
    samples: str
    tolerance: float
    latency: Latency | None = None

    @property
    def size(self) -> int:
        """Number of values in all weights of the file."""
        return sum(weight.size for weight in self.weights)

    @property
    def zeros(self) -> int:
        """Number of zeros in all weights of the file."""
        return sum(weight.zeros for weight in self.weights)

    @property
    def sparsity(self) -> float:
        """Zeros as a fraction of all weights of the file; 0 without weights."""
        return self.zeros / self.size if self.size else 0.0

    @property
    def max_abs_difference(self) -> float:
        """The largest difference of a value, over all outputs."""
        return max(output.max_abs_difference for output in self.outputs)

    @property
    def relative_difference(self) -> float:
        """The relative difference of the worst output."""
        return max(output.relative_difference for output in self.outputs)

    @property
    def top1_agreement(self) -> float | None:
        """Top-1 agreement of the worst output; `None` if no output has classes."""
        known = [each.top1_agreement for each in self.outputs]
        return min((each for each in known if each is not None), default=None)

    def to_dict(self) -> dict[str, Any]:
        """All fields and the derived totals, ready for `json.dump`."""
        fields = dataclasses.asdict(self)
        fields["storage"] = self.storage.to_dict()
        fields["weights"] = [
            {**dataclasses.asdict(weight), "shape": list(weight.shape)}
            for weight in self.weights
        ]
        fields["outputs"] = [dataclasses.asdict(output) for output in self.outputs]
        return fields | {
            "size": self.size,
            "zeros": self.zeros,
            "sparsity": self.sparsity,
            "max_abs_difference": self.max_abs_difference,
            "relative_difference": self.relative_difference,
            "top1_agreement": self.top1_agreement,
        }

    def render(self) -> str:
        """The report as tables in plain text."""
        return rendered(self)

    def __str__(self) -> str:
        return self.render()
