"""Files that appear whole or not at all."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A new file beside `path` that takes its place if the block succeeds.

    Args:
        path: the file to write. What is there stays until the block has succeeded.

    Yields:
        The new, empty file; it is gone after the block in any case.

    Raises:
        TypeError: `path` is no path.
        OSError: `path` is a folder, a device or a pipe, or its folder does not exist or
            is not writable.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(
            f"path: expected where to write the file, a string or a path, received "
            f"{type(path).__name__}"
        )
    # through links: the file that a link points to is replaced, not the link
    target = Path(path).resolve()
    if target.is_dir():
        raise IsADirectoryError(f"path: expected a file, received the folder {path}")
    if target.exists() and not target.is_file():
        # a new file would take the place of the device or the pipe
        raise OSError(f"path: expected a file, received the device or pipe {path}")
    if not target.parent.is_dir():
        raise FileNotFoundError(
            f"path: the folder {target.parent} does not exist; create it first"
        )
    unfinished = target.with_name(f".{uuid.uuid4().hex}.tflite.tmp")
    # made before any work, so that a folder that cannot be written to is found now
    unfinished.touch(exist_ok=False)
    try:
        yield unfinished
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)
