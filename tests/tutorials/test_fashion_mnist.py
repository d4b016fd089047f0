"""The data of the tutorials: each source in its turn, and no trace of a failure."""

import hashlib
import http.server
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

TUTORIALS = Path(__file__).parents[2] / "tutorials"

SHA256 = {
    "train": "0b9e60692fc82291c9ed9b6dc1cc42a5d61658f7b5f038071fae33784ae173a3",
    "test": "062b00cb14d46688e3f949fd77a1797be835ae5be288e1f703b6c8b01a466481",
}

LOAD = """
import fashion_mnist
train, test, source = fashion_mnist.load()
print(len(train.images), len(test.images), source)
"""


@pytest.fixture
def fashion_mnist(monkeypatch):
    monkeypatch.syspath_prepend(TUTORIALS)
    import fashion_mnist

    return fashion_mnist


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A tensorflow-datasets folder with a fashion_mnist of 20 + 10 images."""
    tfds = pytest.importorskip("tensorflow_datasets")
    folder = tmp_path_factory.mktemp("prepared")

    def examples(count):
        for i in range(count):
            yield i, {"image": np.full((28, 28, 1), i, np.uint8), "label": i % 10}

    tfds.dataset_builders.store_as_tfds_dataset(
        name="fashion_mnist",
        version="3.0.1",
        features=tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=(28, 28, 1)),
                "label": tfds.features.ClassLabel(num_classes=10),
            }
        ),
        split_datasets={"train": examples(20), "test": examples(10)},
        data_dir=folder,
    )
    return folder


@pytest.fixture
def server():
    """Starts a web server that every http address leads to; gives its address."""
    servers = []

    def start(handler):
        httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        servers.append(httpd)
        return f"http://127.0.0.1:{httpd.server_port}"

    yield start
    for httpd in servers:
        httpd.shutdown()
        httpd.server_close()


class OnlyHead(http.server.BaseHTTPRequestHandler):
    """Says that it has every file, and has none."""

    def do_HEAD(self):
        self.send_response(200)
        self.end_headers()

    def do_GET(self):
        self.send_error(404)


class Silent(http.server.BaseHTTPRequestHandler):
    """Takes every question and never answers."""

    def do_HEAD(self):
        time.sleep(60)


def load(home, program=LOAD, **environment):
    """What `load` prints, in a process of its own: tfds reads its folder on import."""
    pytest.importorskip("tensorflow_datasets")
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("KERAS_PDP", "TFDS_")) and "proxy" not in name.lower()
    }
    own = {
        "TFDS_DATA_DIR": str(home),
        "PYTHONPATH": str(TUTORIALS),
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=kept | own | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout.splitlines()


def test_what_is_prepared_comes_first(prepared):
    (line,) = load(prepared, KERAS_PDP_DATA="/not/looked/at")
    assert line == f"20 10 tensorflow-datasets, {prepared}/fashion_mnist/3.0.1"


def test_a_download_is_kept_for_the_next_time(prepared, tmp_path):
    copy = f"import shutil, sys; shutil.copytree({str(prepared)!r}, sys.argv[1], "
    program = f"""
import fashion_mnist
fashion_mnist.PROBE = "pass"
fashion_mnist.DOWNLOAD = {copy + "dirs_exist_ok=True)"!r}
{LOAD}"""
    home = tmp_path / "made" / "when needed"
    lines = load(home, program)
    assert lines[-1] == f"20 10 tensorflow-datasets, {home}/fashion_mnist/3.0.1"
    assert [path.name for path in home.iterdir()] == ["fashion_mnist"]
    assert {path.name for path in (home / "fashion_mnist" / "3.0.1").iterdir()} == {
        path.name for path in (prepared / "fashion_mnist" / "3.0.1").iterdir()
    }


def test_the_named_folder_comes_next(prepared, tmp_path):
    lines = load(tmp_path, KERAS_PDP_OFFLINE="1", KERAS_PDP_DATA=str(prepared))
    assert lines == [
        "Fashion-MNIST: not downloaded, because KERAS_PDP_OFFLINE is 1",
        f"20 10 KERAS_PDP_DATA, {prepared}/fashion_mnist/3.0.1",
    ]


def test_the_carried_part_is_the_last_resort(tmp_path):
    empty = tmp_path / "empty"
    lines = load(tmp_path, KERAS_PDP_OFFLINE="1", KERAS_PDP_DATA=str(empty))
    assert lines == [
        "Fashion-MNIST: not downloaded, because KERAS_PDP_OFFLINE is 1",
        f"Fashion-MNIST: KERAS_PDP_DATA names {empty}, which holds no fashion_mnist",
        "7500 5000 the part of it that the repository carries",
    ]


def test_without_a_network_it_falls_through_at_once(tmp_path):
    home = tmp_path / "home"
    begin = time.monotonic()
    lines = load(home, http_proxy="http://127.0.0.1:9")  # the discard port
    assert time.monotonic() - begin < 60
    assert lines[0].startswith("Fashion-MNIST: not downloaded, no answer from http")
    assert lines[1:] == ["7500 5000 the part of it that the repository carries"]
    assert not home.exists()


def test_a_server_that_never_answers_is_not_waited_for(tmp_path, server):
    home = tmp_path / "home"
    begin = time.monotonic()
    lines = load(home, http_proxy=server(Silent))
    assert time.monotonic() - begin < 60
    assert lines[0].startswith("Fashion-MNIST: not downloaded, no answer from http")
    assert not home.exists()


def test_a_failed_download_leaves_nothing(tmp_path, server):
    home = tmp_path / "home"
    lines = load(home, http_proxy=server(OnlyHead))
    assert lines[-2:] == [
        "Fashion-MNIST: not downloaded, the download failed",
        "7500 5000 the part of it that the repository carries",
    ]
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("split", SHA256)
def test_the_carried_files_are_these(fashion_mnist, split):
    content = (fashion_mnist.CARRIED / f"fashion_mnist_{split}.npy.xz").read_bytes()
    assert hashlib.sha256(content).hexdigest() == SHA256[split]
    assert len(content) < 3_000_000


@pytest.mark.parametrize("split, per_class", [("train", 750), ("test", 500)])
def test_the_carried_part_is_balanced(fashion_mnist, split, per_class):
    file = fashion_mnist.CARRIED / f"fashion_mnist_{split}.npy.xz"
    images, labels = fashion_mnist._decompress(file)
    assert images.shape == (10 * per_class, 28, 28, 1)
    assert images.dtype == np.uint8
    assert images.max() == 255
    assert np.bincount(labels).tolist() == 10 * [per_class]
    # Trousers (1) are narrower than pullovers (2): the labels belong to the images.
    width = [np.mean(images[labels == k].max(axis=1) > 0) for k in range(10)]
    assert width[1] < width[2]
