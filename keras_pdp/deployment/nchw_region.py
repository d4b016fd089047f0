"""The part of a graph that sparse inference would switch to channels first."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from keras_pdp.deployment.nchw_fit import Fit, Role
from keras_pdp.deployment.nchw_nodes import Node, nodes_of
from keras_pdp.deployment.nchw_rules import fit
from keras_pdp.deployment.operators import Graph
from keras_pdp.deployment.tflite_file import ConstantTensor

# The runtime switches what has more than this fraction of zeros in 1×1 convolutions.
MIN_SPARSITY = 2 / 3

# Without one of these nothing is switched at all.
_MAY_END = ("DEPTH_TO_SPACE", "MEAN", "SUM")

_FLOATS = ("float32", "float16")
_WITH_WEIGHTS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")

_MIXED = Fit(
    Role.OUTSIDE,
    "reads one tensor from inside the sparse part and one from outside",
    "let both come from the sparse part: a gate by GlobalAveragePooling2D("
    "keepdims=True), 1×1 convolutions and a sigmoid",
)
_GIVEN = Fit(
    Role.OUTSIDE,
    "gives an output of the model from inside the sparse part",
    "end with GlobalAveragePooling2D(), without keepdims",
)
_SECOND = Fit(
    Role.OUTSIDE,
    "starts a sparse part inside a sparse part",
    "let the only 3×3 stride-2 convolution on 3 channels be the first one",
)
_INTEGERS = Fit(
    Role.OUTSIDE,
    "has integer weights beside a part that computes with floats",
    "export the whole model in one precision",
)


@dataclass(frozen=True, eq=False)
class Obstacle:
    """An op in the way of sparse inference.

    Args:
        node: the op.
        fit: why, and what to change.
    """

    node: Node
    fit: Fit

    @property
    def is_stem(self) -> bool:
        """Whether it is a start but for its padding."""
        weight = self.node.tensor(1)
        is_stem = weight is not None and weight.shape[1:] == (3, 3, 3)
        return is_stem and self.node.options.stride == (2, 2)


@dataclass(eq=False)
class Part:
    """What is connected between starts and ends.

    Args:
        pointwise: the weights of its 1×1 convolutions.
        heads: the weights of the Dense layers right behind its ends, which newer
            versions of the runtime count as well.
    """

    pointwise: list[ConstantTensor] = field(default_factory=list)
    heads: list[ConstantTensor] = field(default_factory=list)

    @property
    def sparsity(self) -> float:
        """Zeros as a fraction of the weights of the 1×1 convolutions."""
        return _sparsity(self.pointwise)

    @property
    def sparsity_with_heads(self) -> float:
        """The same, with the Dense layers behind its ends."""
        return _sparsity(self.pointwise + self.heads)

    @property
    def is_switched(self) -> bool:
        """Whether LiteRT 2.3 finds it sparse enough."""
        return self.sparsity > MIN_SPARSITY


@dataclass(frozen=True, eq=False)
class Region:
    """What is reached from the starts of a graph.

    Args:
        starts: the convolutions that the runtime may start at.
        first: the first convolution and what it is, if there is one.
        obstacles: what is in the way; empty when every path from a start leads through
            fitting ops to an end. Without a start: what would be in the way behind the
            first convolution, if that were one.
        parts: the connected parts.
        may_end: whether the graph has an op of a kind that can be an end.
        densest: the largest fraction of zeros in any 1×1 convolution or Dense layer.
    """

    starts: tuple[Node, ...]
    first: Obstacle | None
    obstacles: tuple[Obstacle, ...]
    parts: tuple[Part, ...]
    may_end: bool
    densest: float


def region_of(graph: Graph) -> Region:
    """Follows a graph from its starts, through what fits, to its ends.

    Args:
        graph: one subgraph of a file.

    Returns:
        What is reached and what is in the way.
    """
    fits = [Obstacle(node, fit(node)) for node in nodes_of(graph)]
    nodes = [each.node for each in fits]
    starts = [each.node for each in fits if each.fit.role is Role.START]
    first = next((each for each in fits if each.node.kind == "CONV_2D"), None)
    walk = _Walk()
    for each in fits:
        starts_here = each is first and not starts
        walk.step(each.node, Fit(Role.START) if starts_here else each.fit)
    if starts:
        walk.obstacles += [Obstacle(n, _INTEGERS) for n in nodes if _is_quantized(n)]
    return Region(
        starts=tuple(starts),
        first=first,
        obstacles=tuple(walk.obstacles),
        parts=walk.parts if starts else (),
        may_end=any(node.kind in _MAY_END for node in nodes),
        densest=max((_sparsity([w]) for n in nodes for w in _counted(n)), default=0.0),
    )


class _Walk:
    """Goes through the ops in their order and keeps which tensors are reached."""

    def __init__(self) -> None:
        self.obstacles: list[Obstacle] = []
        self._inside: dict[int, Part] = {}  # by tensors with channels first
        self._behind: dict[int, Part] = {}  # by what ends, and Dense layers there, give

    @property
    def parts(self) -> tuple[Part, ...]:
        return tuple({id(part): part for part in self._inside.values()}.values())

    def step(self, node: Node, its: Fit) -> None:
        reached = [x for x in node.inputs if x in self._inside]
        if not node.operator.outputs:
            self.obstacles += [Obstacle(node, its)] if reached else []
            return
        output = node.operator.outputs[0]
        if its.role is Role.START:
            self._inside[output] = Part()
            self._start(node, its, bool(reached))
        elif reached and its.role is Role.OUTSIDE:
            self.obstacles.append(Obstacle(node, its))
            if _is_map(node.result.shape):  # go on: name all that is to change at once
                self._inside[output] = self._united([self._inside[x] for x in reached])
        elif reached:
            part = self._united([self._inside[x] for x in reached])
            part.pointwise += _pointwise(node)
            (self._inside if its.role is Role.INSIDE else self._behind)[output] = part
            if len(reached) < len(node.inputs):
                self.obstacles.append(Obstacle(node, _MIXED))
        elif node.kind == "FULLY_CONNECTED" and node.inputs[0] in self._behind:
            part = self._behind[output] = self._behind[node.inputs[0]]
            part.heads += _matrix(node)
        if output in self._inside and output in node.graph.outputs:
            self.obstacles.append(Obstacle(node, _GIVEN))

    def _start(self, node: Node, its: Fit, is_reached: bool) -> None:
        if its.reason:
            self.obstacles.append(Obstacle(node, its))
        if is_reached:
            self.obstacles.append(Obstacle(node, _SECOND))

    def _united(self, parts: list[Part]) -> Part:
        """One part of all, in the place of each of them."""
        first = parts[0]
        for part in parts[1:]:
            if part is not first:
                first.pointwise += part.pointwise
                first.heads += part.heads
                for tensors in (self._inside, self._behind):
                    tensors.update({x: first for x, p in tensors.items() if p is part})
        return first


def _is_map(shape: tuple[int, ...]) -> bool:
    return len(shape) == 4 and shape[1:3] != (1, 1)


def _pointwise(node: Node) -> Iterator[ConstantTensor]:
    weight = _float_weight(node, "CONV_2D")
    if weight is not None and weight.shape[1:-1] == (1, 1):
        yield weight


def _matrix(node: Node) -> Iterator[ConstantTensor]:
    weight = _float_weight(node, "FULLY_CONNECTED")
    if weight is not None:
        yield weight


def _float_weight(node: Node, kind: str) -> ConstantTensor | None:
    weight = node.tensor(1) if node.kind == kind else None
    # By the type that the op reads: integers behind a DEQUANTIZE are floats by then.
    return weight.constant if weight is not None and weight.dtype in _FLOATS else None


def _counted(node: Node) -> Iterator[ConstantTensor]:
    yield from _pointwise(node)
    yield from _matrix(node)


def _is_quantized(node: Node) -> bool:
    weight = node.tensor(1) if node.kind in _WITH_WEIGHTS else None
    constant = weight.constant if weight is not None else None
    return constant is not None and constant.dtype not in _FLOATS


def _sparsity(weights: Iterable[ConstantTensor]) -> float:
    weights = list(weights)
    size = sum(weight.size for weight in weights)
    return sum(weight.zeros for weight in weights) / size if size else 0.0
