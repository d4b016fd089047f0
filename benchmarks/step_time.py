"""What a training step costs: dense, wrapped, and with the peers' pruning.

    python benchmarks/step_time.py            all nets, graph and XLA; writes results
    python benchmarks/step_time.py --resume   goes on with a run that was interrupted
    python benchmarks/step_time.py --plot     the table and the picture of its results
    python benchmarks/step_time.py --short    two small nets; minutes, writes nothing
    python benchmarks/step_time.py --net mlp --jit    one net, XLA; writes nothing

Each framework's trainings take their steps in turn in one process, so that whatever
else the machine does falls on all of them; what counts is the ratio of the medians to
the dense training's. Time to the first step and memory are measured in a process of its
own for each training.

tfmot runs on the same nets in Keras 2, PQuantML in a Python of its own where its pins
ask for that (`pip install 'keras_pdp[peers]'`; `--python pquant=/path/to/python`). One
that is not there, or can't do something, has the reason in its cell. The XLA steps of
large convolution nets are very slow on a processor: the full run leaves them out.
"""

import argparse
import datetime
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a file, from anywhere

from benchmarks.step_time_frameworks import FRAMEWORKS
from benchmarks.step_time_nets import NETS, SHORT, Net
from benchmarks.step_time_process import circumstances
from benchmarks.step_time_report import MODES, Record, markdown

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
MINUTES = 20  # for one process


class Failed(Exception):
    """A process ended without a result; says why."""


@dataclass(frozen=True)
class Case:
    """What is measured together: a net in a mode, by one framework's trainings.

    Args:
        net: the net.
        mode: of `MODES`.
        framework: of `FRAMEWORKS`.
    """

    net: Net
    mode: str
    framework: str

    def __str__(self) -> str:
        return f"{self.net.name}, {self.mode}, {self.framework}"

    @property
    def key(self) -> Record:
        """By which its record is found."""
        return {"net": self.net.name, "mode": self.mode, "framework": self.framework}

    def is_in(self, records: Iterable[Record]) -> bool:
        """Whether it has been measured."""
        return any(self.key.items() <= record.items() for record in records)


@dataclass(frozen=True)
class Processes:
    """How processes are started.

    Args:
        pythons: interpreters by framework, where they are not this one.
        options: for all of them.
    """

    pythons: dict[str, str]
    options: tuple[str, ...] = ()

    def measure(self, case: Case) -> Record:
        """The record of a case; of a peer's that fails, with the reason.

        Raises:
            Failed: a training of ours failed.
        """
        record = {**case.key, "date": datetime.date.today().isoformat()}
        try:
            return {**record, **self._run(case)}
        except Failed as reason:
            framework = FRAMEWORKS[case.framework]
            if not framework.peer:
                raise
            told = {"reason": str(reason)}
            rows = [{"variant": name, **told} for name in framework.variants]
            return {**record, **circumstances(), "rows": rows}

    def _run(self, case: Case) -> dict[str, Any]:
        python = self.pythons.get(case.framework, sys.executable)
        command = [python, "-m", "benchmarks.step_time_process", case.framework]
        command += [case.net.name, *self.options]
        command += ["--jit"] if MODES[case.mode] else []
        environment = {**os.environ, **FRAMEWORKS[case.framework].environment}
        try:
            done = subprocess.run(
                command,
                cwd=ROOT,
                env=environment,
                capture_output=True,
                text=True,
                timeout=60 * MINUTES,
            )
        except (subprocess.TimeoutExpired, OSError) as error:
            raise Failed(f"does not run: {error}") from error
        if done.returncode:
            print(done.stderr[-3000:], file=sys.stderr)
            last = (done.stderr.strip().splitlines() or [""])[-1]
            raise Failed(f"ends with status {done.returncode}: {last}")
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found


def cases(nets: Iterable[Net], modes: Iterable[str], slow: bool) -> Iterator[Case]:
    """In the order in which they run.

    Args:
        nets: which nets.
        modes: which of `MODES`.
        slow: whether those that a full run leaves out are among them.
    """
    for net in nets:
        for mode in modes:
            if slow or mode != "XLA" or not net.no_xla:
                yield from (Case(net, mode, framework) for framework in FRAMEWORKS)


def main() -> None:
    given = _arguments()
    full = not (given.net or given.short or given.jit or given.steps)
    if (given.resume or given.plot) and not full:
        sys.exit("expected --resume, --plot without --net, --short, --jit and --steps")
    if given.plot:
        _plot()
        return
    table = SHORT if given.short else NETS
    nets = [table[given.net]] if given.net else list(table.values())
    modes = list(MODES) if full else ["XLA" if given.jit else "graph"]
    options = ["--short"] if given.short else []
    options += ["--steps", str(given.steps)] if given.steps else []
    processes = Processes(dict(given.python), tuple(options))
    records = _stored() if given.resume else []
    failed = 0
    for case in cases(nets, modes, slow=bool(given.net)):
        if case.is_in(records):
            continue
        start = time.perf_counter()
        try:
            records.append(processes.measure(case))
        except Failed as reason:
            failed += 1
            print(f"{case}: {reason}", file=sys.stderr)
            continue
        seconds = time.perf_counter() - start
        print(f"{case}: {seconds:.0f} s", file=sys.stderr, flush=True)
        if full:
            _store(records)
    text = markdown(nets, records, modes)
    print(text)
    if full:
        (RESULTS / "step_time.md").write_text(text)
    if failed:
        sys.exit(f"{failed} of our own failed: see above")


def _plot() -> None:
    """The table and the picture of what was stored."""
    from benchmarks.step_time_picture import draw

    nets, records, modes = list(NETS.values()), _stored(), list(MODES)
    try:
        draw(nets, records, modes, RESULTS / "step_time.png")
    except ValueError as error:
        sys.exit(str(error))
    (RESULTS / "step_time.md").write_text(markdown(nets, records, modes))


def _stored() -> list[Record]:
    """What an interrupted run has left."""
    path = RESULTS / "step_time.json"
    if not path.exists():
        return []
    records: list[Record] = json.loads(path.read_text())
    return records


def _store(records: list[Record]) -> None:
    """Whoever is killed while he writes leaves what was there."""
    path = RESULTS / "step_time.json"
    part = path.with_suffix(".part")
    part.write_text(json.dumps(records, indent=1) + "\n")
    part.replace(path)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks/step_time.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--net", choices=NETS, help="default: all")
    parser.add_argument("--jit", action="store_true", help="XLA for the whole step")
    parser.add_argument("--steps", type=int, help="in turn; default: by the net")
    for flag in ("--short", "--resume", "--plot"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument(
        "--python", type=_pair, action="append", default=[], metavar="PEER=PATH"
    )
    given = parser.parse_args()
    if given.short and given.net and given.net not in SHORT:
        parser.error(f"--short has the nets {', '.join(SHORT)}, received {given.net}")
    return given


def _pair(text: str) -> tuple[str, str]:
    peers = [name for name, framework in FRAMEWORKS.items() if framework.peer]
    peer, _, path = text.partition("=")
    if peer not in peers or not path:
        raise argparse.ArgumentTypeError(
            f"expected PEER=PATH with a peer of {', '.join(peers)}, received {text!r}"
        )
    return peer, path


if __name__ == "__main__":
    main()
