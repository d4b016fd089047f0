"""The files of benchmarks/edge.py: each variant of a net, in each of its precisions."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy.typing as npt

from benchmarks.edge_macs import macs, nonzero_macs
from benchmarks.edge_variants import Precision, Sparse, Variant
from keras_pdp import ExportError, TFLiteReport, to_tflite

COMPARED_WITH_KERAS = 16


@dataclass(frozen=True)
class Exported:
    """A file that was written.

    Args:
        variant: the name of what was made of the net.
        precision: `"float32"`, `"float16"` or `"int8"`.
        path: the file.
        report: what `to_tflite` says about it.
        macs: multiply-accumulates with dense kernels.
        nonzero_macs: those with weights that are not zero.
        prepared: whether the net was prepared for sparse kernels.
        twin: the same weights in a dense file, of a file that is stored sparsely.
    """

    variant: str
    precision: str
    path: Path
    report: TFLiteReport
    macs: int
    nonzero_macs: int
    prepared: bool
    twin: "Exported | None" = None

    @property
    def stored(self) -> str:
        """`"sparse"` if any weight is, else `"dense"`."""
        return "sparse" if self.report.storage.encoded else "dense"

    @property
    def verdict(self) -> str:
        """Eligible, inert or unsafe; `"–"` where nothing could be stored sparsely."""
        verdict = self.report.storage.verdict
        return verdict.verdict if verdict else "–"

    @property
    def gzip_bytes(self) -> int:
        """The size of the file after gzip."""
        return self.report.gzip_bytes


@dataclass(frozen=True)
class Refused:
    """A file that `to_tflite` did not write, because it was not right.

    Args:
        net: the net.
        variant: what was made of it.
        precision: as in `Exported`.
        reason: what `to_tflite` says.
    """

    net: str
    variant: str
    precision: str
    reason: str


def exported(
    net: keras.Model, variant: Variant, data: npt.NDArray[Any], folder: Path
) -> Iterator[Exported | Refused]:
    """Writes the files of one variant.

    Args:
        net: the untouched net.
        variant: what to make of it.
        data: typical inputs `(samples, ...)`, for int8 and to compare on.
        folder: where to.
    """
    model = variant.make(net)
    for precision in variant.precisions:
        name = f"{net.name} {variant.name} {precision or 'float32'}"
        path = folder / f"{_file_name(name)}.tflite"
        try:
            file = _written(model, variant, precision, data, path, variant.sparse)
        except ExportError as error:
            yield Refused(net.name, variant.name, precision or "float32", str(error))
            continue
        if file.stored == "sparse":
            dense = path.with_name(f"{path.stem}_dense.tflite")
            twin = _written(model, variant, precision, data, dense, False)
            file = replace(file, twin=twin)
        yield file


def _written(
    model: keras.Model,
    variant: Variant,
    precision: Precision,
    data: npt.NDArray[Any],
    path: Path,
    sparse: Sparse,
) -> Exported:
    report = to_tflite(
        model,
        path,
        quantize=precision,
        representative_data=data if precision == "int8" else None,
        samples=data[:COMPARED_WITH_KERAS],
        sparse=sparse,
    )
    return Exported(
        variant=variant.name,
        precision=precision or "float32",
        path=path,
        report=report,
        macs=macs(model),
        nonzero_macs=nonzero_macs(model),
        prepared=variant.prepared,
    )


def _file_name(name: str) -> str:
    letters = (letter if letter.isalnum() else "_" for letter in name.replace(" %", ""))
    return "".join(letters).lower()
