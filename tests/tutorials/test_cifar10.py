"""The tutorial's data where CIFAR-10 is not there: its format, and its three parts."""

import sys

import numpy as np
import pytest

from tests.test_quickstart import ROOT


def test_what_stands_in_for_cifar10_has_its_format(monkeypatch, tmp_path):
    pytest.importorskip("tensorflow_datasets")
    monkeypatch.setenv("KERAS_PDP_OFFLINE", "1")
    monkeypatch.setenv("KERAS_PDP_DATA", str(tmp_path))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(sys, "path", [str(ROOT / "tutorials"), *sys.path])
    import cifar10

    data = cifar10.load()
    assert not data.real and "Fashion-MNIST" in data.source
    for split in (data.train, data.validation, data.test):
        assert split.images.shape[1:] == (32, 32, 3)
        assert split.images.dtype == np.float32
        assert len(split.images) == len(split.labels)
        assert set(split.labels) == set(range(10))
        assert 0.0 <= split.images.min() < split.images.max() <= 255.0
    assert len(data.train.labels) == 9 * len(data.validation.labels)
