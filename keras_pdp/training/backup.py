"""Backup: what `fit` needs to go on after a crash, exact, and safe from a kill."""

import json
import os
import shutil
import warnings
import zipfile
from pathlib import Path
from typing import Any

import keras

from keras_pdp.training import random_states

# What a folder is called while it is written. Killed there, it is never read.
_UNFINISHED = "unfinished"
_FINISHED = "epochs-"
_RANDOM = "random.npz"
_SHAPES = "shapes.json"

# What reading a damaged file ends in.
_DAMAGE = (ValueError, OSError, KeyError, EOFError, zipfile.BadZipFile)


class Backup(keras.callbacks.Callback):
    """Continues a `fit` that was killed, at the epoch after the last one it finished.

    Start the same script again: the weights, the optimizer, the pruning and the
    random states of the layers (dropout) are restored when `fit` begins, and epochs
    that are done are not repeated. The result is that of the uninterrupted run, to the
    bit, where the data of an epoch do not depend on the epochs before it: `fit`
    shuffles arrays by a state of its own that starts anew in each process, and data of
    unknown length need `steps_per_epoch` in `fit`.

    Differences to `keras.callbacks.BackupAndRestore`, which writes and reads the
    weights here as well: a backup is written beside the last one and renamed when it
    is whole and on the disk, so that a kill at any moment leaves one to go on from; it
    has the states of random layers, which Keras saves in no file; it stays when the
    training is over, so that a kill before the model is saved costs nothing. A model
    whose backup is complete is not trained again, which a warning says: `delete()` it,
    or take another folder.

    On PyTorch, layers that have no seed of their own draw from the generator of the
    process: the CPU's is in it, those of GPUs are not.

    What other callbacks remember (the patience of EarlyStopping, the best value of
    ModelCheckpoint) is not in it. Put it last, so that it sees what they have set.

    Args:
        directory: A folder for this run alone, on a local disk; made where there is
            none.

    Raises:
        TypeError: If `directory` is no path.
        ValueError: In `fit`, if the model is not built, or is not the one of the
            backup, or if that is damaged.
        OSError: In `fit`, if the folder can't be written; the last backup stays.

    Example:

    >>> callbacks = [PDPCallback(0.9), Backup("run-7")]
    >>> model.fit(x, y, epochs=100, shuffle=False, callbacks=callbacks)
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        super().__init__()
        if not isinstance(directory, str | os.PathLike) or not os.fspath(directory):
            raise TypeError(
                "`directory` should be the path of a folder for the backups of this "
                f"run. Received: {directory!r}."
            )
        self.directory = Path(directory)
        self._resumed = False

    def delete(self) -> None:
        """Removes the backups, so that the next `fit` begins anew."""
        for folder in [*self._finished(), self.directory / _UNFINISHED]:
            if folder.exists():
                shutil.rmtree(folder)

    def on_train_begin(self, logs: Any = None) -> None:
        if not self.model.built:
            raise ValueError(
                f"Backup can't restore '{self.model.name}' before it is built: add a "
                "keras.Input, or call the model once on data."
            )
        # Found out now, not after the first epoch.
        self.directory.mkdir(parents=True, exist_ok=True)
        finished = self._finished()
        self._resumed = bool(finished)
        if not finished:
            return
        try:
            _check_shapes(self.model, finished[-1] / _SHAPES)
            self._keras(finished[-1]).on_train_begin()
            random_states.restore(self.model, finished[-1] / _RANDOM)
        except _DAMAGE as error:
            raise ValueError(
                f"The backup {finished[-1]} is damaged, or not one of this model, '"
                f"{self.model.name}'. Take another folder for another run, or delete() "
                f"what is there. {error}"
            ) from error
        if _epochs(finished[-1]) >= self.params["epochs"]:
            warnings.warn(
                f"The backup {finished[-1]} has all {self.params['epochs']} epochs: "
                "the model is restored and nothing is trained. To train anew, "
                "delete() it or take another folder.",
                stacklevel=2,
            )

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        draft = self._draft()
        self._keras(draft).on_epoch_end(epoch)
        random_states.save(self.model, draft / _RANDOM)
        shapes = json.dumps(_shapes(self.model))
        (draft / _SHAPES).write_text(shapes, encoding="utf-8")
        for path in [*draft.iterdir(), draft]:
            _flush(path)
        old = self._finished()
        draft.rename(self.directory / f"{_FINISHED}{epoch + 1:06d}")
        _flush(self.directory)
        for folder in old:
            shutil.rmtree(folder)

    def on_train_end(self, logs: Any = None) -> None:
        if not self._resumed:
            return
        # Keras would begin every later `fit` of this model at the restored epoch, and
        # train nothing if that is past its last one. Restored at 0, it forgets it.
        draft = self._draft()
        forgets = self._keras(draft)
        forgets.on_epoch_end(-1)
        forgets.on_train_begin()
        shutil.rmtree(draft)

    def _draft(self) -> Path:
        """A new folder to write in."""
        draft = self.directory / _UNFINISHED
        if draft.exists():
            shutil.rmtree(draft)
        draft.mkdir(parents=True)
        return draft

    def _keras(self, folder: Path) -> keras.callbacks.BackupAndRestore:
        """Keras's own, for one folder: it alone can tell `fit` where to begin."""
        callback = keras.callbacks.BackupAndRestore(str(folder))
        callback.set_model(self.model)
        return callback

    def _finished(self) -> list[Path]:
        """The oldest first; two where it was killed before it removed the older."""
        named = self.directory.glob(f"{_FINISHED}*")
        ours = (path for path in named if path.name.removeprefix(_FINISHED).isdigit())
        return sorted(ours, key=_epochs)


def _epochs(folder: Path) -> int:
    return int(folder.name.removeprefix(_FINISHED))


def _shapes(model: keras.Model) -> list[list[int]]:
    return [list(variable.shape) for variable in model.weights]


def _check_shapes(model: keras.Model, path: Path) -> None:
    """Raises where Keras would read a part of the file and leave the rest."""
    saved, ours = json.loads(path.read_text(encoding="utf-8")), _shapes(model)
    if len(saved) != len(ours):
        raise ValueError(f"Expected {len(ours)} weights; it has {len(saved)}.")
    for variable, shape in zip(model.weights, saved, strict=True):
        if list(variable.shape) != shape:
            raise ValueError(
                f"Expected {tuple(variable.shape)} as the shape of '{variable.path}'; "
                f"in it, it is {tuple(shape)}."
            )


def _flush(path: Path) -> None:
    """Waits until a file or folder is on the disk. Windows opens no folders."""
    if os.name == "nt" and path.is_dir():
        return
    # Windows flushes only what is open for writing.
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
