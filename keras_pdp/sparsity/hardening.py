"""How masks harden between the end of the schedule and their freezing.

A soft mask lets through some of what it is to remove, and a net leans on that. What is
taken away at once, in the freezing, a short rest of the run does not bring back. So the
temperature falls before, from `tau` to `tau / harden`: geometrically, as the mask
depends on its logarithm.
"""

import math

from keras_pdp.sparsity import validation
from keras_pdp.sparsity.schedule import Moment, Position, elapsed

# With the smallest tau (1e-30) the quotient is still a normal float32.
MOST = 1e6


def check(harden: object) -> float:
    """Returns `harden` as a float in [1, 1e6], or raises."""
    number = validation.real("harden", harden)
    if not 1.0 <= number <= MOST:
        raise ValueError(
            "`harden` is how many times harder the masks are when they are frozen and "
            f"should be between 1, which leaves them as they are, and {MOST:.0e}. "
            f"Received: {harden!r}."
        )
    return number


def hardness(
    harden: float, begin: Moment | None, end: Moment | None, position: Position
) -> float:
    """What tau is divided by: `harden ** p`, with p from 0 at `begin` to 1 at `end`.

    Args:
        harden: At the end, at least 1.
        begin: When the schedule is complete; None where it does not say, which leaves
            the masks as they are.
        end: When they are frozen; None for the end of the run.
        position: Where the run stands.

    Returns:
        A float in [1, harden].
    """
    if begin is None:
        return 1.0
    first = _fraction(begin, position)
    last = 1.0 if end is None else _fraction(end, position)
    done = position.fraction
    if done <= first:
        return 1.0
    if done >= last:
        return harden
    return harden ** ((done - first) / (last - first))


def _fraction(moment: Moment, position: Position) -> float:
    """The moment as a fraction of the run, by the pace of the run so far."""
    now, then = elapsed(moment, position)
    if now > 0.0:
        return position.fraction * (then / now)
    return math.inf if then > 0.0 else 0.0
