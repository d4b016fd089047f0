"""What the edge benchmark says of its measurements, and that JSON keeps all of it."""

import json
import math
from dataclasses import replace

import pytest

from benchmarks.edge_goals import outcomes
from benchmarks.edge_measure import Speed
from benchmarks.edge_report import markdown
from benchmarks.edge_rows import Row, as_json, read

MADE = {
    "command": "python -m benchmarks.edge",
    "date": "2026-11-22",
    "versions": {"keras": "3.15.1"},
    "chromium": "1",
    "litertjs": "2",
    "machine": {
        "architecture": "x86_64",
        "cpu": "a processor",
        "vector_extensions": ["avx"],
        "cores": 2,
        "load_average_at_start": [0.1, 0.1, 0.1],
    },
    "refused": [],
}
SPEED = Speed(ms=2.0, over_dense=1.5, over_int8=math.nan, load_ms=3.0)
DENSE = Row(
    net="a net",
    variant="dense",
    precision="float32",
    stored="dense",
    verdict="–",
    blocks=False,
    macs=1000,
    nonzero_macs=100,
    raw_bytes=4000,
    gzip_bytes=2000,
    dense_raw_bytes=4000,
    dense_gzip_bytes=2000,
    native=SPEED,
    browser=SPEED,
    keras_difference=1e-7,
    twin_difference=None,
    twin_identical=None,
    browser_difference=1e-7,
    browser_error="",
)
SPARSE = replace(
    DENSE,
    variant="unstructured 90 %",
    stored="sparse",
    raw_bytes=1000,
    twin_difference=0.0,
    twin_identical=True,
)
FAILED = replace(
    DENSE,
    precision="int8",
    browser=None,
    browser_difference=None,
    browser_error="no memory |\nfor this",
)


def judged(rows, words):
    (outcome,) = [each for each in outcomes(rows) if words in each.goal]
    return outcome


@pytest.mark.parametrize(
    "changes, reached",
    [
        ({}, True),
        ({"twin_identical": False}, False),  # also where the rms rounds to 0
        ({"twin_difference": 1e-9, "twin_identical": False}, False),
        ({"twin_identical": None}, True),
        ({"twin_identical": None, "twin_difference": 1e-9}, False),
    ],
)
def test_twins_are_the_same_to_the_bit(changes, reached):
    outcome = judged([DENSE, replace(SPARSE, **changes)], "twins")
    assert outcome.reached == reached
    assert (SPARSE.name in outcome.measured) == (not reached)
    unknown = changes.get("twin_identical", True) is None
    assert ("by rms" in outcome.measured) == unknown


def test_blocks_need_not_be_the_same_to_the_bit():
    blocks = replace(SPARSE, blocks=True, twin_identical=False, twin_difference=1e-7)
    assert judged([blocks, SPARSE], "twins").reached


@pytest.mark.parametrize(
    "precision, reached", [("float32", False), ("float16", False), ("int8", True)]
)
def test_wrong_outputs_of_float_files_are_named(precision, reached):
    wrong = replace(SPARSE, precision=precision, browser_difference=0.5)
    outcome = judged([DENSE, wrong], "difference in the browser")
    assert outcome.reached == reached
    assert (wrong.name in outcome.measured) == (not reached)


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_a_file_that_does_not_run_in_the_browser_is_shown_with_its_reason(precision):
    failed = replace(FAILED, precision=precision)
    outcome = judged([DENSE, failed], "do not run")
    assert not outcome.reached
    assert failed.browser_error in outcome.measured
    assert judged([DENSE], "do not run").reached


def test_a_goal_for_a_file_that_does_not_run_is_not_dropped():
    row = replace(
        FAILED,
        net="MobileNetV1 224",
        variant="unstructured 90 %, prepared",
        precision="float32",
    )
    outcome = judged([row], "prepared, in the browser: times faster than")
    assert (outcome.reached, outcome.measured) == (False, "does not run")


def test_reasons_stay_in_their_cell():
    text = markdown([DENSE, FAILED], outcomes([DENSE, FAILED]), MADE)
    (line,) = [line for line in text.splitlines() if line.startswith("| dense | int8")]
    assert "no memory \\| for this" in line


def test_json_keeps_what_the_tables_need(tmp_path):
    wrong = replace(SPARSE, twin_difference=math.inf, browser_difference=math.inf)
    rows = [DENSE, SPARSE, wrong, FAILED]
    file = tmp_path / "edge.json"
    file.write_text(as_json(rows, outcomes(rows), MADE))
    again, made = read(file)
    assert made == MADE
    assert repr(again) == repr(rows)  # NaN is not equal to itself
    assert markdown(again, outcomes(again), made) == markdown(
        rows, outcomes(rows), MADE
    )


def test_the_first_results_had_no_bytes_compared(tmp_path):
    found = json.loads(
        as_json([SPARSE, replace(SPARSE, variant="block 1x4", blocks=True)], [], MADE)
    )
    for each in found["files"]:
        del each["blocks"], each["twin_identical"]
    file = tmp_path / "edge.json"
    file.write_text(json.dumps(found))
    (sparse, block), _ = read(file)
    assert sparse == replace(
        SPARSE, twin_identical=None, native=sparse.native, browser=sparse.browser
    )
    assert block.blocks and not sparse.blocks


@pytest.mark.parametrize("text", ["no JSON", "{}", "[]", '{"goals": [], "files": [1]}'])
def test_what_are_no_results_is_said(text, tmp_path):
    file = tmp_path / "edge.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"benchmarks\.edge.*edge\.json"):
        read(file)
