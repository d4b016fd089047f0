"""The results of the accuracy benchmark: one line of JSON a piece, one file a case."""

import contextlib
import fcntl
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.accuracy_targets import Target, target

Record = dict[str, Any]


@dataclass(frozen=True)
class Piece:
    """One training: what is run once, in a process of its own.

    Args:
        case: its name.
        method: its name.
        target: what the net is pruned to.
        seed: of the initial weights and the order of the data.
    """

    case: str
    method: str
    target: Target
    seed: int

    def __str__(self) -> str:
        return f"{self.case} {self.method} {self.target} {self.seed}"

    def as_json(self) -> Record:
        return {**vars(self), "target": str(self.target)}

    @classmethod
    def of(cls, record: Record) -> "Piece":
        """The piece that a record is about."""
        return cls(
            record["case"], record["method"], target(record["target"]), record["seed"]
        )


def read(folder: Path, case: str) -> list[Record]:
    """All records of a case; none where it has no file yet.

    Raises:
        ValueError: a line is no record.
    """
    path = _path(folder, case)
    if not path.exists():
        return []
    records = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        try:
            record = json.loads(line)
            Piece.of(record)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"expected a record of the accuracy benchmark in line {number} of "
                f"{path}, received {line[:80]!r}; remove the line, and its piece is "
                "run again"
            ) from error
        records.append(record)
    return records


def add(folder: Path, record: Record) -> None:
    """Puts a record in its place, in the place of an older one of the same piece.

    Whoever is killed while he writes leaves what was there.
    """
    case = record["case"]
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / f".{case}.lock", wait=True):
        records = [each for each in read(folder, case) if not _replaces(record, each)]
        records = sorted([*records, record], key=_place)
        _write(
            _path(folder, case), "".join(f"{json.dumps(each)}\n" for each in records)
        )


def find(
    records: list[Record], piece: Piece, configuration: Mapping[str, Any]
) -> Record | None:
    """The record of a piece, if it was made in that configuration."""
    for each in records:
        if Piece.of(each) == piece and each["configuration"] == configuration:
            return each
    return None


@contextlib.contextmanager
def locked(path: Path, wait: bool) -> Iterator[bool]:
    """Whether the lock was had; it goes with the process that has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True


def _path(folder: Path, case: str) -> Path:
    return folder / f"{case}.jsonl"


def _replaces(new: Record, old: Record) -> bool:
    return Piece.of(old) == Piece.of(new) and (
        old["configuration"] == new["configuration"]
    )


def _place(record: Record) -> tuple[Any, ...]:
    return record["seed"], record["target"], record["method"], record["date"]


def _write(path: Path, text: str) -> None:
    with tempfile.NamedTemporaryFile(
        "w", dir=path.parent, prefix=".", suffix=".part", delete=False
    ) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part = Path(file.name)
    part.chmod(0o644)
    part.replace(path)
