"""What a net is pruned to: a share of its weights, a pattern, or channels."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Dense:
    """Nothing is pruned."""

    def __str__(self) -> str:
        return "dense"


@dataclass(frozen=True)
class Weights:
    """A share of all pruned kernels' weights, one budget for the net."""

    sparsity: float

    def __str__(self) -> str:
        return f"{self.sparsity:g}"


@dataclass(frozen=True)
class Pattern:
    """`keep` of every `of` weights along the inputs."""

    keep: int
    of: int

    def __str__(self) -> str:
        return f"{self.keep}:{self.of}"


@dataclass(frozen=True)
class Channels:
    """Whole channels, until this share of the net's parameters can be removed."""

    share: float

    def __str__(self) -> str:
        return f"channels-{self.share:g}"


Target = Dense | Weights | Pattern | Channels

DENSE = Dense()
TARGETS: tuple[Target, ...] = (
    *(Weights(share) for share in (0.5, 0.8, 0.9, 0.95, 0.98, 0.99)),
    Pattern(2, 4),
    Pattern(1, 4),
    Channels(0.5),
)


def target(text: str) -> Target:
    """The target that prints as `text`.

    Raises:
        ValueError: none does.
    """
    known = {str(each): each for each in (DENSE, *TARGETS)}
    if text not in known:
        raise ValueError(
            f"expected one of the targets {', '.join(known)}, received {text!r}"
        )
    return known[text]
