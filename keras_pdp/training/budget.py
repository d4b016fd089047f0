"""Shares a model's budget out among its wrappers, once, when pruning begins."""

import warnings
from collections.abc import Mapping

from keras_pdp.sparsity import validation
from keras_pdp.sparsity.allocation import Allocation
from keras_pdp.training.pruned_kernel import PrunedKernel
from keras_pdp.training.wrapper import PDPWrapper

Wrappers = Mapping[str, PDPWrapper]

# Below, the mask is so soft that hardening it costs accuracy; above, as good as hard.
_KAPPA = (2.0, 100.0)


def kernels_of(wrappers: Wrappers) -> dict[str, PrunedKernel]:
    """All kernels by `layer/weight`."""
    return {
        f"{name}/{kernel.name}": kernel
        for name, wrapper in wrappers.items()
        for kernel in wrapper.kernels
    }


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
            "`allocation` should be uniform, global_magnitude, erdos_renyi, a function "
            "of the same form, or a mapping from layer names to sparsities. Received: "
            f"{allocation!r}."
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


def check_budget(
    wrappers: Wrappers,
    sparsity: float | None,
    allocation: Allocation | Mapping[str, float],
) -> None:
    """Raises where a kernel would have no target, or the budget nobody to take it."""
    kernels = kernels_of(wrappers)
    sharing = set(kernels) - set(fixed_targets(wrappers, allocation))
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
    wrappers: Wrappers,
    sparsity: float | None,
    allocation: Allocation | Mapping[str, float],
) -> None:
    """Gives every kernel that has none its target and its temperature."""
    kernels = kernels_of(wrappers)
    unset = [name for name, kernel in kernels.items() if not kernel.has_target]
    targets = fixed_targets(wrappers, allocation)
    sharing = [name for name in unset if name not in targets]
    if sharing and sparsity is not None and callable(allocation):
        candidates = {name: kernels[name].candidate() for name in sharing}
        targets |= _checked(allocation(candidates, sparsity), sharing)
    for name in unset:
        kernels[name].set_target(targets[name])
    if sharing and sparsity is not None:
        _warn_out_of_reach([kernels[name] for name in sharing], sparsity)
    for name in set(unset) - set(sharing):
        _warn_if_short(name, kernels[name], targets[name])
    _warn_far_off({name: kernels[name].calibrate() for name in unset})


def warn_if_other(
    wrappers: Wrappers,
    sparsity: float | None,
    allocation: Allocation | Mapping[str, float],
) -> None:
    """A model that has its targets keeps them, whatever a later callback asks for."""
    fixed = fixed_targets(wrappers, allocation)
    kernels = [k for name, k in kernels_of(wrappers).items() if name not in fixed]
    if sparsity is None or not all(kernel.has_target for kernel in kernels):
        return
    size = sum(kernel.size for kernel in kernels)
    share = sum(kernel.removed_at_target() for kernel in kernels) / size
    coarsest = max(kernel.size / kernel.units for kernel in kernels)
    if abs(share - sparsity) * size > coarsest:
        warnings.warn(
            f"This model is on its way to a sparsity of {share:.2%}, set when its "
            f"pruning began, and keeps it; {sparsity:.2%} has no effect. To prune "
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
        f"In {len(outside)} of {len(kappas)} kernels kappa = t^2 / tau is far from the "
        f"useful range {low:g} ... {high:g}, for example {outside[worst]:.3g} in "
        f"'{worst}': a mask below it is too soft to be hardened without loss, one "
        "above it is hard from the start. Calibrated(kappa=5.0) sets tau for each "
        "kernel.",
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
