"""One piece of the accuracy benchmark, in a process of its own.

    python -m benchmarks.accuracy_piece run '{"case": …, "method": …}' WORK RESULTS
    python -m benchmarks.accuracy_piece prepare '{"case": …, "seed": …}' WORK

`benchmarks.accuracy` calls it. A process of its own, because tfmot makes `tf.keras`
another Keras for the whole process, and because PQuantML may need another Python.
"""

import argparse
import datetime
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from benchmarks import accuracy_store as store
from benchmarks.accuracy_cases import CASES, Case
from benchmarks.accuracy_data import Array
from benchmarks.accuracy_methods import WRAPPED, Dense, Method
from benchmarks.accuracy_peers import PQuant, Tfmot
from benchmarks.accuracy_store import Piece, Record
from benchmarks.accuracy_targets import Channels, Target
from benchmarks.accuracy_task import (
    Refused,
    Task,
    accuracy,
    read_weights,
    sparsity,
    train,
    write_weights,
)
from keras_pdp import shrink

METHODS: Mapping[str, Method] = {
    "dense": Dense(),
    "tfmot": Tfmot(),
    "pquant": PQuant(),
    **WRAPPED,
}
PACKAGES = (
    "keras",
    "tensorflow",
    "jax",
    "numpy",
    "tf_keras",
    "tensorflow-model-optimization",
    "pquant-ml",
)


def configuration(case: Case, method: Method, target: Target) -> dict[str, Any]:
    """What a piece's result depends on, beside the piece and the versions."""
    return {**case.configuration(), "method": method.settings(target)}


def prepare(case: Case, seed: int, work: Path) -> None:
    """Writes the data and the initial weights, where they are not there yet."""
    if not _data_file(case, work).exists():
        _save(_data_file(case, work), **case.data())
    if not _initial_file(case, seed, work).exists():
        keras.utils.set_random_seed(seed)
        initial = case.net(keras)
        if case.start is not None:
            initial.set_weights(case.start())
        _save(_initial_file(case, seed, work), *read_weights(initial))


def prepared(case: Case, seed: int, work: Path) -> bool:
    """Whether `prepare` has done that."""
    return _data_file(case, work).exists() and _initial_file(case, seed, work).exists()


def load(piece: Piece, case: Case, work: Path) -> Task:
    """The task of a piece, from what `prepare` wrote."""
    with np.load(_data_file(case, work)) as stored:
        data = case.cut(dict(stored))
    with np.load(_initial_file(case, piece.seed, work)) as stored:
        initial = [stored[f"arr_{number}"] for number in range(len(stored.files))]
    return Task(case, piece.target, piece.seed, data, initial)


def run(piece: Piece, task: Task) -> Record:
    """Trains and measures; a refusal is a result as well."""
    method = METHODS[piece.method]
    record: Record = {
        **piece.as_json(),
        "configuration": configuration(task.case, method, task.target),
        **circumstances(),
        "initial": _digest(task.initial),
    }
    try:
        trained = train(task, method.prepare(task))
    except Refused as reason:
        return {**record, "refused": str(reason)}
    except method.failures as error:
        return {**record, "refused": f"fails: {gist(error)}"}
    net = task.case.net(keras)
    write_weights(net, trained.weights)
    return {
        **record,
        "test_accuracy": accuracy(net, task.data.test),
        "validation_accuracy": accuracy(net, task.data.validation),
        "sparsity": sparsity(net),
        **_shrunk(net, task),
        "losses": trained.losses,
        "seconds": round(trained.seconds, 2),
        "cpu_seconds": round(trained.cpu_seconds, 2),
    }


def gist(error: Exception) -> str:
    """The cause in one line: Keras puts it among colours, callers and arguments."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    lines = [line.strip() for line in plain.splitlines()]
    around = "Exception encountered", "in user code", "Arguments received"
    told = [line for line in lines if line and not any(w in line for w in around)]
    causes = [line for line in told if re.match(r"\w+Error: .", line)]
    if causes:
        return causes[-1]
    return f"{type(error).__name__}: {told[0] if told else 'without a word'}"


def _shrunk(net: keras.Model, task: Task) -> Record:
    """What removing its channels takes from a net that was pruned by channels."""
    if not isinstance(task.target, Channels):
        return {}
    return {"removed": 1 - shrink(net).count_params() / net.count_params()}


def circumstances() -> Record:
    """When, where and with which versions a result was made."""
    return {
        "date": datetime.date.today().isoformat(),
        "python": platform.python_version(),
        "backend": keras.backend.backend(),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
        "commit": _commit(),
        "threads": os.environ.get("OMP_NUM_THREADS"),
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Of this repository, which decides the result of what is ours."""
    here = Path(__file__).parent
    command = ["git", "-C", str(here), "rev-parse", "--short=12", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout.strip() or None


def _digest(weights: list[Array]) -> str:
    together = hashlib.sha256()
    for each in weights:
        together.update(np.ascontiguousarray(each).tobytes())
    return together.hexdigest()[:16]


def _data_file(case: Case, work: Path) -> Path:
    return work / f"{case.data.__name__}.npz"


def _initial_file(case: Case, seed: int, work: Path) -> Path:
    return work / f"initial-{case.name}-{seed}.npz"


def _save(path: Path, *arrays: Array, **named: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.npz")
    np.savez(part, *arrays, **named)
    part.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("run", "prepare"))
    parser.add_argument("piece", type=json.loads)
    parser.add_argument("work", type=Path)
    parser.add_argument("results", type=Path, nargs="?")
    parser.add_argument("--short", action="store_true")
    given = parser.parse_args()
    case = CASES[given.piece["case"]]
    if given.short:
        case = case.short()
    if given.what == "prepare":
        prepare(case, given.piece["seed"], given.work)
        return
    piece = Piece.of(given.piece)
    lock = given.work / "locks" / f"{str(piece).replace(' ', '_')}.lock"
    with store.locked(lock, wait=False) as mine:
        known = store.read(given.results, piece.case)
        if not mine:
            print("another process is at it", flush=True)
        elif not store.find(
            known, piece, configuration(case, METHODS[piece.method], piece.target)
        ):
            record = run(piece, load(piece, case, given.work))
            store.add(given.results, record)


if __name__ == "__main__":
    main()
