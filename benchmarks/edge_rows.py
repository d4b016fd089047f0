"""One row of the tables: what is written as JSON, and read again."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.edge_measure import Measurement, Speed


@dataclass(frozen=True)
class Row:
    """Of one file, what the tables, the goals and the picture need.

    Args:
        net: the net.
        variant: what was made of it.
        precision: `"float32"`, `"float16"` or `"int8"`.
        stored: `"sparse"` or `"dense"`.
        verdict: whether sparse kernels would take it; `"–"` where none could.
        blocks: whether weights are stored by blocks, whose kernels add in another
            order.
        macs: multiply-accumulates with dense kernels.
        nonzero_macs: those with weights that are not zero.
        raw_bytes, gzip_bytes: its size.
        dense_raw_bytes, dense_gzip_bytes: that of the same weights stored densely.
        native, browser: its speed; `None` where the browser did not run it.
        keras_difference: of its outputs from the Keras model's.
        twin_difference: from those of the dense file of the same weights; `None` if it
            is dense itself.
        twin_identical: whether these are the same to the bit; `None` if it is dense
            itself, or if the results were written before bytes were compared.
        browser_difference: of the browser's outputs from the dense file's native ones.
        browser_error: why the browser did not run it, or `""`.
    """

    net: str
    variant: str
    precision: str
    stored: str
    verdict: str
    blocks: bool
    macs: int
    nonzero_macs: int
    raw_bytes: int
    gzip_bytes: int
    dense_raw_bytes: int
    dense_gzip_bytes: int
    native: Speed
    browser: Speed | None
    keras_difference: float
    twin_difference: float | None
    twin_identical: bool | None
    browser_difference: float | None
    browser_error: str

    @property
    def name(self) -> str:
        return f"{self.net}, {self.variant}, {self.precision}"


def row(each: Measurement) -> Row:
    """The row of a measurement."""
    file, report = each.file, each.file.report
    return Row(
        net=each.net,
        variant=file.variant,
        precision=file.precision,
        stored=file.stored,
        verdict=file.verdict,
        blocks=any(weight.storage == "block" for weight in report.weights),
        macs=file.macs,
        nonzero_macs=file.nonzero_macs,
        raw_bytes=report.raw_bytes,
        gzip_bytes=file.gzip_bytes,
        dense_raw_bytes=report.storage.dense_raw_bytes,
        dense_gzip_bytes=report.storage.dense_gzip_bytes,
        native=each.native,
        browser=each.browser,
        keras_difference=report.relative_difference,
        twin_difference=each.twin_difference,
        twin_identical=each.twin_identical,
        browser_difference=each.browser_difference,
        browser_error=each.browser_error,
    )


def as_json(rows: Sequence[Row], goals: Sequence[Any], made: dict[str, Any]) -> str:
    """Everything as JSON; `null` stands for what is not a finite number."""
    found = {
        **made,
        "goals": [asdict(goal) for goal in goals],
        "files": [asdict(each) for each in rows],
    }
    return json.dumps(_finite(found), indent=1) + "\n"


def read(path: Path) -> tuple[list[Row], dict[str, Any]]:
    """The rows of a file that `as_json` made, and on what they were measured.

    Raises:
        ValueError: the file is missing, or is no results of `benchmarks.edge`.
    """
    try:
        made = json.loads(path.read_text())
        del made["goals"]
        return [_row(each) for each in made.pop("files")], made
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"expected the JSON that `python -m benchmarks.edge` writes, received "
            f"{path}: {type(error).__name__}: {error}"
        ) from error


def _row(found: dict[str, Any]) -> Row:
    """Undoes what JSON can't hold: a difference is `null` where it is infinite."""
    given = dict(found)
    given["native"] = _speed(given["native"])
    given["browser"] = given["browser"] and _speed(given["browser"])
    # The first results, of 2026-11-22, have neither field; there only nets that were
    # pruned by blocks are stored by blocks.
    given.setdefault("blocks", given["variant"].startswith("block"))
    given.setdefault("twin_identical", None)
    compared = {
        "keras_difference": True,
        "twin_difference": given["stored"] == "sparse",
        "browser_difference": given["browser"] is not None,
    }
    for name, was in compared.items():
        if was and given[name] is None:
            given[name] = math.inf
    return Row(**given)


def _speed(found: dict[str, float | None]) -> Speed:
    numbers = {key: math.nan if v is None else v for key, v in found.items()}
    return Speed(**numbers)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
