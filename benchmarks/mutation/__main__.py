"""Puts every small fault into keras_pdp/sparsity and runs the tests that reach it.

    python -m benchmarks.mutation                 half an hour on two cores
    python -m benchmarks.mutation threshold mask  two files of it

A mutant that no test notices is a survivor, and has its reason in explained.json: what
it computes is the same, or is seen elsewhere only. The run ends with an error when one
has none. First on Keras's numpy backend, which is quick; what survives there is tried
again on PyTorch, which has gradients. Writes benchmarks/results/mutation.md and .json
when all files are run. The wording of error messages, types, docstrings and decorators
are left alone.
"""

import argparse
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
        return _told(json.loads(place.read_text()), whole=not arguments.modules)


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


def _told(state: dict[str, Any], whole: bool) -> int:
    explained: dict[str, str] = json.loads((HERE / "explained.json").read_text())
    survivors = {name: explained.get(name, "") for name in state["survivors"]}
    result = {
        "versions": {n: importlib.metadata.version(n) for n in ("keras", "torch")},
        "tried": state["tried"],
        "survivors": survivors,
    }
    text = _table(result)
    print(text)
    if whole:
        (RESULTS / "mutation.json").write_text(json.dumps(result, indent=1) + "\n")
        (RESULTS / "mutation.md").write_text(text)
        for name in sorted(set(explained) - set(survivors)):
            print(f"explained, and does not survive: {name}")
    missing = [name for name, reason in survivors.items() if not reason]
    for name in missing:
        print(f"survives without a reason: {name}")
    return 1 if missing else 0


def _table(result: dict[str, Any]) -> str:
    tried, survivors = result["tried"], result["survivors"]
    of = Counter(name.split(":")[0].split(".")[0] for name in survivors)
    lines = [
        "# Mutants of keras_pdp/sparsity",
        "",
        "Made by `python -m benchmarks.mutation`, with "
        + ", ".join(f"{n} {v}" for n, v in result["versions"].items())
        + ".",
        "",
        "| file | mutants | noticed | survive |",
        "|---|---|---|---|",
    ]
    for module, count in tried.items():
        rest = of[module]
        lines.append(f"| {module}.py | {count} | {count - rest} | {rest} |")
    total, rest = sum(tried.values()), len(survivors)
    lines += [f"| all | {total} | {total - rest} | {rest} |", ""]
    lines += ["## Survivors", ""]
    lines += [f"* `{name}`: {reason}" for name, reason in survivors.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
