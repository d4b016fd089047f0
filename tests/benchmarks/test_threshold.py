"""The threshold benchmark: what it tells from its rows."""

import pytest

from benchmarks import threshold


def result(reads, size=1_000_000, **changes):
    row = {"size": size, "read_ms": 0.5, "ours_ms": 0.5 * reads, "partition_ms": 9.0}
    return {"engine": "JAX", "version": "0.10", "rows": [row], **changes}


@pytest.mark.parametrize(
    "size, reads, verdict",
    [
        (1_000_000, 20, "reached"),
        (1_000_000, 21, "missed"),
        (24_000_000, 30, "reached"),
        (24_000_000, 31, "missed"),
    ],
)
def test_a_goal_is_told_with_its_figures(size, reads, verdict):
    (said,) = threshold.goals([result(reads, size)])
    assert f"{size:,} scores: {reads} reads" in said
    assert said.endswith(f"{verdict}.")


def test_what_a_step_would_pay_at_the_largest_size():
    (said,) = threshold.largest([result(1000, 100_000_000), result(3)])
    assert "100,000,000 scores: 0.50 s" in said


def test_an_engine_that_does_not_run_has_its_reason_in_the_table():
    text = threshold.table([{"engine": "JAX", "reason": "no such module"}], "today")
    assert "| JAX | no such module |" in text
    assert "reached" not in text and "missed" not in text


def test_the_picture_is_drawn(tmp_path):
    pytest.importorskip("matplotlib", reason="the picture needs matplotlib")
    from benchmarks.threshold_picture import draw

    path = tmp_path / "threshold.png"
    draw([result(3), {"engine": "PyTorch", "reason": "is not there"}], path)
    assert path.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="received none"):
        draw([{"engine": "JAX", "reason": "is not there"}], tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()
