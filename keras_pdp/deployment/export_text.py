"""The report of an export as plain text."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from keras_pdp.deployment.gzipped import GZIP_LEVEL
from keras_pdp.deployment.sparse_inference import SparseInferenceReport
from keras_pdp.deployment.storage import Storage

if TYPE_CHECKING:
    from keras_pdp.deployment.export_report import TFLiteReport

_LATENCY_NOTE = (
    "Zeros make no dense kernel faster: on this CPU the two times differ by noise. "
    "Fewer channels do (shrink)."
)
_SPARSE_LATENCY_NOTE = (
    "Sparse kernels run on ARM and in WebAssembly, not on x86 with AVX: there only "
    "Dense layers that are stored by blocks differ by more than noise."
)
_VERDICTS = {
    "eligible": "the file can run faster on ARM, WebAssembly; not on x86 with AVX",
    "inert": "sparse kernels do not take the file, but for Dense layers by blocks; all "
    "is computed rightly, the rest no faster",
    "unsafe": "stored sparsely, the file would be computed wrongly on ARM and in "
    "WebAssembly",
}


def rendered(report: "TFLiteReport") -> str:
    """Sizes, weights, what was left dense and why, agreement and latency."""
    lines = [
        f"{report.path} ({report.quantize or 'float32'})",
        *_table(_size_rows(report)),
        "",
        *_table(_weight_rows(report)),
        "",
        *_storage_lines(report),
        "",
        *_table(_agreement_rows(report)),
        f"compared on {report.outputs[0].samples} samples ({report.samples}), "
        f"allowed relative difference {report.tolerance:g}",
    ]
    if report.latency is not None:
        lines += [
            "",
            f"latency, one thread, median of {report.latency.runs}: "
            f"{report.latency.exported_ms:.3f} ms, "
            f"dense {report.latency.dense_ms:.3f} ms",
            _SPARSE_LATENCY_NOTE if report.storage.encoded else _LATENCY_NOTE,
        ]
    return "\n".join(lines)


def _storage_lines(report: "TFLiteReport") -> Iterator[str]:
    storage = report.storage
    stored = f"{storage.encoded} of {len(report.weights)} weights are stored sparsely"
    yield f"{stored}: {storage.refusal}" if storage.refusal else stored
    reasons = {each.left_dense for each in report.weights}
    for reason in sorted(reasons - {"", storage.refusal}):
        names = [_shortened(x.name) for x in report.weights if x.left_dense == reason]
        yield f"left dense: {', '.join(names)}: {reason}"
    if storage.verdict is not None:
        yield from _verdict_lines(storage, storage.verdict)
    if storage.encoded and report.gzip_bytes > storage.dense_gzip_bytes:
        yield "compressed it is smaller with sparse=False: take that for downloads"


def _verdict_lines(storage: Storage, verdict: SparseInferenceReport) -> Iterator[str]:
    meaning = _VERDICTS[verdict.verdict]
    if verdict.verdict == "eligible" and not storage.encoded:
        meaning = "stored sparsely, " + meaning
    yield f"{verdict.verdict}: {meaning}"
    yield from (f"  - {finding}" for finding in verdict.findings)


def _size_rows(report: "TFLiteReport") -> list[list[str]]:
    return [
        ["bytes", "raw", f"gzip -{GZIP_LEVEL}"],
        ["this file", f"{report.raw_bytes:,}", f"{report.gzip_bytes:,}"],
        *_stored_densely(report),
        [
            f"dense ({report.dense_reference})",
            f"{report.dense_raw_bytes:,}",
            f"{report.dense_gzip_bytes:,}",
        ],
    ]


def _stored_densely(report: "TFLiteReport") -> list[list[str]]:
    storage = report.storage
    if not storage.encoded:
        return []  # that is this file
    raw, gzipped = storage.dense_raw_bytes, storage.dense_gzip_bytes
    return [["the same, stored densely", f"{raw:,}", f"{gzipped:,}"]]


def _weight_rows(report: "TFLiteReport") -> list[list[str]]:
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


def _agreement_rows(report: "TFLiteReport") -> list[list[str]]:
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
