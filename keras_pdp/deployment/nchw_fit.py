"""Where an op may stand in the channels-first part of a graph, and why it may not."""

from dataclasses import dataclass
from enum import Enum


class Role(Enum):
    """Where an op may stand in the channels-first part of a graph."""

    START = "start"
    INSIDE = "inside"
    END = "end"
    OUTSIDE = "outside"


@dataclass(frozen=True)
class Fit:
    """The role of an op.

    Args:
        role: where it may stand.
        reason: why it may not stand inside, or, for a start, why it may not be one.
        advice: what to write instead.
    """

    role: Role
    reason: str = ""
    advice: str = ""


INSIDE = Fit(Role.INSIDE)
END = Fit(Role.END)


def outside(reason: str, advice: str) -> Fit:
    """The role of what may not be there."""
    return Fit(Role.OUTSIDE, reason, advice)
