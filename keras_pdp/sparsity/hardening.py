"""How masks harden while the sparsity rises.

A soft mask lets through some of what it is to remove, and a net leans on that. What is
taken away at once, in the freezing, a short rest of the run does not bring back. So the
temperature of what a step computes with falls, from `tau` to `tau / harden`:
geometrically, as the mask depends on its logarithm. The temperature of what it learns
by stays: the gradient of a hard mask tells a weight nothing of the cut.
"""

from keras_pdp.sparsity import validation

# With the smallest tau (1e-30) the quotient is still a normal float32.
MOST = 1e6


def check(harden: object) -> float:
    """Returns `harden` as a float in [1, 1e6], or raises."""
    number = validation.real("harden", harden)
    if not 1.0 <= number <= MOST:
        raise ValueError(
            "`harden` is how many times harder the masks are at the final sparsity "
            "than when pruning begins, and should be between 1, which leaves them as "
            f"they are, and {MOST:.0e}. Received: {harden!r}."
        )
    return number


def hardness(harden: float, fraction: float) -> float:
    """What tau is divided by in the forward pass: `harden ** fraction`.

    Args:
        harden: At the final sparsity, at least 1.
        fraction: Of the final sparsity, from the schedule, in [0, 1].

    Returns:
        A float in [1, harden].
    """
    return harden**fraction
