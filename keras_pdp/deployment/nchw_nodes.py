"""The ops of a graph as the runtime sees them when it chooses the layout of tensors.

Before that it takes zero padding into the convolution behind it, when nothing else
reads the padded tensor and the convolution does not pad by itself.
"""

from dataclasses import dataclass

from keras_pdp.deployment.operators import Graph, Operator, Options, Tensor

CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")
PADDING = ("PAD", "PADV2", "MIRROR_PAD")

# (before, after) on height and width
Margins = tuple[tuple[int, int], tuple[int, int]]

NO_MARGINS: Margins = ((0, 0), (0, 0))


@dataclass(frozen=True, eq=False)
class Node:
    """An op with the padding that it takes over.

    Args:
        graph: where it stands.
        operator: the op.
        inputs: the computed tensors that it reads, each as often as it is read.
        margins: the zeros that a PAD before it adds, as part of it.
        padded: whether a padding op stays in front of it, or in front of its PAD.
    """

    graph: Graph
    operator: Operator
    inputs: tuple[int, ...]
    margins: Margins = NO_MARGINS
    padded: bool = False

    @property
    def kind(self) -> str:
        """The op's name in the file format."""
        return self.operator.kind

    @property
    def options(self) -> Options:
        """Its options; the format's defaults where the file has none."""
        return self.operator.options or Options()

    def tensor(self, slot: int) -> Tensor | None:
        """Input number `slot`, before padding was taken over; `None` if absent."""
        inputs = self.operator.inputs
        present = slot < len(inputs) and inputs[slot] >= 0
        return self.graph.tensors[inputs[slot]] if present else None

    @property
    def source(self) -> Tensor:
        """The first computed tensor that it reads, without the padding."""
        return self.graph.tensors[self.inputs[0]]

    @property
    def result(self) -> Tensor:
        """The first tensor that it gives; not for ops without outputs."""
        return self.graph.tensors[self.operator.outputs[0]]


def nodes_of(graph: Graph) -> tuple[Node, ...]:
    """The ops of a graph, padding taken into the convolutions where the runtime does.

    Args:
        graph: the graph.

    Returns:
        Its nodes, in the order in which they run.
    """
    makers = {x: op for op in graph.operators for x in op.outputs}
    taken: set[int] = set()
    nodes = []
    for operator in graph.operators:
        inputs = graph.computed(operator.inputs)
        pad = _pad_before(graph, operator, makers)
        margins = _margins(graph, pad) if pad is not None else None
        before = makers.get(inputs[0]) if inputs else None
        if pad is None or margins is None:
            padded = before is not None and before.kind in PADDING
            nodes.append(Node(graph, operator, inputs, padded=padded))
            continue
        taken.add(pad.index)
        inputs = graph.computed(pad.inputs[:1])
        above = makers.get(inputs[0]) if inputs else None
        padded = above is not None and above.kind in PADDING
        nodes.append(Node(graph, operator, inputs, margins, padded))
    return tuple(node for node in nodes if node.operator.index not in taken)


def _pad_before(
    graph: Graph, operator: Operator, makers: dict[int, Operator]
) -> Operator | None:
    """The PAD that becomes part of a convolution; `None` where there is none."""
    options = operator.options
    if operator.kind not in CONVOLUTIONS or options is None or options.same:
        return None
    pad = makers.get(operator.inputs[0]) if operator.inputs else None
    if pad is None or pad.kind != "PAD":
        return None
    readers = sum(op.inputs.count(pad.outputs[0]) for op in graph.operators)
    return pad if readers == 1 and pad.outputs[0] not in graph.outputs else None


def _margins(graph: Graph, pad: Operator) -> Margins | None:
    amounts = graph.tensors[pad.inputs[1]].constant if len(pad.inputs) > 1 else None
    if amounts is None or amounts.values.shape != (4, 2):
        return None
    batch, (top, bottom), (left, right), channels = amounts.values.tolist()
    if any((*batch, *channels)) or min(top, bottom, left, right) < 0:
        return None
    return (top, bottom), (left, right)
