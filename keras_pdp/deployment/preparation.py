"""What a preparation changed, as a value that prints."""

import dataclasses
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Change:
    """One layer that was rewritten.

    Args:
        layer: its name.
        what: what became of it.
        exact: whether the model computes the same function as before, but for rounding.
    """

    layer: str
    what: str
    exact: bool

    def __str__(self) -> str:
        return f"{self.layer}: {self.what}{'' if self.exact else ' (not the same)'}"


@dataclass(frozen=True)
class Preparation:
    """What `prepare_for_sparse_inference` changed.

    Args:
        name: the model.
        changes: in the order of the layers; empty where nothing had to change.
        open_ended: whether the model gives maps, so that a head is to be added:
            `GlobalAveragePooling2D()` and Dense layers.
    """

    name: str
    changes: tuple[Change, ...]
    open_ended: bool

    @property
    def exact(self) -> bool:
        """Whether the model computes the same function as before."""
        return all(change.exact for change in self.changes)

    def to_dict(self) -> dict[str, Any]:
        """All fields and `exact`, ready for `json.dump`."""
        return dataclasses.asdict(self) | {
            "changes": [dataclasses.asdict(change) for change in self.changes],
            "exact": self.exact,
        }

    def __str__(self) -> str:
        same = "the same function" if self.exact else "not the same function: train it"
        lines = [f"{self.name} for sparse inference, {same}"]
        lines += [f"  {change}" for change in self.changes] or ["  nothing to change"]
        if self.open_ended:
            lines.append("  end it with GlobalAveragePooling2D() and Dense layers")
        return "\n".join(lines)
