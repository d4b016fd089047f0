"""What pruning costs in memory: the state of a wrapped model, and the training's peak.

    python -m benchmarks.memory            ten minutes on two cores
    python -m benchmarks.memory --net mlp  one net

Each training runs in a process of its own, through warm-up, ramp and frozen tail, and
tells the largest size that the process had (the kernel's `ru_maxrss`). That holds the
libraries, some 500 MB, in front of which a small net is nothing; so what the process
grew by, from before the model was built, is told as well. Writes
benchmarks/results/memory.md and .json when all nets are run.
"""

import argparse
import datetime
import importlib.metadata
import json
import math
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from keras import layers

from keras_pdp import Channel, PDPCallback, PDPWrapper, pruned_layers

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PEAK_GOAL = 1.3  # of the dense training's
STATE_GOAL = 1.0  # bytes for a weight
EPOCHS, STEPS = 6, 4
Prunable = Callable[[keras.Layer], keras.Layer]
# In the definition: `wrap` makes a copy, and leaves the model that it was given.
KINDS: dict[str, Prunable] = {
    "dense": lambda layer: layer,
    "wrapped": PDPWrapper,
    "by channels": lambda layer: PDPWrapper(layer, Channel()),
}


def convnet(prunable: Prunable) -> tuple[keras.Model, int]:
    """Activations dominate."""
    net = keras.Sequential([keras.Input((64, 64, 3))])
    for filters in (32, 64, 128):
        conv = layers.Conv2D(filters, 3, padding="same", use_bias=False)
        net.add(prunable(conv))
        net.add(layers.BatchNormalization())
        net.add(layers.ReLU())
        net.add(layers.MaxPooling2D())
    net.add(layers.GlobalAveragePooling2D())
    net.add(layers.Dense(10))
    return net, 32


def mlp(prunable: Prunable) -> tuple[keras.Model, int]:
    """Weights dominate: 21 million of them, and few activations."""
    net = keras.Sequential([keras.Input((2048,))])
    for _ in range(5):
        net.add(prunable(layers.Dense(2048, activation="relu")))
    net.add(layers.Dense(10))
    return net, 16


def transformer(prunable: Prunable) -> tuple[keras.Model, int]:
    """Two encoder blocks of width 512 on 128 tokens."""
    x = inputs = keras.Input((128, 512))
    for _ in range(2):
        y = layers.LayerNormalization()(x)
        x = layers.Add()([x, prunable(layers.MultiHeadAttention(8, 64))(y, y)])
        y = layers.LayerNormalization()(x)
        y = prunable(layers.Dense(2048, activation="gelu"))(y)
        x = layers.Add()([x, prunable(layers.Dense(512))(y)])
    outputs = layers.Dense(10)(layers.GlobalAveragePooling1D()(x))
    return keras.Model(inputs, outputs), 8


NETS = {"convnet": convnet, "mlp": mlp, "transformer": transformer}


def peak_bytes() -> int:
    """The most that this process has held; Linux tells it in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def trained(net: str, kind: str) -> dict[str, int]:
    """Trains in this process and tells what it took."""
    # The libraries, and what TensorFlow sets up in its first step.
    warm = keras.Sequential([keras.Input((2,)), layers.Dense(1)])
    warm.compile("adam", "mse")
    warm.fit(np.zeros((2, 2)), np.zeros((2, 1)), verbose=0)
    before = peak_bytes()
    model, batch = NETS[net](KINDS[kind])
    callbacks = [] if kind == "dense" else [PDPCallback(0.8)]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(batch * STEPS, *model.input_shape[1:])).astype("float32")
    y = rng.integers(0, 10, len(x))
    model.fit(x, y, batch, epochs=EPOCHS, verbose=0, callbacks=callbacks)
    return {
        "before": before,
        "peak": peak_bytes(),
        "parameters": sum(math.prod(v.shape) for v in model.trainable_variables),
        **_state(model),
    }


def _state(model: keras.Model) -> dict[str, int]:
    """Bytes that the wrappers added, the masks and the rest of it."""
    weights = masks = rest = 0
    for wrapper in pruned_layers(model):
        inner = {id(v) for v in wrapper.layer.variables}
        weights += sum(kernel.size for kernel in wrapper.gated)
        for variable in wrapper.variables:
            if id(variable) in inner:
                continue
            size = keras.ops.convert_to_numpy(variable).nbytes
            if any(variable is kernel.mask for kernel in wrapper.gated):
                masks += size
            else:
                rest += size
    return {"pruned_weights": weights, "mask_bytes": masks, "other_bytes": rest}


def measured(net: str, kind: str) -> dict[str, Any]:
    """The same in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.memory", "--train", net, kind]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{net}, {kind}: {done.stderr[-2000:]}")
    return {"net": net, "kind": kind, **json.loads(done.stdout.splitlines()[-1])}


def table(rows: list[dict[str, Any]], date: str) -> str:
    backend = keras.backend.backend()
    lines = [
        "# Memory",
        "",
        f"Made by `python -m benchmarks.memory`, {date}: Keras {keras.__version__} on "
        f"{backend} {importlib.metadata.version(backend)}, {platform.machine()}, "
        f"{os.cpu_count()} cores. "
        f"Goals: {STATE_GOAL:.0f} byte of state for a pruned weight plus scalars, a "
        f"peak of {PEAK_GOAL} times the dense training's.",
        "",
        "| net | training | parameters | mask, bytes a weight | scalars, bytes "
        "| peak, MB | of dense | grew by, MB | of dense |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    dense: dict[str, dict[str, Any]] = {}
    for row in rows:
        first = dense.setdefault(row["net"], row)
        grown, base = row["peak"] - row["before"], first["peak"] - first["before"]
        mask = row["mask_bytes"] / max(row["pruned_weights"], 1)
        lines.append(
            f"| {row['net']} | {row['kind']} | {row['parameters']:,} | {mask:.3f} "
            f"| {row['other_bytes']:,} | {row['peak'] / 1e6:,.0f} "
            f"| {row['peak'] / first['peak']:.2f} | {grown / 1e6:,.0f} "
            f"| {grown / base:.2f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--net", choices=NETS, help="one net; nothing is written")
    parser.add_argument("--train", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.train:
        print(json.dumps(trained(*arguments.train)))
        return
    nets = [arguments.net] if arguments.net else list(NETS)
    rows = [measured(net, kind) for net in nets for kind in KINDS]
    text = table(rows, datetime.date.today().isoformat())
    print(text)
    if not arguments.net:
        (RESULTS / "memory.json").write_text(json.dumps(rows, indent=1) + "\n")
        (RESULTS / "memory.md").write_text(text)


if __name__ == "__main__":
    main()
