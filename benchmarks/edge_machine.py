"""On what and with what a measurement was made."""

import datetime
import os
import platform
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

_PACKAGES = ("tensorflow", "keras", "ai-edge-litert", "numpy")


def circumstances() -> dict[str, Any]:
    """Date, versions and the kind of machine; no name of it."""
    return {
        "date": datetime.date.today().isoformat(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in _PACKAGES},
        "node": _node(),
        "machine": {
            "architecture": platform.machine(),
            "cpu": _cpu("model name"),
            "vector_extensions": _vector_extensions(),
            "cores": os.cpu_count(),
            "load_average_at_start": [round(each, 2) for each in os.getloadavg()],
        },
    }


def _node() -> str | None:
    if shutil.which("node") is None:
        return None
    command = ["node", "--version"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def _cpu(field: str) -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == field:
            return value.strip()
    return platform.processor()


def _vector_extensions() -> list[str]:
    known = ("sse4_2", "avx", "avx2", "fma", "avx512f", "avx512_vnni", "amx_int8")
    flags = _cpu("flags").split()
    return [each for each in known if each in flags]
