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

from benchmarks.web.browser import Browser, Job
from benchmarks.web.compare import HEAD, jobs, line
from benchmarks.web.parts import HERE, BrowserMissing, chromium, missing, set_up

PORT = 8642


def main() -> int:
    arguments = _arguments()
    try:
        # before a browser is started, or packages are installed for it
        given = jobs(arguments.files, arguments.repeats)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    try:
        # the page is opened in a browser of the reader's own
        browser_too = not arguments.page
        if missing(browser=browser_too):
            set_up(browser=browser_too)
        if arguments.page:
            return _page(arguments.port)
        if arguments.picture:
            return _picture(arguments.picture, arguments.files)
        with Browser() as browser:
            print(f"Chromium {browser.version}, LiteRT.js: ready")
            if given:
                _measure(browser, arguments.files, given)
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
    parser.add_argument("--repeats", type=_at_least_one, default=40, help="default: 40")
    parser.add_argument("--picture", type=Path, metavar="PNG")
    parser.add_argument("--page", action="store_true", help="serve the page for people")
    parser.add_argument("--port", type=int, default=PORT, help=f"default: {PORT}")
    arguments = parser.parse_args()
    if arguments.picture and not arguments.files:
        parser.error("--picture needs files to measure")
    return arguments


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


def _measure(browser: Browser, files: list[Path], given: list[Job]) -> None:
    results = browser.run(given)
    print(HEAD)
    for path, result in zip(files, results, strict=True):
        print(line(path, results[0], result))


def _at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, received {number}")
    return number


if __name__ == "__main__":
    sys.exit(main())
