"""The benchmark of tiles, on few scores."""

import pytest

from benchmarks import tiles
from keras_pdp.sparsity import selection, threshold

SIZE = 3000


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(tiles, "FEW", (SIZE,))
    monkeypatch.setattr(tiles, "TURNS", 1)
    monkeypatch.setattr(tiles, "TILES", ((8, 8), (32, 16)))


def test_every_shape_and_one_column_take_their_time():
    found = dict(tiles.measured(SIZE))
    assert found.keys() == {(8, 8), (32, 16), (SIZE, 1)}
    assert min(found.values()) > 0


@pytest.mark.parametrize("rows, columns", [(8, 8), (32, 16), (SIZE, 1)])
def test_a_search_counts_in_the_tiles_it_was_traced_with(rows, columns):
    graph = tiles.search(SIZE, rows, columns).graph
    shapes = {tuple(t.shape) for op in graph.get_operations() for t in op.outputs}
    assert (-(-SIZE // (rows * columns)), rows, columns) in shapes
    assert (selection._ROWS, selection._COLUMNS) == (16, 8)


def test_a_wrong_answer_is_an_error(monkeypatch):
    monkeypatch.setattr(threshold, "neighbours", lambda s, k: (s[0], s[1]))
    monkeypatch.setattr(tiles, "SPARSITIES", [0.5])
    with pytest.raises(RuntimeError, match="tiles of"):
        dict(tiles.measured(SIZE))
