"""What `shrink` did, as a value that prints."""

import dataclasses
import json
from typing import Any


@dataclasses.dataclass(frozen=True)
class Change:
    """A number before and after.

    Args:
        before: Of the model that was given.
        after: Of the smaller one.
    """

    before: int
    after: int

    def __str__(self) -> str:
        part = self.after / self.before if self.before else 1.0
        return f"{self.before:,} -> {self.after:,} ({part:.1%})"


@dataclasses.dataclass(frozen=True)
class LayerChange:
    """The channels that one kernel makes.

    Args:
        name: The layer, for example `trunk/conv`.
        channels: How many it makes.
    """

    name: str
    channels: Change


@dataclasses.dataclass(frozen=True)
class ShrinkReport:
    """What became of a model's channels.

    Args:
        layers: Every kernel that makes channels.
        parameters: Weights of the model.
        macs: Multiply-accumulates of one sample in the layers that sum; an axis of
            unknown length counts as 1.
        held: Reason -> how many channels have a kernel of zeros and stay for it. Tied
            channels count once.
        gained_bias: Layers that got a bias, to hold the constants of what went.
        not_followed: Reason -> how many channels are out of reach whatever their
            weights, the model's inputs and outputs left out.
    """

    layers: tuple[LayerChange, ...]
    parameters: Change
    macs: Change
    held: dict[str, int]
    gained_bias: tuple[str, ...]
    not_followed: dict[str, int]

    @property
    def channels(self) -> Change:
        """Channels of all layers together."""
        before = sum(each.channels.before for each in self.layers)
        return Change(before, sum(each.channels.after for each in self.layers))

    def to_json(self) -> str:
        """The report as JSON."""
        content: dict[str, Any] = dataclasses.asdict(self)
        content["channels"] = dataclasses.asdict(self.channels)
        return json.dumps(content, indent=2)

    def __str__(self) -> str:
        lines = [
            f"channels    {self.channels}",
            f"parameters  {self.parameters}",
            f"MACs        {self.macs}",
        ]
        lines += _counted("dead channels that stay", self.held)
        lines += _counted("channels out of reach", self.not_followed)
        if self.gained_bias:
            lines.append(f"layers that got a bias: {', '.join(self.gained_bias)}")
        changed = [x for x in self.layers if x.channels.before != x.channels.after]
        width = max((len(each.name) for each in changed), default=0)
        lines += [f"  {each.name:<{width}}  {each.channels}" for each in changed]
        return "\n".join(lines)


def _counted(title: str, reasons: dict[str, int]) -> list[str]:
    if not reasons:
        return []
    ordered = sorted(reasons.items(), key=lambda item: -item[1])
    return [f"{title}:", *(f"  {count:>6}  {reason}" for reason, count in ordered)]
