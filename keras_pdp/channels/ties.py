"""Integer ids for channels, tied by union-find, pinned with a reason."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Ids: TypeAlias = NDArray[np.int64]


class Ties:
    """Hands out ids, ties them, and knows which of them have to stay and why.

    Tied ids live or die together; an id that is pinned pins all that are tied to it.

    Example:

    >>> ties = Ties()
    >>> conv, shortcut = ties.fresh(3), ties.fresh(3)
    >>> ties.tie(conv, shortcut)
    >>> (ties.roots(conv) == ties.roots(shortcut)).all()
    True
    """

    def __init__(self) -> None:
        self._parent: list[int] = []
        self._reason: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._parent)

    def fresh(self, count: int) -> Ids:
        """New ids, tied to nothing."""
        start = len(self._parent)
        self._parent.extend(range(start, start + count))
        return np.arange(start, start + count)

    def tie(self, one: Ids, other: Ids) -> None:
        """Ties two equally long arrays, element by element."""
        for a, b in zip(one.reshape(-1), other.reshape(-1), strict=True):
            first, second = sorted((self._root(int(a)), self._root(int(b))))
            self._parent[second] = first
            if second in self._reason:
                self._reason.setdefault(first, self._reason.pop(second))

    def pin(self, ids: Ids, reason: str) -> None:
        """Keeps channels whole; the first reason is the one that is told."""
        for each in np.unique(ids):
            self._reason.setdefault(self._root(int(each)), reason)

    def roots(self, ids: Ids) -> Ids:
        """One id that stands for all that are tied to it."""
        flat = [self._root(int(each)) for each in ids.reshape(-1)]
        return np.array(flat, np.int64).reshape(ids.shape)

    def all_roots(self) -> Ids:
        """The root of every id there is, by id."""
        return self.roots(np.arange(len(self._parent)))

    def reason(self, root: int) -> str | None:
        """Why a channel is pinned; None where it may go."""
        return self._reason.get(root)

    def _root(self, each: int) -> int:
        while self._parent[each] != each:
            self._parent[each] = self._parent[self._parent[each]]
            each = self._parent[each]
        return each
