"""What an export wrote and what was verified about it."""

import dataclasses
import gzip
from dataclasses import dataclass
from typing import Any

from keras_pdp.deployment.agreement import OutputAgreement
from keras_pdp.deployment.interpreter import Latency
from keras_pdp.deployment.tflite_file import ConstantTensor

GZIP_LEVEL = 6

_LATENCY_NOTE = (
    "Zeros make no dense kernel faster: on this CPU the two times differ by noise. "
    "Fewer channels do (shrink)."
)


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
    """

    op: str
    name: str
    shape: tuple[int, ...]
    dtype: str
    storage: str
    size: int
    zeros: int
    bytes: int

    @classmethod
    def of(cls, weight: ConstantTensor) -> "WeightRecord":
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
        )


@dataclass(frozen=True)
class TFLiteReport:
    """What `to_tflite` wrote and what it verified.

    Sizes are in bytes; *gzipped* means gzip at level 6. The **dense** model has the
    same architecture and the same precision. Its raw size is the same, because zeros
    are stored like other values; gzip is what sees them.

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
        """The report as a table in plain text."""
        lines = [
            f"{self.path} ({self.quantize or 'float32'})",
            *_table(_size_rows(self)),
            "",
            *_table(_weight_rows(self)),
            "",
            *_table(_agreement_rows(self)),
            f"compared on {self.outputs[0].samples} samples ({self.samples}), "
            f"allowed relative difference {self.tolerance:g}",
        ]
        if self.latency is not None:
            lines += [
                "",
                f"latency, one thread, median of {self.latency.runs}: "
                f"{self.latency.exported_ms:.3f} ms, "
                f"dense {self.latency.dense_ms:.3f} ms",
                _LATENCY_NOTE,
            ]
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.render()


def gzipped_size(data: bytes) -> int:
    """Bytes of `data` gzipped, without a time stamp: the same in every run."""
    return len(gzip.compress(data, compresslevel=GZIP_LEVEL, mtime=0))


def _size_rows(report: TFLiteReport) -> list[list[str]]:
    return [
        ["bytes", "raw", f"gzip -{GZIP_LEVEL}"],
        ["this file", f"{report.raw_bytes:,}", f"{report.gzip_bytes:,}"],
        [
            f"dense ({report.dense_reference})",
            f"{report.dense_raw_bytes:,}",
            f"{report.dense_gzip_bytes:,}",
        ],
    ]


def _weight_rows(report: TFLiteReport) -> list[list[str]]:
    rows = [["weight", "op", "shape", "stored", "zeros", "of", "bytes"]]
    for each in report.weights:
        shape = "×".join(map(str, each.shape))
        stored = f"{each.dtype} {each.storage}"
        numbers = [f"{each.zeros:,}", f"{each.size:,}", f"{each.bytes:,}"]
        rows.append([_shortened(each.name), each.op, shape, stored, *numbers])
    total = sum(each.bytes for each in report.weights)
    share = f"{report.sparsity:.2%} zero"
    rows.append(
        ["total", "", "", share, f"{report.zeros:,}", f"{report.size:,}", f"{total:,}"]
    )
    return rows


def _agreement_rows(report: TFLiteReport) -> list[list[str]]:
    rows = [["output", "max abs diff", "relative diff", "top-1"]]
    for each in report.outputs:
        top1 = "" if each.top1_agreement is None else f"{each.top1_agreement:.2%}"
        largest = f"{each.max_abs_difference:.2e}"
        rows.append([each.output, largest, f"{each.relative_difference:.2e}", top1])
    return rows


def _shortened(name: str, width: int = 32) -> str:
    # the end of a name tells layers apart, its start is the model's name
    name = name.split(";")[0]
    return name if len(name) <= width else "…" + name[1 - width :]


def _table(rows: list[list[str]]) -> list[str]:
    """Rows below a header, columns aligned: text to the left, numbers to the right."""
    columns = zip(*rows, strict=True)
    return [
        "  ".join(cells).rstrip() for cells in zip(*map(_aligned, columns), strict=True)
    ]


def _aligned(column: tuple[str, ...]) -> list[str]:
    width = max(map(len, column))
    numbers = any(_is_number(cell) for cell in column[1:])
    return [cell.rjust(width) if numbers else cell.ljust(width) for cell in column]


def _is_number(cell: str) -> bool:
    return bool(cell) and set(cell) <= set("0123456789,.+-e%")
