"""Which channels of a wrapped model live and die together, and which have to stay.

A channel is what the graph ties together: a position of a convolution's output, of the
normalisation behind it, of the other branch of a residual sum. Channels that are made
by the same kernels compete with each other: a group.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping

import keras
import numpy as np
from keras import layers

from keras_pdp.channels import follow, graph
from keras_pdp.channels.ties import Ids
from keras_pdp.channels.trace import Slice, Trace
from keras_pdp.sparsity.granularity import Channel, Granularity, nearest_count
from keras_pdp.training import prunable, tree
from keras_pdp.training.pruned_channels import PrunedChannels, prunes_outputs
from keras_pdp.training.wrapper import PDPWrapper

Wrappers = Mapping[str, PDPWrapper]

# The reason that needs no warning.
OUTPUT = "the model's output"


@dataclasses.dataclass(frozen=True, eq=False)
class Member:
    """A kernel, or a normalisation's scale, in a group.

    Args:
        name: `layer/weight`.
        kernel: The kernel.
        counts: Whether it is a kernel, rather than a scale that follows kernels.
        places: Its own channels that are in the group.
        at: For each of them, which of the group's channels it is.
    """

    name: str
    kernel: PrunedChannels
    counts: bool
    places: np.ndarray
    at: np.ndarray

    @property
    def times(self) -> int:
        """How many of its own channels are one channel of the group."""
        return int(np.bincount(self.at).max())


@dataclasses.dataclass(frozen=True, eq=False)
class Group:
    """Channels that are made by the same kernels, and so compete with each other.

    Args:
        name: Those of its kernels, as in `conv/kernel + shortcut/kernel`.
        roots: The id of each channel.
        members: What makes and scales them; the first is a kernel.
        held: Why they can't be removed from the model; None where they can.
    """

    name: str
    roots: Ids
    members: tuple[Member, ...]
    held: str | None

    @property
    def channels(self) -> int:
        """How many there are."""
        return len(self.roots)

    @property
    def alone(self) -> bool:
        """Whether a single kernel has exactly these channels, and nothing else them."""
        first = self.members[0]
        return (
            len(self.members) == 1 and first.kernel.units == self.channels
        ) and first.times == 1

    def allowed(self, pruned: int) -> int:
        """The nearest number of its channels that may go."""
        multiples = [
            (member.times, member.kernel.granularity.round_to)
            for member in self.members
            if isinstance(member.kernel.granularity, Channel)
        ]
        return nearest_count(pruned, self.channels, multiples)

    def scores(self, squares: Mapping[int, np.ndarray]) -> np.ndarray:
        """`s^2` of every channel: the members' mean squares, each over its own mean.

        So a member of large weights does not decide alone; 1 is an average channel.

        Args:
            squares: The mean squares of the members' channels, by `id(kernel)`.
        """
        parts = [
            _mean_at(member, squares[id(member.kernel)]) / mean
            for member, mean in self.means(squares)
        ]
        return np.asarray(np.mean(parts, axis=0))

    def means(
        self, squares: Mapping[int, np.ndarray]
    ) -> Iterator[tuple[Member, float]]:
        """The members that score, with the mean over their channels here."""
        for member in self.members:
            if not member.kernel.settled:
                mean = float(
                    squares[id(member.kernel)][member.places].mean(dtype="float64")
                )
                yield member, mean if mean > 0.0 else 1.0


@dataclasses.dataclass(frozen=True, eq=False)
class Coupling:
    """The channels of a wrapped model.

    Args:
        trace: How they run through it.
        groups: All channels made by kernels that are pruned by channels.
        unfollowed: Such kernels whose channels can't be followed through the model.
        loud: Names of normalisations along channels that may go, which are not wrapped.
    """

    trace: Trace
    groups: tuple[Group, ...]
    unfollowed: dict[str, PrunedChannels]
    loud: tuple[str, ...]

    @property
    def names(self) -> set[str]:
        """Of all kernels pruned by channels."""
        members = {m.name for g in self.groups for m in g.members if m.counts}
        return members | set(self.unfollowed)

    def fixed(self, group: Group, by_name: Mapping[str, float]) -> float | None:
        """The sparsity that a group's kernels bring, where one of them brings it."""
        found = {m.name: by_name[m.name] for m in group.members if m.name in by_name}
        if len(set(found.values())) > 1:
            raise ValueError(
                "Kernels whose channels are tied are pruned together, so they can't "
                f"have different sparsities. Received: {found}. Give one of them, or "
                "the same to all."
            )
        return next(iter(found.values()), None)


def coupling_of(model: keras.Model, wrappers: Wrappers) -> Coupling | None:
    """The coupled channels of a model; None where its graph can't be read."""
    if not graph.readable(model):
        return None
    trace = follow.traced(model, _unwrapped)
    ends = {ref.name for ref in graph.read(model).outputs}
    own: dict[str, tuple[PrunedChannels, bool, Ids]] = {}
    unfollowed: dict[str, PrunedChannels] = {}
    for name, kernel, counts in _channel_kernels(wrappers):
        roots = _own_roots(kernel, trace)
        if roots is not None:
            own[name] = (kernel, counts, roots)
        elif counts:
            unfollowed[name] = kernel
    held = _held(trace, wrappers, own)
    for name, (_, _, roots) in own.items():
        if name.partition("/")[0] in ends:
            held |= {int(root): OUTPUT for root in roots if root in held}
    groups = tuple(_groups(own, held))
    return Coupling(trace, groups, unfollowed, _loud(trace, wrappers, groups))


def scales_along(
    model: keras.Model, chosen: Callable[[keras.Layer], Granularity | None]
) -> set[int]:
    """The ids of the BatchNormalizations along channels that are to be pruned.

    Args:
        model: A model, wrapped or not.
        chosen: The granularity that a layer which is not wrapped yet will have.
    """
    if not graph.readable(model):
        return set()
    has = {
        id(layer.layer): layer.granularity
        for _, layer in tree.walk(model)
        if isinstance(layer, PDPWrapper)
    }
    trace = follow.traced(model, _unwrapped)
    pruned: set[int] = set()
    for cut in trace.slices.values():
        if cut.makes:
            known = id(cut.layer) in has
            granularity = has[id(cut.layer)] if known else chosen(cut.layer)
            if granularity is not None and prunes_outputs(granularity, axes=2):
                pruned |= set(trace.ties.roots(cut.ids).tolist())
    return {
        id(cut.layer)
        for cut in trace.slices.values()
        if isinstance(cut.layer, layers.BatchNormalization)
        and prunable.scales(cut.layer)
        and pruned & set(trace.ties.roots(cut.ids).tolist())
    }


def _unwrapped(layer: keras.Layer) -> keras.Layer:
    return layer.layer if isinstance(layer, PDPWrapper) else layer


def _channel_kernels(
    wrappers: Wrappers,
) -> Iterator[tuple[str, PrunedChannels, bool]]:
    for layer, wrapper in wrappers.items():
        for kernel in wrapper.gated:
            if isinstance(kernel, PrunedChannels):
                counts = kernel in wrapper.kernels
                yield f"{layer}/{kernel.name}", kernel, counts


def _own_roots(kernel: PrunedChannels, trace: Trace) -> Ids | None:
    """The channel that each of a kernel's own outputs is; None where it is unknown."""
    axes = kernel.layout.output_axes
    found = [
        (axis, trace.slices[id(kernel.variable), axis])
        for axis in axes
        if (id(kernel.variable), axis) in trace.slices
    ]
    if len(found) != 1:
        return None
    ((axis, cut),) = found
    sizes = [kernel.variable.shape[each] for each in axes]
    shape = [n if each == axis else 1 for each, n in zip(axes, sizes, strict=True)]
    spread = np.broadcast_to(trace.ties.roots(cut.ids).reshape(shape), sizes)
    return spread.reshape(-1)


def _held(
    trace: Trace,
    wrappers: Wrappers,
    own: Mapping[str, tuple[PrunedChannels, bool, Ids]],
) -> dict[int, str]:
    """The roots that have to stay, with the reason."""
    gated = {id(kernel.variable) for kernel, _, _ in own.values()}
    held = {
        int(root): reason
        for root in np.unique(trace.ties.all_roots())
        if (reason := trace.ties.reason(int(root))) is not None
    }
    for cut in trace.slices.values():
        if cut.makes and id(cut.variable) not in gated and not _passes_on(cut):
            reason = f"'{cut.name}' makes them too and is not pruned by channels"
            for root in trace.ties.roots(cut.ids):
                held.setdefault(int(root), reason)
    return held


def _passes_on(cut: Slice) -> bool:
    """Whether a layer only scales the channels that it is given."""
    return isinstance(cut.layer, layers.DepthwiseConv1D | layers.DepthwiseConv2D)


def _groups(
    own: Mapping[str, tuple[PrunedChannels, bool, Ids]], held: Mapping[int, str]
) -> Iterator[Group]:
    made_by: dict[int, list[tuple[str, int]]] = {}
    for name, (_, _, roots) in own.items():
        found, times = np.unique(roots, return_counts=True)
        for root, count in zip(found, times, strict=True):
            made_by.setdefault(int(root), []).append((name, int(count)))
    alike: dict[tuple[tuple[tuple[str, int], ...], bool], list[int]] = {}
    for root in sorted(made_by):
        alike.setdefault((tuple(made_by[root]), root in held), []).append(root)
    taken: set[str] = set()
    for (makers, _), tied in alike.items():
        members = [_member(name, *own[name], tied) for name, _ in makers]
        # Kernels first: the group has the name of the first, and follows its settings.
        members.sort(key=lambda member: not member.counts)
        if members[0].counts:
            joined = " + ".join(member.name for member in members if member.counts)
            name = tree.unique(joined, taken)
            reason = held.get(tied[0])
            yield Group(name, np.array(tied, np.int64), tuple(members), reason)


def _member(
    name: str, kernel: PrunedChannels, counts: bool, own: Ids, roots: list[int]
) -> Member:
    places = np.flatnonzero(np.isin(own, roots))
    return Member(name, kernel, counts, places, np.searchsorted(roots, own[places]))


def _mean_at(member: Member, squares: np.ndarray) -> np.ndarray:
    """The mean square of each of the group's channels in one member."""
    total = np.bincount(member.at, squares[member.places].astype("float64"))
    return np.asarray(total / np.bincount(member.at))


def _loud(
    trace: Trace, wrappers: Wrappers, groups: tuple[Group, ...]
) -> tuple[str, ...]:
    gated = {
        id(variable)
        for wrapper in wrappers.values()
        for kernel in wrapper.gated
        for variable in kernel.covers
    }
    free = np.concatenate([[-1], *(g.roots for g in groups if g.held is None)])
    names = {
        cut.name: None
        for cut in trace.slices.values()
        if isinstance(cut.layer, layers.BatchNormalization)
        and (cut.variable is cut.layer.gamma or cut.variable is cut.layer.beta)
        and id(cut.variable) not in gated
        and np.isin(trace.ties.roots(cut.ids), free).any()
    }
    return tuple(names)
