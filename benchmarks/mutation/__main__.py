"""Puts every small fault into keras_pdp/sparsity and runs the tests that reach it.

    python -m benchmarks.mutation                 all files; more than an hour
    python -m benchmarks.mutation threshold mask  two of them

A mutant that no test notices is a survivor, and has its reason in explained.json: what
it computes is the same, or is seen elsewhere only. The run ends with an error when one
has none. First on Keras's numpy backend, which is quick; what survives there is tried
again on PyTorch, which has gradients. The results of a file are kept in
benchmarks/results/mutation.json, and shown in mutation.md, for as long as the file and
the tests of the mathematics stay as they are. The wording of error messages, types,
docstrings and decorators are left alone.
"""

import argparse
import hashlib
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RESULTS = ROOT / "benchmarks" / "results"
BACKENDS = ("numpy", "torch")


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("modules", nargs="*", help="files of it, such as `mask`")
    parser.add_argument("--survivors", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.survivors:
        return _one_backend(arguments.modules, arguments.survivors)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "survivors.json"
        for backend in BACKENDS:
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.mutation", "--survivors", place]
                + arguments.modules,
                env={**os.environ, "KERAS_BACKEND": backend, "OMP_NUM_THREADS": "1"},
                cwd=ROOT,
            )
            if done.returncode:
                return done.returncode
        return _told(json.loads(place.read_text()))


def _one_backend(modules: list[str], place: Path) -> int:
    """Tries the mutants that are left, and leaves those that survive again."""
    import pytest

    from benchmarks.mutation.mutants import mutants
    from benchmarks.mutation.session import PACKAGE, Session, test_files

    paths = [path for path in sorted(PACKAGE.glob("*.py")) if path.stem[0] != "_"]
    chosen = [path for path in paths if not modules or path.stem in modules]
    faults = [fault for path in chosen for fault in mutants(path)]
    state: dict[str, Any] = {
        "tried": Counter(fault.module for fault in faults),
        "survivors": [fault.name for fault in faults],
    }
    if place.exists():
        state = json.loads(place.read_text())
    left = [fault for fault in faults if fault.name in set(state["survivors"])]
    survivors: list[str] = []

    def report(fault: Any, noticed: bool) -> None:
        if not noticed:
            survivors.append(fault.name)
            os.write(2, f"survives: line {fault.line}, {fault.name}\n".encode())

    options = ["-q", "-p", "no:cacheprovider", *test_files()]
    code = pytest.main(options, plugins=[Session(left, report)])
    place.write_text(json.dumps({"tried": state["tried"], "survivors": survivors}))
    return int(code)


def _told(state: dict[str, Any]) -> int:
    """Adds what was found to what earlier runs found in files that are as they were."""
    from benchmarks.mutation.session import PACKAGE, test_files

    tests = [Path(path) for path in test_files()]
    now = {
        path.stem: _digest([path, *tests, HERE / "mutants.py"])
        for path in sorted(PACKAGE.glob("*.py"))
        if path.stem[0] != "_"
    }
    place = RESULTS / "mutation.json"
    kept: dict[str, Any] = json.loads(place.read_text()) if place.exists() else {}
    results = {name: old for name, old in kept.items() if old["of"] == now.get(name)}
    versions = {n: importlib.metadata.version(n) for n in ("keras", "torch")}
    for name, count in state["tried"].items():
        found = [each for each in state["survivors"] if _file(each) == name]
        results[name] = {
            "of": now[name],
            "versions": versions,
            "tried": count,
            "survivors": found,
        }
    explained: dict[str, str] = json.loads((HERE / "explained.json").read_text())
    text = _table({name: results.get(name) for name in now}, explained)
    print(text)
    place.write_text(json.dumps(dict(sorted(results.items())), indent=1) + "\n")
    (RESULTS / "mutation.md").write_text(text)
    survivors = [each for result in results.values() for each in result["survivors"]]
    for name in sorted(set(explained) - set(survivors)):
        if _file(name) in results:
            print(f"explained, and does not survive: {name}")
    missing = [name for name in survivors if not explained.get(name)]
    for name in missing:
        print(f"survives without a reason: {name}")
    return 1 if missing or len(results) < len(now) else 0


def _digest(paths: list[Path]) -> str:
    content = b"".join(path.read_bytes() for path in paths)
    return hashlib.sha256(content).hexdigest()[:16]


def _file(name: str) -> str:
    """The module of a mutant's name."""
    return name.split(":")[0].split(".")[0]


def _table(results: dict[str, Any], explained: dict[str, str]) -> str:
    lines = [
        "# Mutants of keras_pdp/sparsity",
        "",
        "Made by `python -m benchmarks.mutation`.",
        "",
        "| file | mutants | noticed | survive | with |",
        "|---|---|---|---|---|",
    ]
    for module, result in results.items():
        if result is None:
            lines.append(f"| {module}.py | not run since its last change | | | |")
            continue
        count, rest = result["tried"], len(result["survivors"])
        versions = ", ".join(f"{n} {v}" for n, v in result["versions"].items())
        lines.append(
            f"| {module}.py | {count} | {count - rest} | {rest} | {versions} |"
        )
    run = [result for result in results.values() if result]
    total, rest = (
        sum(result["tried"] for result in run),
        sum(len(result["survivors"]) for result in run),
    )
    lines += [f"| all | {total} | {total - rest} | {rest} | |", "", "## Survivors", ""]
    lines += [
        f"* `{name}`: {explained.get(name, 'not explained yet')}"
        for result in run
        for name in result["survivors"]
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
