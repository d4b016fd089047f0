"""Shares a budget out among groups of channels, in what their removal really saves.

A channel that goes is a column of one kernel and a row of the next, so what two layers
save together is a product. The budget is therefore not met in a sum over channels: the
allocation is asked again and again, for more or for less, until the exact cost of the
model that remains has fallen by the budget.
"""

import dataclasses
import math
import warnings
from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np

from keras_pdp.channels.trace import Work
from keras_pdp.sparsity.allocation import Candidate
from keras_pdp.sparsity.layer_adaptive import Relative, relative
from keras_pdp.training import channel_gates
from keras_pdp.training.compiled import number
from keras_pdp.training.coupling import Coupling, Group

Shares = Callable[[Mapping[str, Candidate], float], Mapping[str, float]]

NOT_FOLLOWED = "its channels can't be followed through the model"
_MOST = 1.0 - 1e-9  # an allocation takes a sparsity below 1
_ROUNDED = 1.0 - 1e-12  # 0.55 * 1500 is a little more than 825
_NARROWEST = 0.01  # the range of scores below the cut, of the cut


class Price:
    """What a model costs when so many channels of each group are gone."""

    def __init__(
        self, works: Sequence[Work], coupling: Coupling, groups: Sequence[Group]
    ) -> None:
        ties = coupling.trace.ties
        owner = np.full(len(ties), len(groups))
        for index, group in enumerate(groups):
            owner[group.roots] = index
        channels = np.array([*(group.channels for group in groups), 1])
        self._works = []
        for work in works:
            factors = []
            for ids in work.ids:
                there = np.bincount(owner[ties.roots(ids)], minlength=len(channels))
                # Of each group's channels all occur equally often.
                factors.append((there.sum(), there / channels))
            self._works.append((work.constant, factors))

    def __call__(self, pruned: Sequence[int]) -> float:
        """The cost with these numbers of channels gone, one for each group."""
        gone = np.array([*pruned, 0])
        return float(
            sum(
                constant * math.prod(float(whole - each @ gone) for whole, each in axes)
                for constant, axes in self._works
            )
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """The groups of a model as a budget sees them.

    Args:
        fixed: Those that bring a sparsity of their own, with it.
        sharing: Those that share the budget.
        whole: Names of the kernels left whole, with the reason.
    """

    fixed: tuple[tuple[Group, float], ...]
    sharing: tuple[Group, ...]
    whole: dict[str, str]

    @property
    def groups(self) -> tuple[Group, ...]:
        """All that may lose channels."""
        return (*(group for group, _ in self.fixed), *self.sharing)


def plan_of(coupling: Coupling, fixed: Mapping[str, float]) -> Plan:
    """Who brings its own sparsity, who shares, who is left whole.

    Channels that can't be removed from the model take no part in the budget; a
    sparsity that is asked for by name is obeyed all the same.
    """
    own, sharing = [], []
    whole: dict[str, str] = {}
    for group in coupling.groups:
        sparsity = coupling.fixed(group, fixed)
        if sparsity is not None:
            own.append((group, sparsity))
        elif group.held is None:
            sharing.append(group)
        else:
            whole |= {m.name: group.held for m in group.members if m.counts}
    whole |= {n: NOT_FOLLOWED for n in coupling.unfollowed if n not in fixed}
    return Plan(tuple(own), tuple(sharing), whole)


def share_out(
    plan: Plan,
    coupling: Coupling,
    works: Sequence[Work],
    sparsity: float | None,
    allocation: Shares,
) -> dict[str, float]:
    """Sets the goals and temperatures of all groups; those that have a goal keep it.

    Returns:
        kappa by group, 0 where nothing is to be pruned.
    """
    decided = [group for group in plan.groups if _has_goal(group)]
    fixed = [(group, s) for group, s in plan.fixed if not _has_goal(group)]
    counts = [_goal(group) for group in decided]
    for group, wanted in fixed:
        counts.append(group.allowed(round(wanted * group.channels)))
        _warn_if_short(group, wanted, counts[-1])
    before = (*((group, 0.0) for group in decided), *fixed)
    sharing = tuple(group for group in plan.sharing if not _has_goal(group))
    plan = dataclasses.replace(plan, fixed=before, sharing=sharing)
    squares = _squares(plan.groups)
    if plan.sharing and sparsity is not None:
        price = Price(works, coupling, plan.groups)
        counts += _met(plan, price, counts, squares, sparsity, allocation)
    return {
        group.name: _aim(group, count, squares)
        for group, count in zip(plan.groups, counts, strict=False)
        if group not in decided
    }


def leave_whole(plan: Plan, coupling: Coupling) -> None:
    """Gives the channels that stay a goal of 0."""
    busy = {id(group) for group in plan.groups}
    for group in coupling.groups:
        members = {member.name for member in group.members if member.counts}
        free = id(group) not in busy and not _has_goal(group)
        if free and members <= plan.whole.keys():
            _set_goal(group, 0)
    for name in plan.whole.keys() & coupling.unfollowed.keys():
        coupling.unfollowed[name].target.assign(0)


def heading_for(
    plan: Plan, coupling: Coupling, works: Sequence[Work]
) -> tuple[float, float]:
    """The part of the cost that the goals save, and what the coarsest step saves."""
    price = Price(works, coupling, plan.groups)
    before = [_goal(group) for group, _ in plan.fixed]
    none = [*before, *(0 for _ in plan.sharing)]
    whole = price(none)
    saved = whole - price([*before, *map(_goal, plan.sharing)])
    return saved / whole, max(_steps(plan, price, none)) / whole


def _met(
    plan: Plan,
    price: Price,
    before: list[int],
    squares: Mapping[int, np.ndarray],
    sparsity: float,
    allocation: Shares,
) -> list[int]:
    """Counts for the sharing groups that save the budget, and as little more as can be.

    Along what the allocation answers from 0 to 1; where its last step saved too much,
    the channels that are worth most are given back.
    """
    none = [*before, *(0 for _ in plan.sharing)]
    whole = price(none)
    savings = _savings(price, none, [1] * len(none))[len(before) :]
    each = np.maximum(savings, 1e-9 * whole) / (np.mean(savings) or 1.0)
    candidates = {
        group.name: _candidate(group, saving, weight, squares)
        for group, saving, weight in zip(plan.sharing, savings, each, strict=True)
    }

    def counts_at(wanted: float) -> list[int]:
        shares = allocation(candidates, wanted)
        return [g.allowed(round(shares[g.name] * g.channels)) for g in plan.sharing]

    def saved_at(counts: list[int]) -> float:
        return whole - price([*before, *counts])

    budget = sparsity * whole * _ROUNDED
    low, high = 0.0, _MOST
    tried = [counts_at(low), counts_at(high)]
    for _ in range(40):
        middle = 0.5 * (low + high)
        tried.append(counts_at(middle))
        if saved_at(tried[-1]) < budget:
            low = middle
        else:
            high = middle
    enough = [counts for counts in tried if saved_at(counts) >= budget]
    if enough:
        least = min(enough, key=saved_at)
        worths = [np.sort(candidates[group.name].scores) for group in plan.sharing]
        return _given_back(least, plan.sharing, worths, lambda c: saved_at(c) >= budget)
    best = max(tried, key=saved_at)
    _warn_out_of_reach(saved_at(best) / whole, sparsity)
    return best


def _given_back(
    counts: list[int],
    groups: Sequence[Group],
    worths: Sequence[np.ndarray],
    is_enough: Callable[[list[int]], bool],
) -> list[int]:
    """The counts without what the budget does not need, those worth most first.

    Groups that are alike to an allocation lose their channels together, which may save
    much more than was asked for.
    """
    while True:
        enough = []
        for i, (group, worth, count) in enumerate(
            zip(groups, worths, counts, strict=True)
        ):
            fewer = _next_below(group, count)
            if fewer is None:
                continue
            others = [*counts[:i], fewer, *counts[i + 1 :]]
            if is_enough(others):
                enough.append((float(worth[count - 1]), others))
        if not enough:
            return counts
        _, counts = max(enough, key=lambda each: each[0])


def _next_below(group: Group, count: int) -> int | None:
    """The most channels below a number that a group may lose."""
    allowed = (group.allowed(fewer) for fewer in reversed(range(count)))
    return next((each for each in allowed if each < count), None)


def _candidate(
    group: Group, saving: float, weight: float, squares: Mapping[int, np.ndarray]
) -> Candidate:
    """A group's channels as they compete with those of other groups.

    What a channel is worth is its part of what is left of the group when its turn
    comes; those worth least for what they save go first. So a channel gains worth as
    its group grows narrow. With plain `s^2` for what it saves, the dearest group was
    emptied first: scores differ by a factor of 2 within a group, costs by 10 between
    groups. Within a group the order is that of `s`.

    `python -m benchmarks.channel_worth`, 2026-11-29: ResNet-8 on CIFAR-10, 15 / 30 /
    50 % of its MACs removed at once, no training but the statistics of normalisations
    taken again, accuracy on 2,500 images: this 78.7 / 56.3 / 28.9 %, `s` alone 73.2 /
    48.6 / 21.4 %, uniform 64.2 / 45.0 / 20.5 %.
    """
    square = group.scores(squares)
    order = np.argsort(square, kind="stable")
    worth = np.empty(len(square))
    costs = np.full(group.channels, weight)
    worth[order] = relative(np.sqrt(square[order]), costs)
    sizes = np.full(group.channels, max(round(saving), 1), np.int64)
    return Relative(worth, sizes, group.members[0].kernel.shape)


def _steps(plan: Plan, price: Price, none: list[int]) -> list[float]:
    """What each group saves by the fewest channels that it may lose."""
    fewest = [
        # It never falls: the first is the fewest.
        next(filter(None, map(group.allowed, range(1, group.channels + 1))), 0)
        for group in plan.groups
    ]
    return _savings(price, none, fewest)


def _savings(price: Price, none: list[int], counts: list[int]) -> list[float]:
    """What each group saves alone."""
    whole = price(none)
    return [
        whole - price([*none[:i], count, *none[i + 1 :]])
        for i, count in enumerate(counts)
    ]


def _squares(groups: Sequence[Group]) -> dict[int, np.ndarray]:
    members = {id(m.kernel): m.kernel for g in groups for m in g.members}
    for kernel in members.values():
        kernel.values()  # raises on NaN and Inf, which have no order
    return channel_gates.squares_of(list(members.values()))


def _aim(group: Group, count: int, squares: Mapping[int, np.ndarray]) -> float:
    """Sets a group's goal and temperature; gives kappa."""
    first = group.members[0].kernel
    if group.alone:
        first.target.assign(count)
        return first.calibrate()
    _set_goal(group, count)
    if not count:
        return 0.0
    scores = group.scores(squares)
    # What kappa divides is how wide the pruned range is. For single weights it begins
    # at 0 and is t^2; channels are alike, and their range begins at the least of them.
    # Of scores that are equal but for rounding no width tells how far others are, and a
    # mask as hard as that would have gradients that no training survives.
    cut = channel_gates.cut(scores, count)
    width = max(cut - float(scores.min()), _NARROWEST * cut)
    tau = first.temperature.at(math.sqrt(width))
    for member in group.members:
        _assign(member.kernel.tau, member.places, tau)
    return width / tau


def _set_goal(group: Group, count: int) -> None:
    for member in group.members:
        kernel = member.kernel
        goals = np.array(kernel.goal.numpy())
        # A kernel with channels in several groups adds them up. What it aimed at by
        # itself, or in this group before, is replaced.
        elsewhere = 0
        if kernel.coupled:
            here = max(int(goals[member.places[0]]), 0) * member.times
            elsewhere = max(number(kernel.target), 0) - here
        kernel.target.assign(elsewhere + count * member.times)
        goals[member.places] = count
        # Where its other channels are in no group, they stay.
        kernel.goal.assign(np.maximum(goals, 0))


def _assign(variable: keras.Variable, places: np.ndarray, value: float) -> None:
    values = np.array(variable.numpy())
    values[places] = value
    variable.assign(values)


def _has_goal(group: Group) -> bool:
    """Whether an earlier budget has decided how many of its channels go."""
    kernels = [member.kernel for member in group.members if member.counts]
    return all(k.has_target and (group.alone or k.coupled) for k in kernels)


def _goal(group: Group) -> int:
    member = group.members[0]
    if group.alone and not member.kernel.coupled:
        return max(number(member.kernel.target), 0)
    return max(int(np.asarray(member.kernel.goal.numpy())[member.places[0]]), 0)


def _warn_if_short(group: Group, sparsity: float, count: int) -> None:
    if count < round(sparsity * group.channels):
        warnings.warn(
            f"A sparsity of {sparsity:.2%} can't be reached in '{group.name}': of its "
            f"{group.channels} channels {group.channels - count} stay, at least one "
            "and a multiple of `round_to`. Choose a lower sparsity.",
            stacklevel=2,
        )


def _warn_out_of_reach(most: float, sparsity: float) -> None:
    warnings.warn(
        f"A sparsity of {sparsity:.2%} can't be reached: {most:.2%} is the most that "
        "removing channels saves of the model, because in every layer some stay. "
        "Choose a lower sparsity.",
        stacklevel=2,
    )
