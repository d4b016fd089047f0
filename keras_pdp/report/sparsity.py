"""sparsity_report: what is pruned in a model or file, by how much, and what is not."""

import dataclasses
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_pdp.deployment.flatbuffer import read_tflite
from keras_pdp.deployment.keras_file import load_keras
from keras_pdp.training import prunable
from keras_pdp.training.compiled import number
from keras_pdp.training.prunable import DEPTHWISE, PrunableWeight, Skipped
from keras_pdp.training.pruned_kernel import PrunedKernel
from keras_pdp.training.surgery import named_wrappers, pruned_layers
from keras_pdp.training.wrapper import PDPWrapper


@dataclasses.dataclass(frozen=True)
class TensorSparsity:
    """One prunable tensor.

    Args:
        name: `layer/weight` in a Keras model, the tensor's name in a .tflite file.
        shape: Its shape as stored.
        size: Weights in it.
        zeros: How many of them are, or while wrapped would be, exact zeros.
        how: Its granularity while wrapped, `not wrapped` or empty in a Keras model
            otherwise, the storage (such as `int8 dense`) in a file.
    """

    name: str
    shape: tuple[int, ...]
    size: int
    zeros: int
    how: str

    @property
    def sparsity(self) -> float:
        """The fraction of its weights that is removed; 0 where it has none."""
        return self.zeros / self.size if self.size else 0.0


@dataclasses.dataclass(frozen=True)
class SparsityReport:
    """What is pruned, over three named denominators; `str()` is a table.

    Args:
        name: The model's name or the file's path.
        tensors: Every kernel that keras_pdp can prune, in the model's order; in a
            .tflite file every weight tensor.
        skipped: Weights of two or more axes that are not pruned, with the reasons.
        parameters: All weights of the model, biases and statistics too; of a .tflite
            file, all constants.
    """

    name: str
    tensors: tuple[TensorSparsity, ...]
    skipped: tuple[Skipped, ...]
    parameters: int

    @property
    def zeros(self) -> int:
        """Weights removed in all prunable tensors."""
        return sum(tensor.zeros for tensor in self.tensors)

    @property
    def prunable(self) -> int:
        """Weights in all prunable tensors."""
        return sum(tensor.size for tensor in self.tensors)

    @property
    def sparsity(self) -> float:
        """Removed weights over the prunable ones; 0 where there are none."""
        return self.zeros / self.prunable if self.prunable else 0.0

    @property
    def sparsity_of_all(self) -> float:
        """Removed weights over all parameters of the model."""
        return self.zeros / self.parameters if self.parameters else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Everything, the derived numbers too, ready for `json.dump`."""
        tensors = [
            {**dataclasses.asdict(t), "shape": list(t.shape), "sparsity": t.sparsity}
            for t in self.tensors
        ]
        return {
            "name": self.name,
            "tensors": tensors,
            "skipped": [dataclasses.asdict(s) for s in self.skipped],
            "zeros": self.zeros,
            "prunable": self.prunable,
            "parameters": self.parameters,
            "sparsity": self.sparsity,
            "sparsity_of_all": self.sparsity_of_all,
        }

    def __str__(self) -> str:
        rows = [("tensor", "shape", "weights", "zeros", "sparsity", "")]
        rows += [
            (
                tensor.name,
                "x".join(map(str, tensor.shape)),
                f"{tensor.size:,}",
                f"{tensor.zeros:,}",
                f"{tensor.sparsity:.2%}",
                tensor.how,
            )
            for tensor in self.tensors
        ]
        totals = (
            ("prunable weights", self.prunable, self.sparsity),
            ("all parameters", self.parameters, self.sparsity_of_all),
        )
        rows += [
            (what, "", f"{size:,}", f"{self.zeros:,}", f"{share:.2%}", "")
            for what, size, share in totals
        ]
        lines = [self.name, *_aligned(rows)]
        if self.skipped:
            lines.append("not pruned:")
            lines += [f"  {s.name}: {s.reason}" for s in self.skipped]
        return "\n".join(lines)


def sparsity_report(model: keras.Model | str | os.PathLike[str]) -> SparsityReport:
    """Counts what is pruned in a model, wrapped or plain, or in a file.

    While a layer is wrapped, what its hard mask removes counts as zeros: what `strip`
    would give now. In plain models and files the zeros themselves are counted.

    Args:
        model: A Keras model, or the path of a `.keras` or `.tflite` file.

    Returns:
        The report; `print` it, or take `to_dict()`.

    Raises:
        TypeError: If it is neither a Keras 3 model nor a path.
        ValueError: If the model is not built, a file is of another kind or broken, or
            a wrapped kernel holds NaN or Inf.
        FileNotFoundError: If there is no such file.

    Example:

    >>> print(sparsity_report(model))
    >>> sparsity_report("model.tflite").sparsity
    """
    if isinstance(model, str | os.PathLike):
        return _of_file(Path(model))
    if not isinstance(model, keras.Layer):
        raise TypeError(
            "`sparsity_report` takes a Keras 3 model or the path of a .keras or "
            ".tflite file. "
            f"Received: {type(model).__module__}.{type(model).__qualname__}."
        )
    if not model.built:
        raise ValueError(
            f"'{model.name}' is not built, so it has no weights to count: add a "
            "keras.Input, or call the model once on data."
        )
    return _of_model(model)


def _of_file(path: Path) -> SparsityReport:
    if not path.exists():
        raise FileNotFoundError(f"There is no file '{path}'.")
    if path.suffix == ".tflite":
        return _of_tflite(path)
    if path.suffix == ".keras":
        report = _of_model(load_keras(path))
        return dataclasses.replace(report, name=str(path))
    raise ValueError(
        f"`sparsity_report` reads .keras and .tflite files. Received: '{path}'."
    )


def _of_tflite(path: Path) -> SparsityReport:
    file = read_tflite(path)
    tensors = tuple(
        TensorSparsity(w.name, w.shape, w.size, w.zeros, f"{w.dtype} {w.storage}")
        for w in file.weights
    )
    parameters = sum(each.size for each in file.constants)
    return SparsityReport(str(path), tensors, (), parameters)


def _of_model(model: keras.Layer) -> SparsityReport:
    wrapped = dict(_wrapped_tensors(model))
    wraps_some = bool(wrapped)
    patterns = any(w.granularity.kept_per_pool for w in _wrappers(model))
    states = {id(v) for w in _wrappers(model) for v in _state_of(w)}
    outer_names = {
        f"{name}/{wrapper.layer.name}/": f"{name}/"
        for name, wrapper in named_wrappers(model).items()
    }
    found, skipped = prunable.find(model)
    tensors, loose = [], []
    for weight in found:
        name = _as_wrapped(weight.name, outer_names)
        if id(weight.variable) in wrapped:
            tensors.append(wrapped[id(weight.variable)])
            continue
        w = keras.ops.convert_to_numpy(weight.variable)
        zeros = int(w.size - np.count_nonzero(w))
        how = "not wrapped" if wraps_some else ""
        tensors.append(TensorSparsity(name, w.shape, w.size, zeros, how))
        if wraps_some:
            loose.append(Skipped(name, _why_not_wrapped(weight, patterns)))
    loose += [
        Skipped(name, f"{kernel.granularity} can remove nothing from it")
        for name, kernel in _wrapped_kernels(model)
        if kernel.prunable < 1
    ]
    parameters = sum(math.prod(v.shape) for v in model.weights if id(v) not in states)
    return SparsityReport(model.name, tuple(tensors), (*skipped, *loose), parameters)


def _as_wrapped(name: str, outer_names: dict[str, str]) -> str:
    """The name of a weight without the wrapped layer's own, as wrapped kernels have."""
    for inner, outer in outer_names.items():
        if name.startswith(inner):
            return outer + name.removeprefix(inner)
    return name


def _why_not_wrapped(weight: PrunableWeight, patterns: bool) -> str:
    """The reason; `patterns` says whether anything in the model is pruned n:m."""
    if weight.table:
        return "a table of embeddings, which is pruned if its layer itself is wrapped"
    if weight.depthwise and patterns:
        return DEPTHWISE
    return "its layer is not wrapped"


def _wrapped_kernels(model: keras.Layer) -> Iterator[tuple[str, PrunedKernel]]:
    for name, wrapper in named_wrappers(model).items():
        for kernel in wrapper.kernels:
            yield f"{name}/{kernel.name}", kernel


def _wrapped_tensors(model: keras.Layer) -> Iterator[tuple[int, TensorSparsity]]:
    frozen = {id(k): number(w.frozen) for w in _wrappers(model) for k in w.kernels}
    for name, kernel in _wrapped_kernels(model):
        kernel.values()  # raises on NaN and Inf, which have no rank
        keep = keras.ops.convert_to_numpy(kernel.keeps(frozen[id(kernel)]))
        zeros = int(keep.size - np.count_nonzero(keep))
        yield (
            id(kernel.variable),
            TensorSparsity(
                name, tuple(keep.shape), kernel.size, zeros, str(kernel.granularity)
            ),
        )


def _wrappers(model: keras.Layer) -> list[PDPWrapper]:
    return [w for w in pruned_layers(model) if w.gated]


def _state_of(wrapper: PDPWrapper) -> list[keras.Variable]:
    inner = {id(v) for v in wrapper.layer.variables}
    return [v for v in wrapper.variables if id(v) not in inner]


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Names and remarks to the left, numbers to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for name, *numbers, remark in rows:
        cells = [f"{c:>{w}}" for c, w in zip(numbers, widths[1:-1], strict=True)]
        lines.append("  ".join([f"{name:<{widths[0]}}", *cells, remark]).rstrip())
    return lines
