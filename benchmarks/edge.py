"""What pruning does to size and latency, natively and in the browser.

    python -m benchmarks.edge            all nets; 34 minutes on two busy cores
    python -m benchmarks.edge --short    small nets, few rounds
    python -m benchmarks.edge --files D  keeps the .tflite files in the folder D
    python -m benchmarks.edge --table F  judges and draws again what the JSON F holds

Builds nets with random weights, prunes them by magnitude, exports them with the
package's public functions, and measures all files of a net in turns, on one thread:
natively, and in headless Chromium with LiteRT.js, where the sparse kernels exist
(`python -m benchmarks.web` sets that up; without it only the native part is measured,
and the tables say so). Writes a table, a picture and JSON into benchmarks/results.
The picture needs matplotlib: `pip install 'keras_pdp[benchmarks]'`.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import numpy.typing as npt

from benchmarks import edge_nets as nets
from benchmarks.edge_export import Exported, Refused, exported
from benchmarks.edge_goals import outcomes
from benchmarks.edge_machine import circumstances
from benchmarks.edge_measure import Measurement, measure
from benchmarks.edge_picture import draw
from benchmarks.edge_report import markdown
from benchmarks.edge_rows import Row, as_json, read, row
from benchmarks.edge_variants import (
    BOTH,
    Precision,
    Variant,
    block,
    channels,
    dense,
    prepared_dense,
    two_of_four,
    unstructured,
)
from benchmarks.web.browser import Browser
from benchmarks.web.parts import HERE as WEB
from benchmarks.web.parts import missing

RESULTS = Path(__file__).parent / "results"
SAMPLES = 64


@dataclass(frozen=True)
class Plan:
    """A net and what is made of it."""

    name: str
    net: Callable[[], keras.Model]
    variants: Sequence[Variant]


FLOATS_AND_INT8: tuple[Precision, ...] = (None, "float16", "int8")
FULL = (
    Plan(
        "MobileNetV1 224",
        nets.mobilenet_v1,
        (
            dense(),
            *(channels(percent) for percent in (25, 50, 75)),
            unstructured(90),
            two_of_four(),
            prepared_dense(),
            unstructured(80, prepared=True),
            unstructured(90, FLOATS_AND_INT8, prepared=True),
            unstructured(95, prepared=True),
        ),
    ),
    Plan(
        "MobileNetV2 224",
        nets.mobilenet_v2,
        (
            dense(),
            *(channels(percent) for percent in (25, 50, 75)),
            unstructured(90),
            prepared_dense(),
            *(unstructured(percent, prepared=True) for percent in (80, 90, 95)),
        ),
    ),
    Plan(
        "MobileNet, CIFAR size",
        nets.mobilenet_cifar,
        (
            dense(),
            *(channels(percent) for percent in (25, 50, 75)),
            prepared_dense(),
            *(unstructured(percent, BOTH, prepared=True) for percent in (80, 90)),
            unstructured(95, prepared=True),
        ),
    ),
    Plan(
        "ResNet-8, CIFAR size",
        nets.resnet_cifar,
        (
            dense(),
            *(channels(percent) for percent in (25, 50, 75)),
            unstructured(90, BOTH),
            two_of_four(),
        ),
    ),
    Plan(
        "MLP 1024",
        nets.mlp,
        (
            dense(),
            *(channels(percent) for percent in (25, 50, 75)),
            unstructured(90, BOTH),
            two_of_four(),
            block(4, 90, (None,)),
            block(4, 95, (None,)),
            block(16, 95, ("int8",)),
        ),
    ),
    Plan(
        "max pooling, unsafe",
        nets.pooled,
        (dense(), unstructured(90, FLOATS_AND_INT8)),
    ),
)
SHORT = (
    Plan(
        "MobileNetV1 96",
        lambda: nets.mobilenet_v1(96, 10),
        (
            dense(),
            channels(50),
            prepared_dense(),
            unstructured(90, prepared=True),
        ),
    ),
    Plan(
        "ResNet-8, CIFAR size",
        nets.resnet_cifar,
        (dense(), channels(50), two_of_four((None,))),
    ),
    Plan("MLP 1024", nets.mlp, (dense((None,)), block(4, 90, (None,)))),
    Plan(
        "max pooling, unsafe", nets.pooled, (dense((None,)), unstructured(90, (None,)))
    ),
)


def main() -> None:
    arguments = _arguments()
    if importlib.util.find_spec("matplotlib") is None:
        sys.exit("The picture needs matplotlib: pip install 'keras_pdp[benchmarks]'")
    if arguments.table:
        _again(arguments.table, arguments.results or arguments.table.parent)
        return
    start = time.perf_counter()
    made = circumstances() | {"command": _command(arguments)}
    rounds = arguments.rounds or (15 if arguments.short else 60)
    with _folder(arguments.files) as folder, _browser() as browser:
        measurements: list[Measurement] = []
        refused: list[Refused] = []
        for plan in SHORT if arguments.short else FULL:
            files, data = _exported(plan, folder, refused)
            print(f"{plan.name}: measuring {len(files)} files", flush=True)
            measurements += measure(plan.name, files, data, rounds, browser)
        made |= {
            "rounds": rounds,
            "seconds": round(time.perf_counter() - start),
            "chromium": browser and browser.version,
            "litertjs": browser and _litertjs(),
        }
    made["refused"] = [vars(each) for each in refused]
    name = "edge_short" if arguments.short else "edge"
    folder = arguments.results or RESULTS
    _write(folder, name, [row(each) for each in measurements], made)


def _again(table: Path, folder: Path) -> None:
    """Judges measurements by the goals of today."""
    try:
        rows, made = read(table)
    except ValueError as error:
        sys.exit(str(error))
    _write(folder, table.stem, rows, made)


def _write(folder: Path, name: str, rows: Sequence[Row], made: dict[str, Any]) -> None:
    """NAME.json, NAME.md, which it prints, and NAME.png."""
    found = outcomes(rows)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(as_json(rows, found, made))
    text = markdown(rows, found, made)
    (folder / f"{name}.md").write_text(text)
    print(text, flush=True)
    draw(rows, folder / f"{name}.png")


def _exported(
    plan: Plan, folder: Path, refused: list[Refused]
) -> tuple[list[Exported], npt.NDArray[np.float32]]:
    """The files of a plan, and inputs to run them on; adds to `refused`."""
    print(f"{plan.name}: building", flush=True)
    keras.utils.set_random_seed(nets.SEED)
    net = nets.calibrate(plan.net())
    data = nets.random_inputs(net, SAMPLES)
    files = []
    for variant in plan.variants:
        for file in exported(net, variant, data, folder):
            if isinstance(file, Refused):
                print(f"  {file.variant}, {file.precision}: {file.reason}", flush=True)
                refused.append(file)
                continue
            print(f"  {file.path.name}: {file.stored}, {file.verdict}", flush=True)
            files.append(file)
    return files, data


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.edge",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--rounds", type=int, help="default: 60, with --short 15")
    parser.add_argument("--files", type=Path, metavar="FOLDER")
    parser.add_argument(
        "--results",
        type=Path,
        metavar="FOLDER",
        help="default: benchmarks/results; with --table, the folder of F",
    )
    parser.add_argument("--table", type=Path, metavar="JSON")
    return parser.parse_args()


def _command(arguments: argparse.Namespace) -> str:
    words = ["python -m benchmarks.edge"]
    words += ["--short"] if arguments.short else []
    words += [f"--rounds {arguments.rounds}"] if arguments.rounds else []
    return " ".join(words)


@contextlib.contextmanager
def _folder(named: Path | None) -> Iterator[Path]:
    if named is None:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
    else:
        named.mkdir(parents=True, exist_ok=True)
        yield named


@contextlib.contextmanager
def _browser() -> Iterator[Browser | None]:
    if reason := missing():
        print(f"without the browser: {reason}")
        yield None
    else:
        with Browser() as browser:
            yield browser


def _litertjs() -> str:
    package = WEB / "node_modules" / "@litertjs" / "core" / "package.json"
    return str(json.loads(package.read_text())["version"])


if __name__ == "__main__":
    main()
