"""Reads .keras files for the reports: a model, or an error that names the file.

Nothing in a file is executed: Keras's safe mode is on, which refuses functions that
were stored as code, and weights are arrays without objects in them. (It is off where
the process called `keras.config.enable_unsafe_deserialization()`, which no argument
overrules.)
"""

import zipfile
from pathlib import Path

import keras

# How far an archive may unfold, past a floor that every machine has: Keras stores its
# entries as they are, so a file that grows a hundredfold was not made by it.
_UNFOLDED_PER_BYTE = 100
_UNFOLDED_FLOOR = 1 << 26


def load_keras(path: Path) -> keras.Model:
    """The model in a `.keras` file, not compiled.

    Args:
        path: The file.

    Returns:
        The model.

    Raises:
        OSError: If the file cannot be opened.
        ValueError: If no model can be read from it, for whatever reason; the message
            begins with the path and ends with what Keras says.
    """
    with path.open("rb"):
        pass  # a file that is not there, or not to be read, is no damaged one
    try:
        _check_archive(path)
        return keras.models.load_model(path, compile=False, safe_mode=True)
    # What Keras ends in depends on where the damage is: errors of zip, JSON and HDF5,
    # of missing keys, of our own constructors, of too deep or too large structures.
    except Exception as error:
        raise ValueError(
            f"{path}: no Keras model can be read from this file. It is damaged, of "
            "another kind, or uses layers whose package is not imported. "
            f"{type(error).__name__}: {error}"
        ) from error


def _check_archive(path: Path) -> None:
    """Raises unless it is a whole zip file of a likely size."""
    with zipfile.ZipFile(path) as archive:
        unfolded = sum(entry.file_size for entry in archive.infolist())
    limit = _UNFOLDED_FLOOR + _UNFOLDED_PER_BYTE * path.stat().st_size
    if unfolded > limit:
        raise ValueError(
            f"it unfolds to {unfolded:,} bytes, of which {limit:,} were expected at "
            "most"
        )
