"""Puts every small fault into keras_pdp/sparsity and runs the tests that reach it.

    python -m benchmarks.mutation                 all files; more than an hour
    python -m benchmarks.mutation threshold mask  two of them
    python -m benchmarks.mutation --again         with what earlier runs did too

A mutant that no test notices is a survivor, and has its reason in explained.json: what
it computes is the same, or is seen elsewhere only. The run ends with an error when one
has none. First on Keras's numpy backend, which is quick; what survives there is tried
again on PyTorch, which has gradients. The results of a file are kept in
benchmarks/results/mutation.json, and shown in mutation.md, for as long as the file
stays as it is; the next run tries only what survived, against the tests that there are
then. After a test was taken away or made weaker, use --again. The wording of error
messages, types, docstrings and decorators are left alone.
"""

import argparse
import hashlib
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RESULTS = ROOT / "benchmarks" / "results"
BACKENDS = ("numpy", "torch")


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("modules", nargs="*", help="files of it, such as `mask`")
    parser.add_argument("--again", action="store_true", help="forget earlier results")
    parser.add_argument("--survivors", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.survivors:
        return _one_backend(arguments.survivors)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "survivors.json"
        place.write_text(json.dumps(_to_try(arguments.modules, arguments.again)))
        for backend in BACKENDS:
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.mutation", "--survivors", place],
                env={**os.environ, "KERAS_BACKEND": backend, "OMP_NUM_THREADS": "1"},
                cwd=ROOT,
            )
            if done.returncode:
                return done.returncode
        return _told(json.loads(place.read_text()))


def _to_try(modules: list[str], again: bool) -> dict[str, Any]:
    """All mutants of the chosen files; of a file run before, those that survived."""
    from benchmarks.mutation.mutants import mutants

    kept = {} if again else _kept()
    tried: dict[str, int] = {}
    left: list[str] = []
    for path in _files():
        if modules and path.stem not in modules:
            continue
        before = kept.get(path.stem)
        names = [fault.name for fault in mutants(path)]
        tried[path.stem] = len(names)
        left += before["survivors"] if before else names
    return {"tried": tried, "survivors": left}


def _one_backend(place: Path) -> int:
    """Tries the mutants that are left, and leaves those that survive again."""
    import pytest

    from benchmarks.mutation.mutants import mutants
    from benchmarks.mutation.session import Session, test_files

    state = json.loads(place.read_text())
    wanted = set(state["survivors"])
    faults = [fault for path in _files() for fault in mutants(path)]
    left = [fault for fault in faults if fault.name in wanted]
    if not left:
        return 0
    survivors: list[str] = []
    count = 0

    def report(fault: Any, noticed: bool) -> None:
        nonlocal count
        count += 1
        if not noticed:
            survivors.append(fault.name)
            told = f"{count} of {len(left)}, survives: line {fault.line}, {fault.name}"
            os.write(2, f"{told}\n".encode())

    options = ["-q", "-p", "no:cacheprovider", *test_files()]
    code = pytest.main(options, plugins=[Session(left, report)])
    place.write_text(json.dumps({"tried": state["tried"], "survivors": survivors}))
    return int(code)


def _files() -> list[Path]:
    from benchmarks.mutation.session import PACKAGE

    return [path for path in sorted(PACKAGE.glob("*.py")) if path.stem[0] != "_"]


def _digests() -> dict[str, str]:
    """Of each file, with the rules that make its mutants."""
    rules = (HERE / "mutants.py").read_bytes()
    return {
        path.stem: hashlib.sha256(path.read_bytes() + rules).hexdigest()[:16]
        for path in _files()
    }


def _kept() -> dict[str, Any]:
    """Results of files that are as they were."""
    place, now = RESULTS / "mutation.json", _digests()
    kept: dict[str, Any] = json.loads(place.read_text()) if place.exists() else {}
    return {name: old for name, old in kept.items() if old["of"] == now.get(name)}


def _told(state: dict[str, Any]) -> int:
    """Adds what was found to what earlier runs found in files that are as they were."""
    now, results, place = _digests(), _kept(), RESULTS / "mutation.json"
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
