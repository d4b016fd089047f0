"""Which parts a measurement elsewhere needs, and what is said of those that are not."""

import shutil

import pytest

from benchmarks.arm64.parts import wrong_wheels
from benchmarks.web import parts


def wheel(site, name, version, tag="cp313-cp313-manylinux_2_27_aarch64"):
    folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Name: {name}\nVersion: {version}\n")
    (folder / "WHEEL").write_text(f"Wheel-Version: 1.0\nTag: {tag}\n")


@pytest.mark.parametrize(
    "wheels, said",
    [
        ([("ai-edge-litert", "2.3.0")], None),
        ([], "0 wheels of ai-edge-litert"),
        ([("ai-edge-litert", "2.2.0")], "2.3.0 is installed here"),
        ([("ai-edge-litert", "2.2.0"), ("ai-edge-litert", "2.3.0")], "2 wheels"),
        ([("ai-edge-litert", "2.3.0", "cp312-cp312-any")], "not for Python 3.13"),
    ],
)
def test_wheels_of_other_versions_are_not_taken(wheels, said, tmp_path):
    wheel(tmp_path, "numpy", "2.5.5")
    for each in wheels:
        wheel(tmp_path, *each)
    reason = wrong_wheels(tmp_path, {"ai-edge-litert": "2.3.0", "numpy": None})
    assert (reason is None) if said is None else (said in reason)


def test_the_page_for_people_needs_no_chromium(monkeypatch):
    real = shutil.which
    monkeypatch.setattr(parts, "chromium", lambda: None)
    assert "Chromium" in parts.missing()
    assert "Chromium" not in (parts.missing(browser=False) or "")
    monkeypatch.setattr(
        shutil, "which", lambda name: None if name == "node" else real(name)
    )
    assert "Node.js" in parts.missing(browser=False)
