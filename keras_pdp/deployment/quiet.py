"""Keeps the chatter of native libraries off the terminal."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Holds back what is written to stderr; writes it out if an error leaves the block.

    The converter and the runtime log from C++ to file descriptor 2, past Python's
    `sys.stderr`, and their log level can only be set before they are first imported. So
    the descriptor itself is pointed elsewhere, for the whole process.
    """
    _flush()
    try:
        kept = os.dup(2)
    except OSError:  # a process without one, such as a daemon: nothing to keep quiet
        yield
        return
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            _restore(kept)
            held.seek(0)
            os.write(2, held.read())
            raise
        else:
            _restore(kept)
        finally:
            os.close(kept)


def _restore(kept: int) -> None:
    _flush()
    os.dup2(kept, 2)


def _flush() -> None:
    if sys.stderr is not None:
        sys.stderr.flush()
