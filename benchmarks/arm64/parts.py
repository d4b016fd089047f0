"""The parts of an ARM64 machine in a folder, without changing this machine.

QEMU in user mode runs single ARM64 programs on another processor. Version 10 is needed;
7.2 crashes in the runtime. It comes, as does an ARM64 Python, from Debian 13 by an apt
with lists and state of its own; the runtime is the wheel of the version installed here.
Only `apt-get download` and `pip install --target` are used: nothing is installed.
"""

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import distributions, version
from pathlib import Path

HERE = Path(__file__).parent
MACHINE = HERE / ".machine"
ROOT = MACHINE / "root"
SITE = MACHINE / "site"

SUITE = "trixie"
PYTHON = "3.13"
ARM_PACKAGES = (
    "libc6",
    "libexpat1",
    "libffi8",
    "libgcc-s1",
    f"libpython{PYTHON}-minimal",
    f"libpython{PYTHON}-stdlib",
    "libstdc++6",
    f"python{PYTHON}-minimal",
    "zlib1g",
)
_RUNTIME = "ai-edge-litert"
_TAG = f"cp{PYTHON.replace('.', '')}"
GLIBC = ("2_17", "2_27", "2_28")

_QEMU = MACHINE / "qemu-aarch64"
_LEAST_QEMU = 10
_WHO = (
    "import ai_edge_litert, platform; from importlib.metadata import version; "
    "print(platform.machine(), 'Python', platform.python_version(), "
    "'ai-edge-litert', version('ai-edge-litert'))"
)


class Arm64Missing(RuntimeError):
    """ARM64 programs don't run here, for a reason that it says."""


def launcher() -> list[str]:
    """How a Python with the runtime is started on ARM64: the words of the command.

    Raises:
        Arm64Missing: parts are missing, or of other versions than those that are asked
            for here; `python -m benchmarks.arm64` gets them.
    """
    if platform.machine() in ("aarch64", "arm64"):
        return [sys.executable]
    qemu = _qemu()
    reason = "no QEMU 10 or later" if qemu is None else _wrong_parts()
    if reason:
        raise Arm64Missing(
            f"no ARM64 machine in benchmarks/arm64: {reason}; "
            "`python -m benchmarks.arm64` gets one"
        )
    environment = ["-E", f"PYTHONPATH={SITE}"]
    return [str(qemu), "-L", str(ROOT), *environment, str(_python())]


def missing() -> str | None:
    """Why ARM64 programs don't run here, in one sentence; `None` if they do."""
    try:
        launcher()
    except Arm64Missing as error:
        return str(error)
    return None


def set_up() -> None:
    """Gets all parts into the folder, about 250 MB.

    Raises:
        Arm64Missing: apt, pip or a Debian mirror is missing, or failed.
    """
    if platform.machine() != "x86_64":
        raise Arm64Missing(f"no way known to run ARM64 on {platform.machine()}")
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            raise Arm64Missing(f"no {program}: the parts come from Debian packages")
    packages = [f"{name}:arm64" for name in ARM_PACKAGES]
    if _qemu() is None:
        packages.append("qemu-user:amd64")
    for file in _downloaded(packages):
        _unpacked(file)
    library = ROOT / "lib"  # where ARM64 programs look for their loader
    if not library.exists():
        library.symlink_to("usr/lib")
    _install_wheels()


def _qemu() -> Path | None:
    """QEMU of version 10 or later: ours, or one on the path."""
    for found in (_QEMU, shutil.which("qemu-aarch64")):
        if found is None or not Path(found).is_file():
            continue
        said = subprocess.run([found, "--version"], capture_output=True, text=True)
        number = re.search(r"version (\d+)", said.stdout)
        if number and int(number[1]) >= _LEAST_QEMU:
            return Path(found)
    return None


def _wrong_parts() -> str | None:
    """What the folder lacks, or has for another Python or of another version."""
    if not _python().is_file():
        return f"no Python {PYTHON} for ARM64"
    return wrong_wheels(SITE, {_RUNTIME: version(_RUNTIME), "numpy": None})


def wrong_wheels(site: Path, wanted: Mapping[str, str | None]) -> str | None:
    """What is wrong with the wheels of a folder, by what pip noted in it, or `None`.

    Args:
        site: the folder, as `pip install --target` filled it.
        wanted: the version by the name of the package; `None` takes any.
    """
    for name, number in wanted.items():
        found = list(distributions(name=name, path=[str(site)]))
        if len(found) != 1:
            return f"{len(found)} wheels of {name} instead of one"
        if number is not None and found[0].version != number:
            return f"{name} {found[0].version}, where {number} is installed here"
        if f"Tag: {_TAG}-" not in (found[0].read_text("WHEEL") or ""):
            return f"{name} is not for Python {PYTHON}"
    return None


def _python() -> Path:
    return ROOT / "usr" / "bin" / f"python{PYTHON}"


def _downloaded(packages: Sequence[str]) -> list[Path]:
    apt, folder = MACHINE / "apt", MACHINE / "packages"
    for each in (apt / "lists" / "partial", apt / "archives" / "partial", folder):
        each.mkdir(parents=True, exist_ok=True)
    (apt / "status").touch()
    (apt / "sources.list").write_text(f"deb {_mirror()} {SUITE} main\n")
    options = {
        "Dir::Etc::sourcelist": apt / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "Dir::State::lists": apt / "lists",
        "Dir::State::status": apt / "status",
        "Dir::Cache": apt,
        "Acquire::Languages": "none",
    }
    words = [
        word for key, value in options.items() for word in ("-o", f"{key}={value}")
    ]
    for architecture in ("amd64", "arm64"):
        words += ["-o", f"APT::Architectures::={architecture}"]
    _run(["apt-get", *words, "update"], folder)
    _run(["apt-get", *words, "download", *packages], folder)
    return sorted(folder.glob("*.deb"))


def _mirror() -> str:
    """The Debian mirror that this machine uses, or that `KERAS_PDP_DEBIAN` names."""
    if named := os.environ.get("KERAS_PDP_DEBIAN"):
        return named
    form = [
        "apt-get",
        "indextargets",
        "--format",
        "$(REPO_URI)",
        "Created-By: Packages",
    ]
    for address in subprocess.run(form, capture_output=True, text=True).stdout.split():
        if address.rstrip("/").endswith("/debian"):
            return address
    raise Arm64Missing(
        "apt has no Debian mirror here: name one in KERAS_PDP_DEBIAN, as an address "
        "that ends in /debian"
    )


def _unpacked(file: Path) -> None:
    if file.name.startswith("qemu-user_"):
        unpacked = MACHINE / "qemu"
        _run(["dpkg-deb", "-x", str(file), str(unpacked)], MACHINE)
        program = unpacked / "usr" / "bin" / _QEMU.name
        if not program.is_file():
            raise Arm64Missing(f"{file.name} has no /usr/bin/{_QEMU.name}")
        program.replace(_QEMU)
        shutil.rmtree(unpacked)
    else:
        _run(["dpkg-deb", "-x", str(file), str(ROOT)], MACHINE)
    file.unlink()


def _install_wheels() -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--upgrade"]
    command += ["--target", str(SITE), "--no-deps", "--only-binary=:all:"]
    command += ["--implementation", "cp", "--python-version", PYTHON]
    for each in GLIBC:
        command += ["--platform", f"manylinux_{each}_aarch64"]
    runtime = f"{_RUNTIME}=={version(_RUNTIME)}"
    # pip leaves what it noted of an older version beside the newer one
    shutil.rmtree(SITE, ignore_errors=True)
    _run([*command, runtime, "numpy"], MACHINE)


def who() -> str:
    """Which machine, Python and runtime it is, as it says itself.

    Raises:
        Arm64Missing: it does not start, with the last of what it said.
    """
    return _run([*launcher(), "-c", _WHO], HERE).strip()


def _run(command: Sequence[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        last = "\n".join(done.stderr.strip().splitlines()[-5:])
        raise Arm64Missing(
            f"`{' '.join(command[:3])} …` failed with {done.returncode}:\n{last}"
        )
    return done.stdout
