"""A pytest session that runs the tests of each mutant in a process of its own.

Everything is imported and collected once. A process is forked for each mutant, gets
the fault as the new code of one function, and runs the tests that reach the line, those
of its own file and the quick ones first, until one fails. A fault outside of functions
(a default value, a constant) is imported anew in its process.
"""

import ast
import functools
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings

from benchmarks.mutation.mutants import Mutant

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "keras_pdp" / "sparsity"
# A mutant that has not come to an end after so much more than its tests take without
# it counts as noticed.
SECONDS, TIMES = 30.0, 4.0

Line = tuple[str, int]


class Session:
    """A plugin that takes the place of pytest's loop.

    Args:
        mutants: The faults to try.
        report: Called with each fault and whether the tests noticed it.
    """

    def __init__(
        self, mutants: Sequence[Mutant], report: Callable[[Mutant, bool], None]
    ) -> None:
        self._mutants = mutants
        self._report = report
        self._failed = False

    def pytest_collection(self) -> None:
        # The same cases for every mutant, and no search for the smallest one.
        settings.register_profile(
            "mutation",
            settings.default,
            max_examples=15,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.explicit, Phase.generate),
        )
        settings.load_profile("mutation")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._failed = self._failed or report.failed

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        reached, seconds = self._baseline(session.items)
        running: dict[int, Mutant] = {}
        for mutant in self._mutants:
            lines = [f"{mutant.module}:{line}" for line in _statement(mutant)]
            found = {test for line in lines for test in reached.get(line, [])}
            own = {i for i in found if _is_own(session.items[i].path, mutant)}
            limit = SECONDS + TIMES * sum(seconds[i] for i in found)
            if not mutant.scope:  # all tests, and their collection
                limit = 2 * SECONDS + TIMES * sum(seconds.values())
            order = sorted(found, key=lambda i: (i not in own, seconds[i]))
            chosen = [session.items[i] for i in order]
            task = functools.partial(self._try, mutant, chosen)
            if len(running) == (os.cpu_count() or 1):
                self._wait(running)
            running[forked(task, limit)] = mutant
        while running:
            self._wait(running)
        return True

    def _wait(self, running: dict[int, Mutant]) -> None:
        """For the first that comes to an end; one that ends badly is noticed."""
        process, status = os.wait()
        self._report(running.pop(process), status != 0)

    def _try(self, mutant: Mutant, items: Sequence[pytest.Item]) -> bool:
        if not mutant.scope:
            return _fails_anew(mutant)
        swap(mutant)
        return self._any_fails(items)

    def _any_fails(self, items: Sequence[pytest.Item]) -> bool:
        for item in items:
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
            if self._failed:
                return True
        return False

    def _baseline(
        self, items: Sequence[pytest.Item]
    ) -> tuple[dict[str, list[int]], dict[int, float]]:
        """The tests that reach each line, and how long each takes, without a fault."""
        place = ROOT / ".mutation.json"

        def measure() -> bool:
            reached: dict[str, list[int]] = {}
            seconds = []
            for number, item in enumerate(items):
                lines: set[Line] = set()
                start = time.perf_counter()
                sys.settrace(_tracer(lines))
                failed = self._any_fails([item])
                sys.settrace(None)
                seconds.append(time.perf_counter() - start)
                if failed:
                    place.write_text(json.dumps(item.nodeid))
                    return False
                for module, line in lines:
                    reached.setdefault(f"{module}:{line}", []).append(number)
            place.write_text(json.dumps([reached, seconds]))
            return True

        _, status = os.waitpid(forked(measure, 3600.0), 0)
        content = json.loads(place.read_text())
        place.unlink()
        if not status:  # `measure` tells by False that a test has failed
            pytest.exit(f"fails without any fault: {content}", returncode=1)
        return content[0], dict(enumerate(content[1]))


def _statement(mutant: Mutant) -> range:
    """The lines of the statement that the fault is in, without those of its body."""
    tree = ast.parse((PACKAGE / f"{mutant.module}.py").read_text())
    around = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.stmt)
        and node.lineno <= mutant.line <= (node.end_lineno or node.lineno)
    ]
    inner = max(around, key=lambda node: node.lineno)
    body = getattr(inner, "body", None)
    end = body[0].lineno - 1 if body else inner.end_lineno or inner.lineno
    return range(inner.lineno, max(end, inner.lineno) + 1)


def forked(function: Callable[[], bool], seconds: float) -> int:
    """A process that computes the function, and ends well where it gives False."""
    process = os.fork()
    if process:
        return process
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    code = 1
    try:
        code = 1 if function() else 0
    finally:
        os._exit(code)


def swap(mutant: Mutant) -> None:
    """Gives the function its faulty code, wherever it is referred to already."""
    module = sys.modules[f"keras_pdp.sparsity.{mutant.module}"]
    code = compile(mutant.tree, str(module.__file__), "exec")
    _function(module, mutant.scope).__code__ = _code(code, mutant.scope)


def _function(module: ModuleType, scope: str) -> FunctionType:
    owner: Any = module
    *classes, name = scope.split(".")
    for each in classes:
        owner = getattr(owner, each)
    found = vars(owner)[name]
    for wrapped in ("fget", "__func__"):
        found = getattr(found, wrapped, found)
    assert isinstance(found, FunctionType), scope
    return found


def _code(code: CodeType, scope: str) -> CodeType:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            if constant.co_qualname == scope:
                return constant
            if scope.startswith(f"{constant.co_qualname}."):
                return _code(constant, scope)
    raise LookupError(scope)


def _tracer(lines: set[Line]) -> Any:
    folder = str(PACKAGE)

    def inside(frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line":
            lines.add((Path(frame.f_code.co_filename).stem, frame.f_lineno))
        return inside

    def entered(frame: FrameType, event: str, argument: Any) -> Any:
        return inside if frame.f_code.co_filename.startswith(folder) else None

    return entered


class _Faulty(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module with a fault in it."""

    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant
        self._name = f"keras_pdp.sparsity.{mutant.module}"

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name != self._name:
            return None
        place = str(PACKAGE / f"{self._mutant.module}.py")
        return importlib.util.spec_from_file_location(name, place, loader=self)

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self._mutant.tree, str(module.__file__), "exec"), vars(module))


def _fails_anew(mutant: Mutant) -> bool:
    for name in list(sys.modules):
        if name.split(".")[0] in ("keras_pdp", "tests", "conftest"):
            del sys.modules[name]
    sys.meta_path.insert(0, _Faulty(mutant))
    files = sorted(test_files(), key=lambda path: not _is_own(Path(path), mutant))
    return pytest.main(["-x", "-q", "-p", "no:cacheprovider", *files]) != 0


def _is_own(tests: Path, mutant: Mutant) -> bool:
    """Whether these are the tests of the module that the fault is in."""
    return tests.stem == f"test_{mutant.module}"


def test_files() -> list[str]:
    """The tests of the mathematics, but for those that start other backends."""
    folder = ROOT / "tests" / "sparsity"
    found = sorted(folder.glob("test_*.py"))
    return [str(path) for path in found if path.name != "test_backends.py"]
