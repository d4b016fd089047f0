"""One life of a training that is killed: it tells of each step, and of each write."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np

from benchmarks import fault_net
from keras_pdp.training.backup import Backup

MOMENT = "in it"
DROPOUT = 0.3


class Tell(keras.callbacks.Callback):
    """Writes a line when a step, or the writing of a backup, begins."""

    def __init__(self, pipe: int) -> None:
        super().__init__()
        self.pipe = pipe

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        os.write(self.pipe, b"step\n")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        os.write(self.pipe, b"write\n")


def live(folder: Path, pipe: int, theirs: bool) -> None:
    """Trains from the last backup to the end, and leaves the final numbers.

    Args:
        folder: Of the run.
        pipe: Where it tells what it does.
        theirs: Keras's BackupAndRestore rather than Backup.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # One granularity: that all are in a backup is what `resume` shows.
    model = fault_net.net(DROPOUT, ("unstructured",), eager=True)
    place = folder / "backup"
    backup = (
        keras.callbacks.BackupAndRestore(str(place), delete_checkpoint=False)
        if theirs
        else Backup(place)
    )
    fault_net.fit(model, MOMENT, [Tell(pipe), backup])
    numbers: dict[str, Any] = dict(fault_net.state(model))
    with (folder / "end.tmp").open("wb") as file:
        np.savez(file, **numbers)
    (folder / "end.tmp").rename(folder / "end.npz")


if __name__ == "__main__":
    live(Path(sys.argv[1]), 1, theirs=False)
