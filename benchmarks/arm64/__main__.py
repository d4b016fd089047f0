"""Gets an ARM64 machine into a folder and compares files on it.

python -m benchmarks.arm64                     gets the parts, tries the runtime
python -m benchmarks.arm64 a.tflite b.tflite   outputs on ARM64 against those here
"""

import argparse
import sys
from pathlib import Path

from benchmarks.agreement import (
    Unreadable,
    largest_difference,
    native_outputs,
    normal_inputs,
)
from benchmarks.arm64.machine import run
from benchmarks.arm64.parts import Arm64Missing, missing, set_up, who


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.arm64",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE")
    parser.add_argument("--samples", type=int, default=64, help="default: 64")
    arguments = parser.parse_args()
    try:
        if missing():
            set_up()
        print(who())
    except Arm64Missing as error:
        print(f"ARM64 can't be run: {error}", file=sys.stderr)
        return 1
    for path in arguments.files:
        try:
            inputs = normal_inputs(path, arguments.samples)
        except Unreadable as error:
            print(error, file=sys.stderr)
            return 1
        here, there = native_outputs(path, inputs), run(path, inputs)
        print(
            path.name, there.error or f"{largest_difference(here, there.outputs):.1e}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
