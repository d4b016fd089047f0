"""Fashion-MNIST as arrays, with or without a network.

`load()` takes the first of these that is there, and says which it was:

1. what tensorflow-datasets has prepared, in its own folder (`TFDS_DATA_DIR`, by
   default ~/tensorflow_datasets);
2. what it can download into that folder;
3. a tensorflow-datasets folder that `KERAS_PDP_DATA` names;
4. the part that this repository carries in tutorials/data: 7,500 training and
   5,000 test images, all classes alike.

`KERAS_PDP_OFFLINE=1` leaves out the second.
"""

import io
import lzma
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

CARRIED = Path(__file__).parent / "data"

# Without a network tensorflow-datasets retries for more than three minutes, has no
# time limit for a server that does not answer, and leaves parts of files behind. So
# one small question is asked first, and the download runs in a process of its own,
# into a folder that is removed when it fails.
PROBE_SECONDS = 6
DOWNLOAD_SECONDS = 180

PROBE = """
import sys, urllib.request
request = urllib.request.Request(sys.argv[1], method="HEAD")
urllib.request.urlopen(request, timeout=float(sys.argv[2]))
"""
DOWNLOAD = """
import sys
import tensorflow_datasets as tfds
try:
    tfds.builder("fashion_mnist", data_dir=sys.argv[1]).download_and_prepare()
except Exception as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


class Split(NamedTuple):
    """Images `(n, 28, 28, 1)` in 0 … 255 and their classes `(n,)` in 0 … 9."""

    images: np.ndarray  # uint8
    labels: np.ndarray  # int64


def load() -> tuple[Split, Split, str]:
    """Training split, test split, and one line that says where they are from."""
    import tensorflow_datasets as tfds

    builder = tfds.builder("fashion_mnist")
    if builder.is_prepared() or _download(builder):
        return *_read(builder), f"tensorflow-datasets, {builder.data_dir}"

    named = os.environ.get("KERAS_PDP_DATA")
    if named:
        builder = tfds.builder("fashion_mnist", data_dir=named)
        if builder.is_prepared():
            return *_read(builder), f"KERAS_PDP_DATA, {builder.data_dir}"
        _say(f"KERAS_PDP_DATA names {named}, which holds no fashion_mnist")

    train, test = (
        _decompress(CARRIED / f"fashion_mnist_{split}.npy.xz")
        for split in ("train", "test")
    )
    return train, test, "the part of it that the repository carries"


def _download(builder: Any) -> bool:
    """Whether the builder's data could be downloaded; else nothing is left of it."""
    if os.environ.get("KERAS_PDP_OFFLINE") == "1":
        _say("not downloaded, because KERAS_PDP_OFFLINE is 1")
        return False

    server = builder.URL
    page = f"{server}train-labels-idx1-ubyte.gz"
    if not _run(PROBE, page, str(PROBE_SECONDS / 2), seconds=PROBE_SECONDS):
        _say(f"not downloaded, no answer from {server}")
        return False

    target = Path(builder.data_dir)  # <folder>/fashion_mnist/<version>
    folder = target.parents[1]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix="incomplete.") as part:
            _say(f"downloading from {server}")
            if not _run(DOWNLOAD, part, seconds=DOWNLOAD_SECONDS, quiet=False):
                _say("not downloaded, the download failed")
                return False
            target.parent.mkdir(exist_ok=True)
            shutil.move(Path(part, *target.parts[-2:]), target)
    except OSError as error:
        _say(f"not downloaded, {folder} cannot be written: {error}")
        return False
    return True


def _run(program: str, *arguments: str, seconds: float, quiet: bool = True) -> bool:
    """Whether a Python program ended well within its time."""
    command = [sys.executable, "-c", program, *arguments]
    try:
        done = subprocess.run(command, timeout=seconds, capture_output=quiet)
    except subprocess.TimeoutExpired:  # the process has been killed
        return False
    return done.returncode == 0


def _read(builder: Any) -> tuple[Split, Split]:
    import tensorflow_datasets as tfds

    # A builder that was made before the download does not know of its splits.
    builder = tfds.builder_from_directory(builder.data_dir)
    splits = builder.as_dataset(split=["train", "test"], batch_size=-1)
    train, test = (
        Split(split["image"], split["label"]) for split in tfds.as_numpy(splits)
    )
    return train, test


def _decompress(file: Path) -> Split:
    by_class = np.load(io.BytesIO(lzma.decompress(file.read_bytes())))
    classes, count = by_class.shape[:2]
    labels = np.repeat(np.arange(classes), count)
    return Split(by_class.reshape(-1, 28, 28, 1), labels)


def _say(line: str) -> None:
    print(f"Fashion-MNIST: {line}", flush=True)
