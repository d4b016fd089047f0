"""Shares a model's budget out among its wrappers, once, when pruning begins."""

import dataclasses
import warnings
from collections.abc import Mapping

import keras
import numpy as np

from keras_pdp.sparsity import validation
from keras_pdp.sparsity.allocation import Allocation, Candidates
from keras_pdp.training import channel_budget
from keras_pdp.training.channel_budget import Plan
from keras_pdp.training.compiled import number
from keras_pdp.training.cost import Cost
from keras_pdp.training.coupling import OUTPUT, Coupling
from keras_pdp.training.pruned_kernel import PrunedKernel
from keras_pdp.training.wrapper import PDPWrapper

Wrappers = Mapping[str, PDPWrapper]

# Below, the mask tells hardly a weight from another; above, as good as hard.
_KAPPA = (0.5, 100.0)


def kernels_of(wrappers: Wrappers) -> dict[str, PrunedKernel]:
    """All kernels by `layer/weight`."""
    return {
        f"{name}/{kernel.name}": kernel
        for name, wrapper in wrappers.items()
        for kernel in wrapper.kernels
    }


def frozen_kernels(wrappers: Wrappers) -> set[int]:
    """The ids of all that is masked by stored masks."""
    return {
        id(kernel)
        for wrapper in wrappers.values()
        if number(wrapper.frozen)
        for kernel in wrapper.gated
    }


@dataclasses.dataclass(frozen=True, eq=False)
class Budget:
    """What is asked for.

    Args:
        sparsity: The final fraction; None where everybody brings his own.
        allocation: How it is shared.
        cost: What removed channels save.
    """

    sparsity: float | None
    allocation: Allocation | Mapping[str, float]
    cost: Cost


def check_allocation(
    allocation: Allocation | Mapping[str, float], sparsity: float | None
) -> None:
    """Raises unless the allocation is a function, or a mapping without a budget."""
    if isinstance(allocation, Mapping):
        for name, value in allocation.items():
            validation.sparsity(f"allocation[{name!r}]", value)
        if sparsity is not None:
            raise ValueError(
                "A mapping says every sparsity itself; leave `sparsity` out. Received: "
                f"sparsity={sparsity!r} with a mapping."
            )
    elif not callable(allocation):
        raise TypeError(
            "`allocation` should be lamp, global_magnitude, uniform, erdos_renyi, a "
            "function of the same form, or a mapping from layer names to sparsities. "
            f"Received: {allocation!r}."
        )


def fixed_targets(
    wrappers: Wrappers, allocation: Allocation | Mapping[str, float]
) -> dict[str, float]:
    """The kernels whose final sparsity needs no budget: N:M, `sparsity=`, a mapping."""
    by_name = allocation if isinstance(allocation, Mapping) else {}
    fixed = {}
    for layer, wrapper in wrappers.items():
        for kernel in wrapper.kernels:
            name = f"{layer}/{kernel.name}"
            if kernel.granularity.kept_per_pool is not None:
                fixed[name] = kernel.prunable / kernel.units
            elif wrapper.sparsity is not None:
                fixed[name] = wrapper.sparsity
            elif name in by_name or layer in by_name:
                fixed[name] = by_name.get(name, by_name.get(layer, 0.0))
    return fixed


def check_budget(wrappers: Wrappers, budget: Budget, coupling: Coupling | None) -> None:
    """Raises where a kernel would have no target, or the budget nobody to take it."""
    kernels = kernels_of(wrappers)
    sparsity, allocation = budget.sparsity, budget.allocation
    fixed = fixed_targets(wrappers, allocation)
    sharing = set(kernels) - set(fixed)
    if coupling is not None:
        plan = channel_budget.plan_of(coupling, fixed)
        sharing -= {m.name for group, _ in plan.fixed for m in group.members}
    if isinstance(allocation, Mapping):
        unknown = sorted(set(allocation) - set(kernels) - set(wrappers))
        if unknown or sharing:
            raise ValueError(
                "The allocation should name every wrapped layer, and no other. "
                f"Unknown: {unknown or 'none'}; missing: {sorted(sharing) or 'none'}. "
                f"The model's wrapped layers are {sorted(wrappers)}."
            )
    elif sparsity is None and sharing:
        raise ValueError(
            "PDPCallback(sparsity=None) is for models whose wrappers all bring their "
            "own, by PDPWrapper(sparsity=...) or NofM. Without: "
            f"{sorted(sharing)}. Pass a sparsity, for example PDPCallback(0.9)."
        )
    elif sparsity is not None and not sharing:
        raise ValueError(
            f"Every wrapper brings its own sparsity, so nothing takes the budget of "
            f"{sparsity}. Use PDPCallback() without a sparsity."
        )


def share_out(
    model: keras.Model, wrappers: Wrappers, budget: Budget, coupling: Coupling | None
) -> None:
    """Gives every kernel that has none its target and its temperature.

    Channels that can be followed through the model meet the budget in its cost; all
    other kernels meet it in their own weights.
    """
    kernels = kernels_of(wrappers)
    unset = [name for name, kernel in kernels.items() if not kernel.has_target]
    targets = fixed_targets(wrappers, budget.allocation)
    kappas: dict[str, float] = {}
    if coupling is not None and unset:
        plan = _plan(wrappers, budget, coupling)
        kappas = _share_channels(model, budget, coupling, plan)
        unset = [name for name in unset if not kernels[name].has_target]
        _tell_whole(plan, coupling)
    sharing = [name for name in unset if name not in targets]
    sparsity = budget.sparsity
    if sharing and sparsity is not None and callable(budget.allocation):
        candidates = {name: kernels[name].candidate() for name in sharing}
        targets |= _checked(budget.allocation(candidates, sparsity), sharing)
    for name in unset:
        kernels[name].set_target(targets[name])
    if sharing and sparsity is not None:
        _warn_out_of_reach([kernels[name] for name in sharing], sparsity)
    for name in set(unset) - set(sharing):
        _warn_if_short(name, kernels[name], targets[name])
    _warn_far_off(kappas | {name: kernels[name].calibrate() for name in unset})


def warn_if_other(
    model: keras.Model, wrappers: Wrappers, budget: Budget, coupling: Coupling | None
) -> None:
    """A model that has its targets keeps them, whatever a later callback asks for."""
    if budget.sparsity is None:
        return
    fixed = fixed_targets(wrappers, budget.allocation)
    kernels = {n: k for n, k in kernels_of(wrappers).items() if n not in fixed}
    if not all(kernel.has_target for kernel in kernels.values()):
        return
    if coupling is not None:
        plan = _plan(wrappers, budget, coupling)
        if plan.sharing:
            works = budget.cost(model, coupling.trace)
            share, step = channel_budget.heading_for(plan, coupling, works)
            _warn_keeps(budget.sparsity, share, step)
        kernels = {n: k for n, k in kernels.items() if n not in _handled(plan)}
    if kernels:
        size = sum(kernel.size for kernel in kernels.values())
        removed = sum(kernel.removed_at_target() for kernel in kernels.values())
        coarsest = max(kernel.size / kernel.units for kernel in kernels.values())
        _warn_keeps(budget.sparsity, removed / size, coarsest / size)


def warn_if_harder(wrappers: Wrappers, harden: float) -> None:
    """Masks that are harder than a later callback asks for stay so."""
    hardest = max(
        (
            number(kernel.hardness)
            for wrapper in wrappers.values()
            if not number(wrapper.frozen)
            for kernel in wrapper.gated
        ),
        default=1.0,
    )
    if hardest > np.float32(harden):
        warnings.warn(
            f"The model's masks are {hardest:.4g} times harder than when its pruning "
            "began, as they were set before, and keep that; PDPCallback has "
            f"harden={harden!r}. To prune by that, begin anew with wrap(strip(model)).",
            stacklevel=2,
        )


def _plan(wrappers: Wrappers, budget: Budget, coupling: Coupling) -> Plan:
    """Who takes part; where nothing could be removed, all kernels are as if alone."""
    fixed = fixed_targets(wrappers, budget.allocation)
    plan = channel_budget.plan_of(coupling, fixed)
    others = set(kernels_of(wrappers)) - coupling.names - set(fixed)
    if budget.sparsity is not None and not plan.sharing and not others:
        return dataclasses.replace(plan, whole={})
    return plan


def _handled(plan: Plan) -> set[str]:
    """The kernels that a plan gives a target."""
    members = {m.name for group in plan.groups for m in group.members}
    return members | set(plan.whole)


def _share_channels(
    model: keras.Model, budget: Budget, coupling: Coupling, plan: Plan
) -> dict[str, float]:
    def allocation(candidates: Candidates, sparsity: float) -> Mapping[str, float]:
        assert callable(budget.allocation)
        return _checked(budget.allocation(candidates, sparsity), list(candidates))

    works = budget.cost(model, coupling.trace)
    kappas = channel_budget.share_out(
        plan, coupling, works, budget.sparsity, allocation
    )
    channel_budget.leave_whole(plan, coupling)
    return kappas


def _tell_whole(plan: Plan, coupling: Coupling) -> None:
    """One warning for what is not pruned, but for the outputs, which nobody expects."""
    told = {n: why for n, why in plan.whole.items() if why != OUTPUT}
    if told:
        reasons = "; ".join(f"{name}: {why}" for name, why in told.items())
        warnings.warn(
            f"Not pruned, {len(told)} of the model's kernels, because their channels "
            f"can't be removed from it: {reasons}. Leave these layers unwrapped, or "
            "ask for it with PDPWrapper(layer, Channel(), sparsity=...).",
            stacklevel=2,
        )
    elif not plan.groups and not plan.whole and coupling.names:
        warnings.warn(
            "None of the model's channels can be removed from it: "
            f"{_reasons(coupling)}. They are pruned all the same, each layer by "
            "itself, to zeros that stay in the model.",
            stacklevel=2,
        )
    if coupling.loud:
        warnings.warn(
            "These normalisations stand behind channels that are pruned, and give a "
            f"channel of zeros their offset: {', '.join(coupling.loud)}. Put them in "
            "a PDPWrapper too, PDPWrapper(BatchNormalization(), Channel()), or use "
            "wrap(model, Channel()), so that they fall silent with the channel.",
            stacklevel=2,
        )


def _reasons(coupling: Coupling) -> str:
    held = {m.name: g.held for g in coupling.groups for m in g.members if m.counts}
    unknown = dict.fromkeys(coupling.unfollowed, channel_budget.NOT_FOLLOWED)
    return "; ".join(f"{name}: {why}" for name, why in {**held, **unknown}.items())


def _warn_keeps(asked: float, share: float, step: float) -> None:
    if abs(share - asked) > step:
        warnings.warn(
            f"This model is on its way to a sparsity of {share:.2%}, set when its "
            f"pruning began, and keeps it; {asked:.2%} has no effect. To prune "
            "further, begin anew with wrap(strip(model)).",
            stacklevel=2,
        )


def _checked(shares: Mapping[str, float], names: list[str]) -> Mapping[str, float]:
    """What an allocation answered; a user's own may have forgotten a kernel."""
    if set(shares) != set(names):
        raise ValueError(
            f"The allocation should answer a sparsity for each of {sorted(names)}. "
            f"Received: {sorted(shares)}."
        )
    for name, share in shares.items():
        validation.sparsity(f"allocation's answer for {name!r}", share)
    return shares


def _warn_if_short(name: str, kernel: PrunedKernel, sparsity: float) -> None:
    if kernel.target_for(sparsity) < round(sparsity * kernel.units):
        warnings.warn(
            f"A sparsity of {sparsity:.2%} can't be reached in '{name}': of its "
            f"{kernel.units} units one always stays. Choose a finer granularity or a "
            "lower sparsity.",
            stacklevel=2,
        )


def _warn_far_off(kappas: Mapping[str, float]) -> None:
    low, high = _KAPPA
    outside = {n: k for n, k in kappas.items() if k > 0.0 and not low <= k <= high}
    if not outside:
        return
    worst = max(outside, key=lambda n: max(outside[n], 1 / outside[n]))
    warnings.warn(
        f"In {len(outside)} of {len(kappas)} kernels kappa = t^2 / tau is below "
        f"{low:g} or above {high:g}, for example {outside[worst]:.3g} in '{worst}': a "
        "mask below hardly tells weights from each other, one above is hard from the "
        "start. Calibrated(kappa=2.0) sets tau for each kernel.",
        stacklevel=2,
    )


def _warn_out_of_reach(kernels: list[PrunedKernel], sparsity: float) -> None:
    weights = sum(kernel.size for kernel in kernels)
    removed = sum(kernel.removed_at_target() for kernel in kernels)
    coarsest = max(kernel.size / kernel.units for kernel in kernels)
    if removed + coarsest < round(sparsity * weights):
        warnings.warn(
            f"A sparsity of {sparsity:.2%} can't be reached: {removed / weights:.2%} "
            "is the most, because one unit of every kernel stays. Choose a finer "
            "granularity or a lower sparsity.",
            stacklevel=2,
        )
