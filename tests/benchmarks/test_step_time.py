"""The step time benchmark: the same nets for all, what it tells from its rows."""

import importlib.util
import itertools
import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from benchmarks import step_time
from benchmarks.step_time_frameworks import FRAMEWORKS
from benchmarks.step_time_nets import NETS, Net
from benchmarks.step_time_ours import sort_for_search, sorted_neighbours
from benchmarks.step_time_report import goals, markdown, overview
from benchmarks.step_time_turns import SKIPPED, compared, in_turn
from keras_pdp.sparsity import threshold

ROOT = Path(__file__).parents[2]
NET = replace(NETS["small"], steps=3)
SLOW = NETS["mobilenet"]

# Weights of the nets, as Keras 2 builds them, which needs a process of its own.
KERAS_2 = """
import json, sys, tf_keras
from benchmarks.step_time_nets import NETS
found = {name: NETS[name].build(tf_keras).count_params() for name in sys.argv[1:]}
print(json.dumps(found))
"""


def row(variant, ratio, first=1.0):
    return {
        "variant": variant,
        "pruned": 0 if variant == "dense" else 1_000,
        "sparsity": 0.9,
        "steps": 3,
        "median_ms": 10 * ratio,
        "ratio": ratio,
        "first_s": first,
        "peak_mb": 500.0,
    }


def record(framework="keras", net=NET, mode="graph", ratios=(), firsts=(), **changes):
    """Of a framework's trainings with those ratios; 1 where there are none."""
    variants = FRAMEWORKS[framework].variants
    rows = [
        row(v, dict(ratios).get(v, 1.0), dict(firsts).get(v, 1.0)) for v in variants
    ]
    return {
        "net": net.name,
        "mode": mode,
        "framework": framework,
        "date": "2026-11-23",
        "python": "3.11",
        "machine": "x86_64",
        "cores": 2,
        "versions": {"keras": "3.15"},
        "rows": rows,
        **changes,
    }


def line_of(said, what):
    (line,) = [line for line in said if what in line]
    return line


def test_both_versions_of_keras_build_the_same_nets():
    if importlib.util.find_spec("tf_keras") is None:
        pytest.skip("tf_keras is not installed: pip install 'keras_pdp[peers]'")
    environment = {**os.environ, "TF_USE_LEGACY_KERAS": "1"}
    names = [name for name in NETS if name != SLOW.name]  # which comes with Keras
    told = subprocess.check_output(
        [sys.executable, "-c", KERAS_2, *names], cwd=ROOT, env=environment, text=True
    )
    ours = {name: NETS[name].build(keras).count_params() for name in names}
    assert json.loads(told.splitlines()[-1]) == ours


def test_nets_are_of_the_sizes_that_they_are_called_after():
    assert NETS["small"].build(keras).count_params() == 98_778  # as in the quick start
    layers = NETS["resnet20"].build(keras).layers
    short = [each for each in layers if getattr(each, "kernel_size", None) == (1, 1)]
    weighted = [each for each in layers if isinstance(each, (Conv2D, Dense))]
    assert len(weighted) - len(short) == 20


Conv2D, Dense = keras.layers.Conv2D, keras.layers.Dense


@pytest.mark.parametrize("pruned", [1, 30, 99])
def test_the_sort_finds_what_the_search_finds(pruned):
    values = np.random.default_rng(pruned).choice([0.0, 0.25, 0.5, 1.5, 2.0], 100)
    scores = ops.convert_to_tensor(values.astype("float32"))
    count = ops.convert_to_tensor(pruned, "int32")
    found = [float(each) for each in sorted_neighbours(scores, count)]
    assert found == [float(each) for each in threshold.neighbours(scores, count)]


def test_the_sort_is_in_place_only_inside_and_its_use_is_checked():
    search = threshold.neighbours
    scores, count = ops.convert_to_tensor([3.0, 1.0, 2.0]), ops.convert_to_tensor(2)
    with sort_for_search():
        assert threshold.neighbours is not search
        assert [float(each) for each in threshold.neighbours(scores, count)] == [2, 3]
    assert threshold.neighbours is search
    with pytest.raises(RuntimeError, match="traced anew"), sort_for_search():
        pass
    assert threshold.neighbours is search


def test_all_take_their_turns_and_the_first_ones_are_not_timed():
    taken = []
    steps = {name: lambda name=name: taken.append(name) for name in "abc"}
    times = in_turn(steps, 4)
    assert {name: len(measured) for name, measured in times.items()} == dict.fromkeys(
        "abc", 4
    )
    turns = [taken[i : i + 3] for i in range(0, len(taken), 3)]
    assert len(turns) == SKIPPED + 4
    assert all(sorted(turn) == ["a", "b", "c"] for turn in turns)


def test_none_always_follows_the_same_one():
    taken = []
    in_turn({name: lambda name=name: taken.append(name) for name in "abcde"}, 60)
    after = Counter(itertools.pairwise(taken))
    for name in "abcde":
        before = [after[other, name] for other in "abcde" if other != name]
        assert max(before) < 2 * sum(before) / len(before)


def test_what_took_fewer_turns_is_compared_with_the_dense_steps_of_those():
    times = {"dense": [1.0, 1.0, 1.0, 9.0, 9.0, 9.0], "slow": [2.0, 2.0, 3.0]}
    found = compared(times)
    assert (found["slow"]["ratio"], found["slow"]["steps"]) == (2.0, 3)
    assert found["dense"]["ratio"] == 1.0


@pytest.mark.parametrize(
    "mode, variant, ratio, goal, verdict",
    [
        ("graph", "ours, ramp", 1.05, "goal 1.05", "reached"),
        ("graph", "ours, ramp", 1.051, "goal 1.05", "missed"),
        ("XLA", "ours, ramp", 1.04, "goal 1.03", "missed"),
        ("graph", "ours, warm-up", 1.01, "goal 1.01", "reached"),
        ("XLA", "ours, frozen tail", 1.02, "goal 1.01", "missed"),
    ],
)
def test_goals_are_told_with_their_figures(mode, variant, ratio, goal, verdict):
    measured = record(mode=mode, ratios={variant: ratio})
    said = goals([NET], [measured])
    line = line_of(said, f"{mode}, {variant}: ")
    assert f"{ratio:.3f}" in line and goal in line
    assert line.endswith(f"{verdict}.")


@pytest.mark.parametrize("name, goal", [("transformer", 1.09), ("mlp", 1.25)])
def test_each_kind_of_net_has_its_goal_in_graph_mode(name, goal):
    net: Net = NETS[name]
    said = goals([net], [record(net=net, ratios={"ours, ramp": goal})])
    assert line_of(said, "graph, ours, ramp: ").endswith(f"goal {goal}: reached.")


@pytest.mark.parametrize("first, verdict", [(3.0, "reached"), (3.1, "missed")])
def test_a_first_step_is_compared_with_the_dense_one(first, verdict):
    firsts = dict.fromkeys(FRAMEWORKS["keras"].variants, 2.0) | {"ours, ramp": first}
    said = goals([NET], [record(firsts=firsts)])
    line = line_of(said, "first step of ours, ramp")
    assert f"{first / 2:.2f}" in line and line.endswith(f"{verdict}.")


@pytest.mark.parametrize("theirs, verdict", [(1.2, "reached"), (1.1, "missed")])
def test_ours_is_compared_with_every_peer(theirs, verdict):
    ours = record(ratios={"ours, ramp": 1.1})
    peer = record("tfmot", ratios={"tfmot, every step": theirs})
    line = line_of(goals([NET], [ours, peer]), "below tfmot, every step")
    assert "1.100" in line and f"{theirs:.3f}" in line
    assert line.endswith(f"{verdict}.")


def test_a_peer_that_can_not_has_its_reason_in_table_and_goals():
    peer = record("pquant")
    peer["rows"] = [
        {"variant": "dense"},
        {"variant": "PQuantML's PDP", "reason": "is not installed: no | such module"},
    ]
    records = [record(), peer]
    (line,) = [
        line
        for line in markdown([NET], records).splitlines()
        if line.startswith("| PQuantML's PDP")
    ]
    assert "no \\| such module" in line
    told = line_of(goals([NET], records), "below PQuantML's PDP")
    assert "is not installed" in told
    assert "reached" not in told and "missed" not in told


def test_what_was_not_measured_is_told():
    said = goals([NET, SLOW], [record(net=SLOW)])
    assert line_of(said, f"{NET.title}, graph").endswith("not measured.")
    assert "left out" in line_of(said, f"{SLOW.title}, XLA")


def test_the_overview_has_every_ratio_and_a_dash_where_there_is_none():
    peer = record("tfmot", ratios={"tfmot, every step": 1.234})
    peer["rows"][1] = {"variant": "tfmot, every 100 steps", "reason": "fails: so"}
    records = [record(ratios={"ours, ramp": 1.056}), peer]
    head, _, row = overview([NET, SLOW], records, ["graph"]).splitlines()
    told = dict(zip(head.split("|")[2:-1], row.split("|")[2:-1], strict=True))
    assert row.startswith(f"| {NET.title}, graph |")
    assert told[" ours, ramp "] == " 1.06 "
    assert told[" tfmot, every 100 steps "] == " – "
    assert told[" tfmot, every step "] == " 1.23 "
    assert told[" PQuantML's PDP "] == " – "


def test_rows_of_a_table_are_as_long_as_its_head():
    peer = record("tfmot")
    peer["rows"][1] = {"variant": "tfmot, every 100 steps", "reason": "fails: so"}
    text = markdown([NET], [record(), peer])
    for table in text.split("\n\n"):
        lines = table.splitlines()
        assert len({line.count("|") for line in lines if line.startswith("|")}) <= 1
    lines = text.splitlines()
    assert "| Keras 3, dense |  |  | 3 | 10.00 | 1.000 | 1.00 | 1.00 |" in "\n".join(
        lines
    )


def test_a_full_run_leaves_slow_cases_out_and_a_resumed_one_what_is_there():
    every = list(step_time.cases([NET, SLOW], ["graph", "XLA"], slow=False))
    assert not any(case.net is SLOW and case.mode == "XLA" for case in every)
    assert len(every) == 3 * len(FRAMEWORKS)
    asked = list(step_time.cases([SLOW], ["XLA"], slow=True))
    assert [case.framework for case in asked] == list(FRAMEWORKS)
    there = [case for case in every if case.is_in([record("tfmot")])]
    assert [str(case) for case in there] == [f"{NET.name}, graph, tfmot"]


def test_a_peer_that_does_not_run_is_a_result_and_ours_a_fault():
    nowhere = dict.fromkeys(FRAMEWORKS, "/no/such/python")
    processes = step_time.Processes(nowhere)
    found = processes.measure(step_time.Case(NET, "graph", "pquant"))
    assert all("does not run" in each["reason"] for each in found["rows"])
    with pytest.raises(step_time.Failed, match="does not run"):
        processes.measure(step_time.Case(NET, "graph", "keras"))


def test_the_picture_is_drawn(tmp_path):
    pytest.importorskip("matplotlib", reason="the picture needs matplotlib")
    from benchmarks.step_time_picture import draw

    peer = record("pquant")
    peer["rows"][1] = {"variant": "PQuantML's PDP", "reason": "fails: so"}
    path = tmp_path / "step_time.png"
    draw([NET, SLOW], [record(ratios={"ours, ramp": 1.1}), peer], ["graph"], path)
    assert path.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="received none"):
        draw([NET], [], ["graph"], tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()
