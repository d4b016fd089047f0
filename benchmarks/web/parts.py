"""The parts that a measurement in the browser needs, and what to do without them."""

import os
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).parent

_BROWSERS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
)


class BrowserMissing(RuntimeError):
    """A part that a measurement in the browser needs is not on this machine."""


def chromium() -> str | None:
    """Chromium or Chrome: what `KERAS_PDP_CHROMIUM` names, else the first on the path.

    Returns:
        The path of the program, or `None`.
    """
    named = os.environ.get("KERAS_PDP_CHROMIUM")
    if named:
        return shutil.which(named)
    return next(filter(None, map(shutil.which, _BROWSERS)), None)


def missing(*, browser: bool = True) -> str | None:
    """Which part is missing and what to do, in one sentence; `None` if all are here.

    Args:
        browser: whether a browser is one of the parts; the page for people needs none.
    """
    return _missing_programs(browser) or _missing_packages()


def require() -> None:
    """Raises `BrowserMissing` with the sentence of `missing`."""
    if reason := missing():
        raise BrowserMissing(reason)


def set_up(*, browser: bool = True) -> None:
    """Installs the npm packages of `package-lock.json` into this folder.

    Args:
        browser: as of `missing`.

    Raises:
        BrowserMissing: a program is missing, or npm could not install.
    """
    if reason := _missing_programs(browser):
        raise BrowserMissing(reason)
    npm = shutil.which("npm")
    if npm is None:
        raise BrowserMissing(
            "npm is missing: install it, as with Debian's `apt-get install npm`"
        )
    command = [npm, "ci", "--ignore-scripts"]
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True)
    if done.returncode:
        last = "\n".join(done.stderr.strip().splitlines()[-5:])
        raise BrowserMissing(f"`npm ci` in {HERE.name}/ failed:\n{last}")


def _missing_programs(browser: bool) -> str | None:
    if browser and chromium() is None:
        return (
            "no Chromium: install one, as with Debian's `apt-get install chromium`, or "
            "name it in KERAS_PDP_CHROMIUM"
        )
    if shutil.which("node") is None:
        return "no Node.js: install it, as with Debian's `apt-get install nodejs npm`"
    return None


def _missing_packages() -> str | None:
    packages = ("@litertjs/core", "playwright-core")
    if all((HERE / "node_modules" / each).is_dir() for each in packages):
        return None
    return "the npm packages are not installed: `python -m benchmarks.web` does it"
