"""Sets up and runs measurements in the browser.

python -m benchmarks.web                     installs the packages, tries the browser
python -m benchmarks.web a.tflite b.tflite   also measures files, in turns
python -m benchmarks.web --page              the page for people, on localhost
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.agreement import largest_difference, normal_inputs
from benchmarks.web.browser import Browser, Job
from benchmarks.web.parts import HERE, BrowserMissing, chromium, missing, set_up

PORT = 8642


def main() -> int:
    arguments = _arguments()
    try:
        if missing():
            set_up()
        if arguments.page:
            return _page(arguments.port)
        if arguments.picture:
            return _picture(arguments.picture, arguments.files)
        with Browser() as browser:
            print(f"Chromium {browser.version}, LiteRT.js: ready")
            if arguments.files:
                _measure(browser, arguments.files, arguments.repeats)
    except BrowserMissing as error:
        print(f"The browser can't be measured: {error}", file=sys.stderr)
        return 1
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.web",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE")
    parser.add_argument("--repeats", type=int, default=40, help="default: 40")
    parser.add_argument("--picture", type=Path, metavar="PNG")
    parser.add_argument("--page", action="store_true", help="serve the page for people")
    parser.add_argument("--port", type=int, default=PORT, help=f"default: {PORT}")
    return parser.parse_args()


def _page(port: int) -> int:
    command = [str(shutil.which("node")), str(HERE / "serve.mjs"), str(port)]
    try:
        return subprocess.run(command).returncode
    except KeyboardInterrupt:
        return 0


def _picture(picture: Path, files: list[Path]) -> int:
    with tempfile.TemporaryDirectory() as profile:
        command = ["node", str(HERE / "picture.mjs"), str(chromium()), profile]
        return subprocess.run([*command, picture, *files]).returncode


def _measure(browser: Browser, files: list[Path], repeats: int) -> None:
    """Prints load time, latency and how far the outputs are from the first file's."""
    inputs = normal_inputs(files[0])
    results = browser.run([Job(path, inputs, repeats) for path in files])
    first = results[0]
    print(f"{'file':<32}{'load ms':>9}{'median ms':>11}{'ratio':>7}  difference")
    for path, result in zip(files, results, strict=True):
        if result.error:
            print(f"{path.name:<32}  {result.error}")
            continue
        # the median of the rounds' ratios: both files of a round saw the same machine
        ratio = np.median(first.latencies_ms / result.latencies_ms)
        print(
            f"{path.name:<32}{result.load_ms:>9.1f}{result.median_ms:>11.3f}"
            f"{ratio:>7.2f}  {largest_difference(first.outputs, result.outputs):.1e}"
        )


if __name__ == "__main__":
    sys.exit(main())
