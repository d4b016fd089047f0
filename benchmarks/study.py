"""The study behind the defaults: on training and validation data, never on the test's.

    python -m benchmarks.study                       runs every piece that is not there
    python -m benchmarks.study --case lenet --question schedule --targets 0.95
    python -m benchmarks.study --table               makes the tables from the pieces

A piece is one training, as in `benchmarks.accuracy`, whose cases and splits these are,
and adds one line to benchmarks/results/study/CASE.jsonl. All pieces of a call run in
one process, one after the other, on as many threads as TensorFlow is told
(OMP_NUM_THREADS, TF_NUM_INTRAOP_THREADS). STUDY.md says what was asked and what
followed from it.
"""

import argparse
import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

from benchmarks import accuracy_store as store
from benchmarks.accuracy_cases import Case
from benchmarks.accuracy_methods import Dense
from benchmarks.accuracy_piece import circumstances, load, prepare
from benchmarks.accuracy_store import Piece, Record
from benchmarks.accuracy_targets import DENSE, TARGETS, Weights, target
from benchmarks.accuracy_task import accuracy, sparsity, train, write_weights
from benchmarks.study_variants import (
    QUESTIONS,
    STUDIED,
    VARIANTS,
    Question,
)

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
WORK = ROOT / "out" / "accuracy"


def main() -> int:
    arguments = _arguments()
    folder = arguments.results
    if arguments.table:
        text = table(folder)
        folder.with_suffix(".md").write_text(text)
        print(text)
        return 0
    pieces = list(dict.fromkeys(_pieces(arguments)))  # two questions may share one
    missing = [each for each in pieces if _record(folder, each) is None]
    for number, piece in enumerate(missing, start=1):
        record = run(piece, arguments.work)
        store.add(folder, record)
        told = f"{record['validation_accuracy']:.2%}, {record['seconds']:.0f} s"
        print(f"{number}/{len(missing)} {piece}: {told}", flush=True)
    return 0


def _pieces(asked: argparse.Namespace) -> Iterator[Piece]:
    for case in asked.case:
        for seed in asked.seeds:
            yield Piece(case, "dense", DENSE, seed)
            for question in map(QUESTIONS.__getitem__, asked.question):
                for aim in asked.targets or question.run:
                    for name in question.variants:
                        if name in (asked.variant or question.variants):
                            yield Piece(case, name, aim, seed)


def _case(piece: Piece) -> Case:
    case = STUDIED[piece.case]
    return case if piece.method == "dense" else VARIANTS[piece.method].recipe(case)


def _configuration(piece: Piece) -> dict[str, Any]:
    method = Dense() if piece.method == "dense" else VARIANTS[piece.method]
    return {**_case(piece).configuration(), "method": method.settings(piece.target)}


def _record(folder: Path, piece: Piece) -> Record | None:
    return store.find(store.read(folder, piece.case), piece, _configuration(piece))


def run(piece: Piece, work: Path) -> Record:
    """Trains, and measures on the validation split."""
    keras.utils.clear_session()
    gc.collect()
    case = _case(piece)
    prepare(case, piece.seed, work)
    task = load(piece, case, work)
    method = Dense() if piece.method == "dense" else VARIANTS[piece.method]
    trained = train(task, method.prepare(task))
    net = case.net(keras)
    write_weights(net, trained.weights)
    return {
        **piece.as_json(),
        "configuration": _configuration(piece),
        **circumstances(),
        "validation_accuracy": accuracy(net, task.data.validation),
        "sparsity": sparsity(net),
        "losses": trained.losses,
        "seconds": round(trained.seconds, 2),
    }


# ---------------------------------------------------------------------------------
# The tables.


def table(folder: Path) -> str:
    """One table a question: variants beside cases and targets."""
    parts = [
        "# The study behind the defaults: validation accuracy\n",
        "Made by `python -m benchmarks.study --table` from `benchmarks/results/study`.",
        "Percent on the validation split, mean ± standard deviation over the seeds,",
        "whose number is in brackets; in parentheses the mean difference to the base,",
        "the first row after the dense net's, on the seeds that both have.\n",
    ]
    found = {name: _valid(folder, name) for name in STUDIED}
    for name, question in QUESTIONS.items():
        columns = [
            (case, str(aim))
            for case in STUDIED
            for aim in question.targets
            if any(
                r["method"] in question.variants and r["target"] == str(aim)
                for r in found[case]
            )
        ]
        if columns:
            parts += [f"## {name}\n", *_rows(question, columns, found), ""]
    return "\n".join(parts)


def _rows(
    question: Question,
    columns: list[tuple[str, str]],
    found: dict[str, list[Record]],
) -> Iterator[str]:
    heads = [f"{case}, {_head(aim)}" for case, aim in columns]
    yield "| | " + " | ".join(heads) + " |"
    yield "|---" * (len(columns) + 1) + "|"
    yield _row("dense", [_reached(found[c], "dense", "dense") for c, _ in columns], [])
    bases = [_reached(found[case], question.base, aim) for case, aim in columns]
    yield _row(VARIANTS[question.base].title, bases, [])
    for name, variant in question.variants.items():
        cells = [_reached(found[case], name, aim) for case, aim in columns]
        if any(cells) and name != question.base:
            yield _row(variant.title, cells, bases)


def _head(aim: str) -> str:
    asked = target(aim)
    return f"{asked.sparsity:.0%}" if isinstance(asked, Weights) else aim


def _row(
    title: str, cells: list[dict[int, float]], bases: list[dict[int, float]]
) -> str:
    beside: list[dict[int, float]] = bases or [{} for _ in cells]
    said = [_mean(cell, base) for cell, base in zip(cells, beside, strict=True)]
    return f"| {title} | " + " | ".join(said) + " |"


def _reached(records: list[Record], method: str, aim: str) -> dict[int, float]:
    """Percent of the validation split that are right, by seed."""
    return {
        record["seed"]: 100 * record["validation_accuracy"]
        for record in records
        if record["method"] == method and record["target"] == aim
    }


def _mean(cell: dict[int, float], base: dict[int, float]) -> str:
    if not cell:
        return ""
    values = list(cell.values())
    spread = f" ± {np.std(values, ddof=1):.2f}" if len(values) > 1 else ""
    shared = cell.keys() & base.keys()
    differences = [cell[seed] - base[seed] for seed in shared]
    beside = f" ({np.mean(differences):+.2f})" if differences else ""
    return f"{np.mean(values):.2f}{spread}{beside} [{len(values)}]"


def _valid(folder: Path, case: str) -> list[Record]:
    """The records of a case that were made in today's configuration."""
    known = VARIANTS.keys() | {"dense"}
    records = [r for r in store.read(folder, case) if r["method"] in known]
    return [r for r in records if r["configuration"] == _configuration(Piece.of(r))]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.study",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--case", choices=STUDIED, nargs="+", default=list(STUDIED))
    parser.add_argument(
        "--question", choices=QUESTIONS, nargs="+", default=list(QUESTIONS)
    )
    parser.add_argument(
        "--variant",
        choices=VARIANTS,
        nargs="+",
        metavar="VARIANT",
        help=f"of the questions, these alone: of {', '.join(VARIANTS)}",
    )
    parser.add_argument(
        "--targets",
        type=target,
        nargs="+",
        metavar="TARGET",
        help="instead of the questions' own, 0.95 0.98, channels-0.5, or 2:4 1:4: "
        f"of {', '.join(map(str, TARGETS))}",
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--work", type=Path, default=WORK, help="default: out/accuracy")
    parser.add_argument(
        "--results",
        type=Path,
        default=RESULTS / "study",
        help="default: benchmarks/results/study",
    )
    parser.add_argument("--table", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
