"""Whether the runtime's sparse kernels take a .tflite file, and rightly.

XNNPACK, with which LiteRT computes on processors, has kernels that skip zero weights.
They exist for ARM, WebAssembly and RISC-V, and not for x86 with AVX. A file asks for
them by storing any weight sparsely. What happens then depends on the whole graph:

* *eligible*: the sparse kernels run, and compute what the dense ones do.
* *inert*: nothing changes.
* *unsafe*: the runtime would begin, and go wrong at an op that it does not expect:
  outputs are garbage, or the file does not load, while on a PC all is well. Such a
  model must be stored dense.

The verdict is read from the graph. Where it is in doubt it is *unsafe*.
"""

import dataclasses
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from keras_pdp.deployment.nchw_region import (
    MIN_SPARSITY,
    Obstacle,
    Region,
    region_of,
)
from keras_pdp.deployment.operators import Graph, read_graphs

Verdict: TypeAlias = Literal["eligible", "inert", "unsafe"]

_MEANING: dict[Verdict, str] = {
    "eligible": "the sparse kernels of ARM, WebAssembly and RISC-V compute it",
    "inert": "it is computed rightly, and no faster but for Dense layers by blocks",
    "unsafe": "sparsely stored, it would be computed wrongly on ARM and WebAssembly",
}


@dataclass(frozen=True)
class Finding:
    """Something that decided the verdict.

    Args:
        operation: the op: its number in the graph, its kind and the name of its output;
            or `"the model"`.
        reason: what is the matter with it.
        advice: what to change.
    """

    operation: str
    reason: str
    advice: str

    def __str__(self) -> str:
        advice = f"; {self.advice}" if self.advice else ""
        return f"{self.operation} {self.reason}{advice}"


@dataclass(frozen=True)
class SparseInferenceReport:
    """What the runtime's sparse kernels would make of a model.

    Args:
        name: the model or file.
        judged: what was judged: the file as it is, or with which weights sparse.
        verdict: `"eligible"`, `"inert"` or `"unsafe"`.
        sparsity: zeros as a fraction of the 1×1 convolutions that the sparse kernels
            would compute; it must exceed 2/3. `None` if they would compute none.
        findings: why; for an eligible model what other versions of the runtime may
            make of it, most often nothing.

    Example:

        >>> report = sparse_inference_report("model.tflite")
        >>> print(report)
        >>> report.verdict, [finding.operation for finding in report.findings]
    """

    name: str
    judged: str
    verdict: Verdict
    sparsity: float | None
    findings: tuple[Finding, ...]

    def to_dict(self) -> dict[str, Any]:
        """All fields, ready for `json.dump`."""
        findings = [dataclasses.asdict(finding) for finding in self.findings]
        return dataclasses.asdict(self) | {"findings": findings}

    def __str__(self) -> str:
        lines = [f"{self.name}: {self.verdict} for sparse inference, {self.judged}"]
        lines.append(f"  {_MEANING[self.verdict]}")
        if self.sparsity is not None:
            lines.append(f"  zeros in its 1×1 convolutions: {self.sparsity:.2%}")
        return "\n".join([*lines, *(f"  - {each}" for each in grouped(self.findings))])


def grouped(findings: Sequence[Finding]) -> list[str]:
    """A line for each reason, with the first op that it is true of."""
    alike: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        alike.setdefault((finding.reason, finding.advice), []).append(finding)
    return [
        str(first)
        if not others
        else str(
            dataclasses.replace(
                first, operation=f"{first.operation} and {len(others)} more"
            )
        )
        for first, *others in alike.values()
    ]


_DENSE = Finding(
    "the model",
    "has no weight that is stored sparsely, so dense kernels compute it",
    "prune it, and export it with sparse storage",
)
_BY_BLOCKS = Finding(
    "the model",
    "has no sparse weights but those of Dense layers stored by blocks, which have "
    "kernels of their own, on x86 as well",
    "nothing needs to change: they do not ask for the sparse kernels of convolutions",
)


def judged(
    data: bytes, sparse: Collection[int] | None = None, *, name: str = "the file"
) -> SparseInferenceReport:
    """The verdict on a .tflite file in memory.

    Args:
        data: the bytes of the file.
        sparse: numbers of the constants of subgraph 0 to judge as if they were stored
            sparsely, behind a DENSIFY; by default those that are.
        name: what the report and errors call the file.

    Returns:
        The verdict and its reasons.

    Raises:
        ValueError: the file is damaged, cut short, or no TFLite model; a number in
            `sparse` is none of a constant.
    """
    graphs = read_graphs(data, name)
    stored = any(graph.unfolds for graph in graphs)
    how = "as it is stored"
    if sparse is not None:
        _check_constants(graphs, sparse)
        stored = stored or bool(sparse)
        how = f"as if {len(sparse)} weights were stored sparsely"
    if not stored:
        finding = _BY_BLOCKS if _has_blocks(graphs) else _DENSE
        return SparseInferenceReport(name, how, "inert", None, (finding,))
    return _combined(name, how, [region_of(graph) for graph in graphs])


def _has_blocks(graphs: tuple[Graph, ...]) -> bool:
    constants = (tensor.constant for graph in graphs for tensor in graph.tensors)
    return any(each is not None and each.storage == "block" for each in constants)


def _check_constants(graphs: tuple[Graph, ...], sparse: Collection[int]) -> None:
    tensors = graphs[0].tensors if graphs else ()
    for number in sparse:
        if number not in range(len(tensors)) or tensors[number].constant is None:
            raise ValueError(
                f"sparse: expected numbers of constants of subgraph 0, received "
                f"{number}"
            )


def _combined(name: str, how: str, regions: list[Region]) -> SparseInferenceReport:
    """The verdict on a file is the worst of its graphs, but one eligible one pays."""
    verdicts = [_verdict(region) for region in regions]
    worst: Verdict = "unsafe" if "unsafe" in verdicts else "inert"
    verdict: Verdict = (
        "eligible" if "eligible" in verdicts and worst != "unsafe" else worst
    )
    findings = [
        finding
        for region, its in zip(regions, verdicts, strict=True)
        if its == verdict
        for finding in _findings(region, its)
    ]
    parts = [part for region in regions for part in region.parts if part.pointwise]
    return SparseInferenceReport(
        name=name,
        judged=how,
        verdict=verdict,
        sparsity=max((part.sparsity for part in parts), default=None),
        findings=tuple(dict.fromkeys(findings)),
    )


def _verdict(region: Region) -> Verdict:
    could_start = region.starts and region.may_end
    if not could_start or region.densest <= MIN_SPARSITY:
        return "inert"
    if region.obstacles:
        return "unsafe"
    # Every op fits, so the outputs are right whether or not a version switches.
    return "eligible" if any(part.is_switched for part in region.parts) else "inert"


def _findings(region: Region, verdict: Verdict) -> Iterator[Finding]:
    if not region.starts:
        yield _no_start(region.first)
    elif not region.may_end:
        yield Finding(
            "the model",
            "has no op that turns its maps back into vectors in sparse inference",
            "end with GlobalAveragePooling2D(), without keepdims, and Dense layers",
        )
    for obstacle in region.obstacles:
        operation = _described(obstacle)
        yield Finding(operation, obstacle.fit.reason, obstacle.fit.advice)
    if region.starts and verdict != "unsafe":
        yield from _too_dense(region)


def _no_start(first: Obstacle | None) -> Finding:
    advice = (
        'begin with ZeroPadding2D(1) and Conv2D(…, 3, strides=2, padding="valid") on 3 '
        "channels"
    )
    if first is not None and first.is_stem:
        advice += "; before it is pruned, prepare_for_sparse_inference rewrites it so"
    if first is None or not first.fit.reason:
        reason = "has no 3×3 stride-2 convolution on 3 channels, which would start it"
        return Finding("the model", reason, advice)
    return Finding(
        _described(first), f"{first.fit.reason}, so nothing starts it", advice
    )


def _too_dense(region: Region) -> Iterator[Finding]:
    alone = max((part.sparsity for part in region.parts), default=0.0)
    if alone <= MIN_SPARSITY:
        yield Finding(
            "the model",
            f"has {alone:.1%} zeros in the 1×1 convolutions of its sparse part",
            "prune these convolutions to more than two thirds; 80 % or more pays",
        )
        return
    with_heads = max(part.sparsity_with_heads for part in region.parts)
    if with_heads <= MIN_SPARSITY:
        yield Finding(
            "the model",
            f"has {with_heads:.1%} zeros in its 1×1 convolutions and the Dense layers "
            "behind its mean, which the newest versions of the runtime count as well",
            "prune the Dense layers too, and they will run it sparsely as others do",
        )


def _described(obstacle: Obstacle) -> str:
    node = obstacle.node
    operation = f"op {node.operator.index} {node.kind}"
    if not node.operator.outputs:
        return operation
    return f"{operation} ({node.result.name.split(';')[0]})"
