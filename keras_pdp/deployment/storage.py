"""Whether an export is stored sparsely: what was tried, and why it was taken or not."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from keras_pdp.deployment.agreement import compare
from keras_pdp.deployment.gzipped import gzipped_size
from keras_pdp.deployment.sparse_encoding import Array
from keras_pdp.deployment.sparse_inference import SparseInferenceReport, judged
from keras_pdp.deployment.sparse_writer import SparseFile, sparsely_stored
from keras_pdp.deployment.verification import ExportError, loaded, run

Sparse: TypeAlias = Literal["auto"] | bool
Outputs: TypeAlias = Mapping[str, Array]

_UNSAFE = "ARM phones and browsers would compute the sparse file wrongly"


@dataclass(frozen=True)
class Storage:
    """How the weights of an export are stored, and why.

    Args:
        requested: the argument `sparse` of `to_tflite`.
        encoded: how many weights are stored sparsely.
        dense_raw_bytes: size of the file with the same values, all stored densely.
        dense_gzip_bytes: its size gzipped.
        verdict: what sparse kernels would make of the file if it is, or if it were,
            stored sparsely; `None` if nothing in it can be.
        refusal: why the whole file is dense where parts could be sparse; else `""`.
    """

    requested: Sparse
    encoded: int
    dense_raw_bytes: int
    dense_gzip_bytes: int
    verdict: SparseInferenceReport | None
    refusal: str

    def to_dict(self) -> dict[str, Any]:
        """All fields, ready for `json.dump`."""
        verdict = None if self.verdict is None else self.verdict.to_dict()
        return vars(self) | {"verdict": verdict}


@dataclass(frozen=True, eq=False)
class StoredFile:
    """A file to be written.

    Args:
        data: its bytes.
        outputs: what it computes from the samples.
        left_dense: `{number of the buffer: reason}` of the weights that hold zeros and
            are stored densely.
        storage: how it is stored, and why.
    """

    data: bytes = field(repr=False)
    outputs: Outputs = field(repr=False)
    left_dense: Mapping[int, str]
    storage: Storage


def check_sparse(sparse: object, quantize: str | None) -> None:
    """Raises `ValueError` for an argument `sparse` that can't be met."""
    if not (isinstance(sparse, bool) or sparse == "auto"):
        raise ValueError(f"sparse: expected 'auto', True or False, received {sparse!r}")
    if sparse is True and quantize == "dynamic":
        raise ValueError(
            "sparse=True: with quantize='dynamic' files with sparse weights do not "
            "load. Use another precision, or sparse='auto', which leaves them dense"
        )


def stored(
    dense: bytes, outputs: Outputs, compared: Mapping[str, Array], sparse: Sparse
) -> StoredFile:
    """The file to be written: sparse if that is wanted, smaller and right.

    Args:
        dense: a dense .tflite file.
        outputs: what it computes from `compared`.
        compared: samples, by input name.
        sparse: as in `to_tflite`.

    Returns:
        The sparse file, or the dense one with the reasons.

    Raises:
        ExportError: `sparse` is True and the file would be dense.
    """
    attempts = []
    for file in _candidates(dense):
        attempt = _attempt(file, outputs, compared, sparse)
        if not attempt.refusal:
            return _written(attempt, dense, sparse)
        attempts.append(attempt)
    return _left_dense(attempts[0], dense, outputs, sparse)


@dataclass(frozen=True, eq=False)
class _Attempt:
    """A way to store the file, what it computes, and why it is not taken, or `""`."""

    file: SparseFile
    verdict: SparseInferenceReport | None
    outputs: Outputs
    refusal: str


def _candidates(dense: bytes) -> Iterator[SparseFile]:
    """The ways to store a file sparsely, the best one first."""
    best = sparsely_stored(dense)
    yield best
    if best.tolerance:  # has blocks
        yield sparsely_stored(dense, kernels={})


def _attempt(
    file: SparseFile, expected: Outputs, compared: Mapping[str, Array], sparse: Sparse
) -> _Attempt:
    if not file.encoded:
        return _Attempt(file, None, expected, "nothing in it can be stored sparsely")
    verdict = judged(file.data)
    if sparse is False:
        return _Attempt(file, verdict, expected, "sparse=False")
    if verdict.verdict == "unsafe":
        return _Attempt(file, verdict, expected, _UNSAFE)
    try:
        received = run(loaded(file.data), compared)
    except ExportError as error:
        return _Attempt(file, verdict, expected, str(error))
    return _Attempt(file, verdict, received, _difference(file, expected, received))


def _difference(file: SparseFile, expected: Outputs, received: Outputs) -> str:
    """Where a sparse file computes something else than the dense one, or `""`."""
    for name, values in expected.items():
        if file.tolerance:
            found = compare(name, values, received[name])
            same = found.relative_difference <= file.tolerance and not found.broken
        else:
            same = values.tobytes() == received[name].tobytes()
        if not same:
            return f"output {name!r} of the sparse file differs from the dense file's"
    return ""


def _written(attempt: _Attempt, dense: bytes, sparse: Sparse) -> StoredFile:
    file = attempt.file
    storage = Storage(
        requested=sparse,
        encoded=len(file.encoded),
        dense_raw_bytes=len(dense),
        dense_gzip_bytes=gzipped_size(dense),
        verdict=attempt.verdict,
        refusal="",
    )
    return StoredFile(file.data, attempt.outputs, file.left_dense, storage)


def _left_dense(
    attempt: _Attempt, dense: bytes, outputs: Outputs, sparse: Sparse
) -> StoredFile:
    reasons = attempt.file.left_dense | dict.fromkeys(
        attempt.file.encoded, attempt.refusal
    )
    if sparse is True:
        raise ExportError(_explained(attempt))
    storage = Storage(
        requested=sparse,
        encoded=0,
        dense_raw_bytes=len(dense),
        dense_gzip_bytes=gzipped_size(dense),
        verdict=attempt.verdict,
        refusal=attempt.refusal,
    )
    return StoredFile(dense, outputs, reasons, storage)


def _explained(attempt: _Attempt) -> str:
    """Why no sparse file was written, for a person who asked for one."""
    details: Iterable[object] = dict.fromkeys(attempt.file.left_dense.values())
    if attempt.verdict is not None and attempt.verdict.verdict == "unsafe":
        details = attempt.verdict.findings
    elif attempt.verdict is not None:
        details = ()
    lines = [f"sparse=True: {attempt.refusal}; no file was written", *details]
    return "\n  - ".join(map(str, lines))
