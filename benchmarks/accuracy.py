"""Accuracy of pruned nets, ours beside the peers': one table, in resumable pieces.

    python benchmarks/accuracy.py                   runs every piece that is not there
    python benchmarks/accuracy.py --list            says which are there, and which not
    python benchmarks/accuracy.py --table           makes the table from the pieces
    python benchmarks/accuracy.py --digest          a row a net, and who is first
    python benchmarks/accuracy.py --plot            makes the picture
    python benchmarks/accuracy.py --short --case lenet --seeds 0    minutes, no results

A piece is one training: of a case, by a method, to a target, from a seed. It runs in a
process of its own and adds one line to benchmarks/results/accuracy/CASE.jsonl. What is
there is not run again, whatever killed the last run. Pieces come by seed, so that what
there is can be looked at early; LeNet takes about 40 seconds a piece on one core.

All methods start from the same weights and see the same batches in the same order for
the same number of epochs, with the same optimizer. tfmot runs on the same net in Keras
2 (`pip install 'keras_pdp[peers]'`); PQuantML in a Python of its own, where its pins
ask for that: `--python pquant=/path/to/python`.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a file, from anywhere

from benchmarks import accuracy_store as store
from benchmarks.accuracy_cases import CASES, Case
from benchmarks.accuracy_piece import METHODS, configuration, prepared
from benchmarks.accuracy_store import Piece, Record
from benchmarks.accuracy_targets import DENSE, TARGETS, Target, target

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
WORK = ROOT / "out" / "accuracy"
THREADS = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")


@dataclass(frozen=True)
class Run:
    """What is asked for.

    Args:
        cases, methods, targets, seeds: whose pieces.
        short: every step, no good numbers.
        threads: of one piece.
        pythons: interpreters by method, where they are not this one.
        work: the folder for data and initial weights.
        results: the folder for the pieces' results.
    """

    cases: Sequence[Case]
    methods: Sequence[str]
    targets: Sequence[Target]
    seeds: Sequence[int]
    short: bool
    threads: int
    pythons: dict[str, str]
    work: Path
    results: Path

    def pieces(self) -> Iterator[tuple[Piece, Case]]:
        """In the order in which they run: by case, by seed, by target."""
        for case in self.cases:
            for seed in self.seeds:
                for aim in (DENSE, *self.targets):
                    for method in self.methods:
                        if (method == "dense") == (aim == DENSE):
                            yield Piece(case.name, method, aim, seed), case

    def record(self, piece: Piece, case: Case) -> Record | None:
        """What is known of a piece, in today's configuration."""
        known = store.read(self.results, case.name)
        settled = configuration(case, METHODS[piece.method], piece.target)
        return store.find(known, piece, settled)


def run(asked: Run) -> int:
    """Runs what is not there; how many pieces failed."""
    failed = 0
    missing = [(p, c) for p, c in asked.pieces() if asked.record(p, c) is None]
    for number, (piece, case) in enumerate(missing, start=1):
        if not _succeeds(asked, piece, case):
            failed += 1
        outcome = _outcome(asked.record(piece, case))
        print(f"{number}/{len(missing)} {piece}: {outcome}", flush=True)
    return failed


def _succeeds(asked: Run, piece: Piece, case: Case) -> bool:
    """Whether a process of its own ran the piece."""
    if not prepared(case, piece.seed, asked.work):
        _call(asked, sys.executable, "prepare", piece, {})
    python = asked.pythons.get(piece.method, sys.executable)
    return _call(asked, python, "run", piece, METHODS[piece.method].environment)


def _call(
    asked: Run, python: str, what: str, piece: Piece, environment: dict[str, str]
) -> bool:
    command = [python, "-m", "benchmarks.accuracy_piece", what]
    command += [json.dumps(piece.as_json()), str(asked.work), str(asked.results)]
    command += ["--short"] if asked.short else []
    threads = dict.fromkeys(THREADS, str(asked.threads))
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **threads, **environment}
    )
    return done.returncode == 0


def _outcome(record: Record | None) -> str:
    if record is None:
        return "not run"
    if "refused" in record:
        return f"refused: {record['refused']}"
    return (
        f"{record['test_accuracy']:.2%} at {record['sparsity']:.2%} zeros, "
        f"{record['cpu_seconds']:.0f} s"
    )


def main() -> None:
    arguments = _arguments()
    short = arguments.work / "short"
    asked = Run(
        [c.short() if arguments.short else c for c in arguments.case],
        arguments.method,
        arguments.targets,
        arguments.seeds,
        arguments.short,
        arguments.threads,
        dict(arguments.python),
        arguments.work,
        arguments.results or (short if arguments.short else RESULTS) / "accuracy",
    )
    if arguments.list:
        for piece, case in asked.pieces():
            print(f"{piece}: {_outcome(asked.record(piece, case))}")
    elif arguments.table or arguments.digest or arguments.plot:
        _report(asked, arguments)
    elif failed := run(asked):
        sys.exit(f"{failed} pieces failed: see above")


def _report(asked: Run, wanted: argparse.Namespace) -> None:
    from benchmarks.accuracy_digest import digest
    from benchmarks.accuracy_report import markdown

    found: dict[Case, list[Record]] = {case: [] for case in asked.cases}
    for piece, case in asked.pieces():
        if record := asked.record(piece, case):
            found[case].append(record)
    path = asked.results.parent / asked.results.name
    methods = {name: METHODS[name] for name in asked.methods}
    if wanted.table:
        text = markdown(found, methods)
        path.with_suffix(".md").write_text(text)
        print(text)
    if wanted.digest:
        print(digest(found, methods))
    if wanted.plot:
        from benchmarks.accuracy_picture import draw

        try:
            draw(found, METHODS, path.with_suffix(".png"))
        except ValueError as error:
            sys.exit(str(error))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks/accuracy.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--case",
        type=_case,
        nargs="+",
        default=list(CASES.values()),
        help=f"of {', '.join(CASES)}; default: all",
    )
    parser.add_argument(
        "--method",
        choices=METHODS,
        nargs="+",
        default=list(METHODS),
        metavar="METHOD",
        help=f"of {', '.join(METHODS)}; default: all",
    )
    parser.add_argument(
        "--targets",
        type=target,
        nargs="+",
        default=list(TARGETS),
        help=f"of {', '.join(map(str, TARGETS))}; default: all",
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1, help="default: 1")
    parser.add_argument(
        "--python", type=_pair, action="append", default=[], metavar="METHOD=PATH"
    )
    parser.add_argument("--work", type=Path, default=WORK, help="default: out/accuracy")
    parser.add_argument(
        "--results",
        type=Path,
        metavar="FOLDER",
        help="default: benchmarks/results/accuracy; with --short, in the work folder",
    )
    for flag in ("--short", "--list", "--table", "--digest", "--plot"):
        parser.add_argument(flag, action="store_true")
    return parser.parse_args()


def _case(name: str) -> Case:
    if name not in CASES:
        raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(CASES)}")
    return CASES[name]


def _pair(text: str) -> tuple[str, str]:
    method, _, path = text.partition("=")
    if method not in METHODS or not path:
        raise argparse.ArgumentTypeError(
            f"expected METHOD=PATH with a method of {', '.join(METHODS)}, received "
            f"{text!r}"
        )
    return method, path


if __name__ == "__main__":
    main()
