"""Trainings that are killed, and what is lost by it: nothing.

    python -m benchmarks.faults               50 kills; some minutes on two cores
    python -m benchmarks.faults --kills 5     the same, shorter
    python -m benchmarks.faults --keras       by Keras's BackupAndRestore instead
    python -m benchmarks.faults --resume      2 + 2 epochs against 4, the table

Each life is a process that goes on from the backup of the one before it and is killed
by SIGKILL: half of them at a random step, half while the backup is written. A run whose
end is reached must have the numbers of the uninterrupted one, to the bit; then another
run begins, until there have been enough kills.
"""

import argparse
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np

from benchmarks import fault_life, fault_net, resume
from benchmarks.fault_net import EPOCHS, MOMENTS, STEPS

# A write takes some hundredths of a second; the kill falls in it or shortly after.
LONGEST_DELAY = 0.08


@dataclass
class Outcome:
    """What the lives came to.

    Args:
        kills: By where they fell: in a step, in a write, too late.
        equal: Runs that ended with the numbers of the uninterrupted one.
        different: Runs that ended with others.
        stuck: Lives that ended by an error.
    """

    kills: Counter[str] = field(default_factory=Counter)
    equal: int = 0
    different: int = 0
    stuck: int = 0


def lived(folder: Path, theirs: bool, kill: tuple[str, int, float] | None) -> str:
    """One life; answers how it ended.

    Args:
        folder: Of the run.
        theirs: Keras's BackupAndRestore rather than Backup.
        kill: The event, how often it is told before the kill, and the seconds from
            then on; None to let it live.
    """
    reading, writing = os.pipe()
    context = multiprocessing.get_context("fork")
    process = context.Process(target=fault_life.live, args=(folder, writing, theirs))
    process.start()
    os.close(writing)
    seen = 0
    with os.fdopen(reading) as events:
        for line in events:
            seen += kill is not None and line.strip() == kill[0]
            if kill is not None and seen == kill[1]:
                time.sleep(kill[2])
                assert process.pid is not None
                in_write = (folder / "backup" / "unfinished").exists()
                os.kill(process.pid, signal.SIGKILL)
                process.join()
                return "in a write" if in_write else f"after a {kill[0]} began"
    process.join()
    return "lived" if process.exitcode == 0 else "stuck"


def aim(chance: random.Random) -> tuple[str, int, float]:
    """Where the next kill falls."""
    if chance.random() < 0.5:
        return "step", chance.randint(1, EPOCHS * STEPS // 2), chance.uniform(0, 0.01)
    return "write", chance.randint(1, 2), chance.uniform(0, LONGEST_DELAY)


def killed(kills: int, theirs: bool, seed: int, folder: Path) -> Outcome:
    """Kills lives until there have been enough, and lets the last run end."""
    chance = random.Random(seed)
    (folder / "straight").mkdir()
    if lived(folder / "straight", theirs, None) != "lived":
        raise RuntimeError("The uninterrupted run did not end.")
    with np.load(folder / "straight" / "end.npz") as file:
        expected = dict(file)
    outcome = Outcome()
    for run in range(kills):
        place = folder / f"run-{run}"
        place.mkdir()
        for _ in range(5):
            enough = outcome.kills.total() >= kills
            end = lived(place, theirs, None if enough else aim(chance))
            if end in ("lived", "stuck"):
                break
            outcome.kills[end] += 1
        else:
            end = lived(place, theirs, None)
        if end != "lived":
            outcome.stuck += 1
        else:
            with np.load(place / "end.npz") as file:
                wrong = fault_net.differing(expected, dict(file))
            outcome.different += bool(wrong)
            outcome.equal += not wrong
        print(f"run {run}: {end}; {outcome}", flush=True)
        if outcome.kills.total() >= kills:
            break
    return outcome


def show_resume(folder: Path) -> int:
    """Prints the table; the number of arrays that differ and should not."""
    resume.run_straight(folder, MOMENTS, (0.0, resume.DROPOUT))
    cases = [(name, moment) for name in resume.here() for moment in MOMENTS]
    print(
        f"not installed: {sorted(set(resume.WAYS) - set(resume.here())) or 'nothing'}"
    )
    table = resume.matrix(folder, cases)
    print(resume.text(table))
    random_too = [case for case in cases if resume.WAYS[case[0]].random]
    dropout = resume.matrix(folder, random_too, resume.DROPOUT)
    print("\nwith dropout:", resume.text(dropout), sep="\n")
    return sum(len(names) for names in [*table.values(), *dropout.values()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keras", action="store_true", help="BackupAndRestore")
    parser.add_argument("--resume", action="store_true", help="the table instead")
    chosen = parser.parse_args()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        if chosen.resume:
            wrong = show_resume(Path(folder))
            print(f"\n{wrong} arrays differ")
        else:
            outcome = killed(chosen.kills, chosen.keras, chosen.seed, Path(folder))
            wrong = outcome.different + outcome.stuck
            ways = ", ".join(f"{n} {how}" for how, n in outcome.kills.items())
            print(
                f"\n{outcome.kills.total()} kills ({ways}); {outcome.equal} runs ended "
                f"equal, {outcome.different} different, {outcome.stuck} stuck"
            )
    seconds = time.monotonic() - start
    print(f"{seconds:.0f} s, Keras {keras.__version__}, {keras.backend.backend()}")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
