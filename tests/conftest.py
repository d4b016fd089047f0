"""Every test starts from the same random state; which of them run on a backend.

Sessions are not cleared: it costs more than most tests, and none relies on names that
Keras counts up.

`KERAS_BACKEND=jax pytest` and `KERAS_BACKEND=torch pytest` leave out:

* what writes or reads files for LiteRT. The converter needs Keras on TensorFlow, and
  modules that import TensorFlow or LiteRT need them to be installed;
* single tests marked `tensorflow`;
* what starts processes of its own on every backend that it is about;
* training loops in the manner of another backend, `tests/backends/test_<backend>.py`.

Each run says so in its summary.
"""

from pathlib import Path

import keras
import pytest

from tests import profiles  # noqa: F401  (how many cases hypothesis draws)

HERE = Path(__file__).parent
BACKEND = keras.backend.backend()
OF_FILES = ("benchmarks", "deployment", "test_quickstart.py", "tutorials")
OF_PROCESSES = ("distribution", "sparsity/test_backends.py")
# In the same folders, but about Keras models alone.
OF_MODELS = ("deployment/test_shrink.py",)


def pytest_configure(config):
    if BACKEND == "torch":  # numpy 2 of how Keras asks PyTorch for arrays
        config.addinivalue_line(
            "filterwarnings", "ignore:__array__ implementation:DeprecationWarning"
        )


def pytest_ignore_collect(collection_path, config):
    if not collection_path.is_relative_to(HERE):
        return None
    path = collection_path.relative_to(HERE).as_posix()
    if path.startswith("backends/test_"):
        return path != f"backends/test_{BACKEND}.py" or None
    if BACKEND == "tensorflow" or path in OF_MODELS or collection_path.is_dir():
        return None
    return path.startswith((*OF_FILES, *OF_PROCESSES)) or None


def pytest_collection_modifyitems(items):
    if BACKEND == "tensorflow":
        return
    for item in items:
        mark = item.get_closest_marker("tensorflow")
        if mark is not None:
            item.add_marker(pytest.mark.skip(reason=f"on {BACKEND}: {mark.args[0]}"))


def pytest_terminal_summary(terminalreporter):
    terminalreporter.write_line(f"Keras {keras.__version__} on {BACKEND}")
    if BACKEND != "tensorflow":
        terminalreporter.write_line(
            f"Left out, but for {', '.join(OF_MODELS)}: {', '.join(OF_FILES)}, because "
            "files for LiteRT are converted by Keras on TensorFlow; "
            f"{', '.join(OF_PROCESSES)}, because they start the backends they need"
        )


@pytest.fixture(autouse=True)
def fixed_seed():
    keras.utils.set_random_seed(7)
