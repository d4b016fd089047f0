"""Every replica has the same masks, and together they train as one device does.

A process for each cluster: the number of devices is fixed when a backend starts. All
clusters by `KERAS_PDP_DISTRIBUTION=1 pytest tests/distribution`.
"""

import importlib.util
import json
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[2]

EVERYTHING = os.environ.get("KERAS_PDP_DISTRIBUTION") == "1"


def require(backend):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")


def started(backend, folder, *arguments, **environment):
    folder.mkdir(parents=True, exist_ok=True)
    environment = {
        **os.environ,
        "KERAS_BACKEND": backend,
        "KERAS_PDP_FOLDER": str(folder),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "",
        "JAX_PLATFORMS": "cpu",
        **environment,
    }
    command = [sys.executable, "-m", "tests.distribution.programs"]
    return subprocess.Popen(
        [*command, *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def results_of(process):
    out, err = process.communicate(timeout=900)
    assert process.returncode == 0, err[-3000:]
    lines = [line for line in out.splitlines() if line.startswith("RESULT ")]
    return dict(json.loads(line.removeprefix("RESULT ")) for line in lines)


def assert_as_alone(found, alone):
    assert found["sparsity"] == alone["sparsity"]
    assert found["masks"] == alone["masks"]
    for a, b in zip(found["weights"], alone["weights"], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    assert found["replicas"]
    for name, copies in found["replicas"].items():
        assert len(set(copies)) == 1, name


def test_mirrored_strategy(tmp_path):
    """Two logical CPU devices; straight, and 2 + 2 epochs through a file."""
    require("tensorflow")
    cases = ["one_device", "mirrored", "mirrored_resumed"]
    found = results_of(started("tensorflow", tmp_path, *cases))
    alone = found.pop("one_device")
    for case in found.values():
        assert {len(copies) for copies in case["replicas"].values()} == {2}
        assert_as_alone(case, alone)


def test_data_and_model_parallel(tmp_path):
    """Four host devices; the model-parallel mesh splits a kernel and its mask."""
    require("jax")
    kinds = ["data_parallel", "model_parallel"]
    cases = ["one_device", *kinds, *(f"{kind}_resumed" for kind in kinds)]
    flags = "--xla_force_host_platform_device_count=4"
    found = results_of(started("jax", tmp_path, *cases, XLA_FLAGS=flags))
    alone = found.pop("one_device")
    for case in found.values():
        assert_as_alone(case, alone)
    for variable in ("kernel", "kernel_mask"):
        for case in ("model_parallel", "model_parallel_resumed"):
            names = found[case]["replicas"]
            halves = [n for n in names if n.startswith(f"one/{variable} ")]
            assert len(halves) == 2


@pytest.mark.skipif(
    not EVERYTHING, reason="two more processes: KERAS_PDP_DISTRIBUTION=1 runs it"
)
def test_multi_worker_mirrored_strategy(tmp_path):
    """Two processes on the loopback interface."""
    require("tensorflow")
    hosts = [f"localhost:{port}" for port in free_ports(2)]
    processes = []
    for i in range(2):
        task = {"type": "worker", "index": i}
        cluster = json.dumps({"cluster": {"worker": hosts}, "task": task})
        cases = ["workers", "workers_resumed"]
        folder = tmp_path / str(i)
        processes.append(started("tensorflow", folder, *cases, TF_CONFIG=cluster))
    alone = results_of(started("tensorflow", tmp_path, "one_device"))["one_device"]
    first, second = map(results_of, processes)
    assert first == second
    for case in first.values():
        assert_as_alone(case, alone)


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("localhost", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
