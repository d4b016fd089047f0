"""Sets the gates of coupled channels, from the weights as they are now."""

from collections.abc import Collection, Sequence

import numpy as np

from keras_pdp.training.coupling import Group
from keras_pdp.training.pruned_channels import PrunedChannels, mean_squares

# A margin at which the sigmoid is 1 in float32.
_OPEN = 1e4
# What float32 holds, where scores at the cut are 0 or tau is tiny.
_STEEPEST = 1e30


class ChannelGates:
    """The groups that are pruned as one, and how many of their channels go.

    What it needs is in the kernels' variables: it may be made anew at any moment.
    """

    def __init__(
        self, groups: Sequence[Group], frozen: Collection[int] = frozenset()
    ) -> None:
        self._frozen = frozen  # ids of kernels whose masks are stored
        self.groups = [group for group in groups if group.members[0].kernel.coupled]
        found = {id(m.kernel): m.kernel for g in self.groups for m in g.members}
        self._kernels: list[PrunedChannels] = list(found.values())
        self._goals = [int(_at(group, "goal")) for group in self.groups]
        self._taus = [float(_at(group, "tau")) for group in self.groups]
        # Sparsity never falls: what is pruned in a restored model stays so.
        self._pruned = [_pruned_now(group) for group in self.groups]

    def raise_to(self, fraction: float) -> None:
        """Sets the gates for a fraction of the final sparsity, in [0, 1]."""
        wanted = [round(fraction * goal) for goal in self._goals]
        self._pruned = [max(pair) for pair in zip(wanted, self._pruned, strict=True)]
        if not any(self._goals) and not any(self._pruned):
            return
        squares = squares_of(self._kernels)
        units = {id(kernel): kernel.units for kernel in self._kernels}
        margins = {key: np.full(n, _OPEN, "float32") for key, n in units.items()}
        shares = {key: np.zeros(n, "float32") for key, n in units.items()}
        keeps = {key: np.ones(n, bool) for key, n in units.items()}
        for group, pruned, tau in zip(
            self.groups, self._pruned, self._taus, strict=True
        ):
            if not pruned:
                continue
            scores = group.scores(squares)
            margin = (scores - cut(scores, pruned)) / tau
            margin = np.clip(margin, -_STEEPEST, _STEEPEST)
            keep = kept(scores, pruned)
            for member in group.members:
                if id(member.kernel) in self._frozen:
                    # Who joins channels that are frozen takes what they have.
                    keep[member.at] = member.kernel.keep.numpy()[member.places]
                    margin = np.where(keep, _OPEN, -_OPEN)
            for member in group.members:
                margins[id(member.kernel)][member.places] = margin[member.at]
                keeps[id(member.kernel)][member.places] = keep[member.at]
            scoring = list(group.means(squares))
            for member, mean in scoring:
                slope = min(1.0 / (len(scoring) * mean * tau), _STEEPEST)
                shares[id(member.kernel)][member.places] = slope
        for key, kernel in zip(units, self._kernels, strict=True):
            if key in self._frozen:
                continue
            # Also where nothing goes yet: the count that a kernel heads for may be 1
            # before any of its groups has lost a channel.
            kernel.margin.assign(margins[key])
            kernel.share.assign(shares[key])
            kernel.keep.assign(keeps[key])
            kernel.pruned.assign(int(np.count_nonzero(~keeps[key])))


def squares_of(kernels: Sequence[PrunedChannels]) -> dict[int, np.ndarray]:
    """The mean squares of the kernels' channels, by `id(kernel)`."""
    if not kernels:
        return {}
    keys = [id(kernel) for kernel in kernels]
    return dict(zip(keys, mean_squares(kernels), strict=True))


def cut(scores: np.ndarray, pruned: int) -> float:
    """`t^2`, where t is midway between the scores on either side of the cut."""
    low, high = np.sqrt(np.sort(scores)[pruned - 1 : pruned + 1])
    return float((0.5 * (low + high)) ** 2)


def kept(scores: np.ndarray, pruned: int) -> np.ndarray:
    """Which channels stay, by rank; of equal ones the first."""
    last_first = np.arange(len(scores))[::-1]
    keep = np.ones(len(scores), bool)
    keep[np.lexsort((last_first, scores))[:pruned]] = False
    return keep


def _at(group: Group, state: str) -> float:
    member = group.members[0]
    return float(np.asarray(getattr(member.kernel, state).numpy())[member.places[0]])


def _pruned_now(group: Group) -> int:
    member = group.members[0]
    gone = ~np.asarray(member.kernel.keep.numpy())[member.places]
    return len(np.unique(member.at[gone]))
