"""2 + 2 epochs against 4: what differs, by how and when the training was interrupted.

A process trains all 4 epochs at once and saves in the middle, in every way; another
one, this, loads and trains the other 2. `python -m benchmarks.faults --resume`.
"""

import importlib.util
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from benchmarks import fault_net
from benchmarks.fault_net import EPOCHS
from keras_pdp.training.backup import Backup

HALF = EPOCHS // 2
DROPOUT = 0.3


@dataclass(frozen=True)
class Way:
    """A way to save a training in its middle and to go on.

    Args:
        save: Called with the model and a path when half of the epochs are done.
        resume: Takes a model with wrong numbers and the path; answers the model to go
            on with and what `fit` gets for it.
        random: Whether the states of random layers go along.
        needs: The package that it takes.
    """

    save: Callable[[keras.Model, str], None]
    resume: Callable[[keras.Model, str], tuple[keras.Model, dict[str, Any]]]
    random: bool = False
    needs: str | None = None

    @property
    def missing(self) -> bool:
        """Whether what it takes is not here."""
        if self.needs == "tensorflow" and keras.backend.backend() != "tensorflow":
            return True
        return self.needs is not None and importlib.util.find_spec(self.needs) is None


def _loaded(model: keras.Model, path: str) -> tuple[keras.Model, dict[str, Any]]:
    return keras.models.load_model(path), {"begin": HALF}


def _weights(model: keras.Model, path: str) -> tuple[keras.Model, dict[str, Any]]:
    model.load_weights(path)  # the optimizer's as well, since it is built
    return model, {"begin": HALF}


def _save_by(callback: Callable[[str], Any]) -> Callable[[keras.Model, str], None]:
    """What a callback saves at the end of the epoch."""

    def save(model: keras.Model, path: str) -> None:
        saving = callback(path)
        saving.set_model(model)
        saving.on_epoch_end(HALF - 1)
        if hasattr(saving, "wait_until_finished"):
            saving.wait_until_finished()

    return save


def _resume_by(
    callback: Callable[[str], Any],
) -> Callable[[keras.Model, str], tuple[keras.Model, dict[str, Any]]]:
    return lambda model, path: (model, {"callbacks": [callback(path)]})


def _keras_backup(path: str) -> keras.callbacks.Callback:
    return keras.callbacks.BackupAndRestore(path, delete_checkpoint=False)


def _checkpoint(model: keras.Model) -> Any:
    import tensorflow as tf

    return tf.train.Checkpoint(model=model, optimizer=model.optimizer)


def _save_checkpoint(model: keras.Model, path: str) -> None:
    _checkpoint(model).write(path)


def _read_checkpoint(
    model: keras.Model, path: str
) -> tuple[keras.Model, dict[str, Any]]:
    _checkpoint(model).read(path).assert_existing_objects_matched()
    return model, {"begin": HALF}


_orbax = _save_by(lambda path: keras.callbacks.OrbaxCheckpoint(path))

WAYS: dict[str, Way] = {
    "model.keras": Way(lambda model, path: model.save(path), _loaded),
    "model.weights.h5": Way(lambda model, path: model.save_weights(path), _weights),
    "BackupAndRestore": Way(_save_by(_keras_backup), _resume_by(_keras_backup)),
    "Backup": Way(_save_by(Backup), _resume_by(Backup), random=True),
    "tf.train.Checkpoint": Way(_save_checkpoint, _read_checkpoint, needs="tensorflow"),
    "OrbaxCheckpoint, load_model": Way(_orbax, _loaded, needs="orbax"),
    "OrbaxCheckpoint, load_weights": Way(_orbax, _weights, needs="orbax"),
}


class SaveInTheMiddle(keras.callbacks.Callback):
    """Saves in every way, without a touch on the training that goes on."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if epoch == HALF - 1:
            for name, way in WAYS.items():
                if not way.missing:
                    way.save(self.model, str(self.folder / name))


def straight(folder: Path, moments: Iterable[str], dropouts: Iterable[float]) -> None:
    """Trains without an interruption; leaves what was saved and the final state."""
    for dropout in dropouts:
        model = fault_net.net(dropout)
        begin = fault_net.values(model)
        for moment in moments:
            fault_net.assign(model, begin)
            place = folder / f"{moment}, {dropout}"
            place.mkdir(parents=True)
            fault_net.fit(model, moment, [SaveInTheMiddle(place)])
            arrays: dict[str, Any] = dict(fault_net.state(model))
            np.savez(place / "end.npz", **arrays)


def resumed(folder: Path, moment: str, name: str, model: keras.Model) -> list[str]:
    """What differs from the uninterrupted run, after going on in one way."""
    fault_net.spoil(model)
    model, arguments = WAYS[name].resume(model, str(folder / name))
    fault_net.fit(model, moment, **arguments)
    with np.load(folder / "end.npz") as file:
        return fault_net.differing(dict(file), fault_net.state(model))


Table = dict[tuple[str, str], list[str]]


def matrix(
    folder: Path, cases: Iterable[tuple[str, str]], dropout: float = 0.0
) -> Table:
    """The names of the arrays that differ, for pairs of a way and a moment."""
    model = fault_net.net(dropout)
    table: Table = {}
    for name, moment in cases:
        place = folder / f"{moment}, {dropout}"
        with warnings.catch_warnings():
            # The wrong numbers look like another target, until they are restored.
            warnings.filterwarnings("ignore", "This model is on its way")
            table[name, moment] = resumed(place, moment, name, model)
    return table


def here() -> list[str]:
    """The ways for which everything is installed."""
    return [name for name, way in WAYS.items() if not way.missing]


def run_straight(
    folder: Path, moments: Iterable[str], dropouts: Iterable[float] = (0.0,)
) -> None:
    """`straight` in a process of its own."""
    rates = ",".join(map(str, dropouts))
    command = [sys.executable, "-m", "benchmarks.resume", str(folder), rates, *moments]
    root = Path(__file__).parents[1]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")


def text(table: Mapping[tuple[str, str], list[str]]) -> str:
    """Arrays that differ, by way and granularity (rows) and moment (columns)."""
    moments = list(dict.fromkeys(moment for _, moment in table))
    rows = [f"{'arrays that differ':<46}" + "".join(f"{m:>17}" for m in moments)]
    for name in dict.fromkeys(name for name, _ in table):
        for kind in fault_net.GRANULARITIES:
            counts = [
                sum(each.startswith(kind) for each in table[name, moment])
                for moment in moments
            ]
            label = f"{name}: {kind}"
            rows.append(f"{label:<46}" + "".join(f"{count:>17}" for count in counts))
    return "\n".join(rows)


if __name__ == "__main__":
    place, rates, *chosen = sys.argv[1:]
    straight(Path(place), chosen, [float(rate) for rate in rates.split(",")])
