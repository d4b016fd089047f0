"""How far two models agree on the same inputs."""

from dataclasses import dataclass

import numpy as np

from keras_pdp.deployment.sparse_encoding import Array

# An output that varies less than this, relative to its size, counts as varying so
# much: 8 bits resolve 1/256 of the range, so the softmax of an untrained net, almost
# the same for all inputs, is drowned in rounding that does not matter elsewhere.
_LEAST_SPREAD = 0.1
# Below this a probability is as good as 0: two of the 256 steps from 0 to 1.
_LEAST_PROBABILITY = 2 / 256


@dataclass(frozen=True)
class OutputAgreement:
    """How far one output of two models agrees.

    Args:
        output: the output's name.
        samples: number of inputs compared.
        max_abs_difference: the largest difference of two values.
        relative_difference: rms of the differences / spread of the reference, where
            the spread is the standard deviation over the samples, at least a tenth of
            the size: an output that does not depend on its input is off by 1, however
            close its mean may be, and by less where it hardly should depend on it.
        top1_agreement: the fraction of positions where the largest value stands at
            the same place on the last axis; `None` where that axis has one entry.
        broken: values that are NaN or infinite where the reference is finite.
        undefined: values where the reference itself is NaN or infinite; not compared.
        lost: entries on the last axis that vary in the reference, by a tenth of their
            size or more, and are one constant in what is judged, though others are
            not. Shares of a whole (softmax), and probabilities that are always below
            1/128, are not counted: what is small there is no loss.
    """

    output: str
    samples: int
    max_abs_difference: float
    relative_difference: float
    top1_agreement: float | None
    broken: int
    undefined: int
    lost: int = 0


def compare(output: str, reference: Array, received: Array) -> OutputAgreement:
    """Compares the values of one output.

    Args:
        output: the output's name.
        reference: what is right, `(samples, ...)`.
        received: what is to be judged, of the same shape.

    Returns:
        The agreement. The spread is at least a tenth of the size (rms) of the
        reference; with one sample it is the size.

    Raises:
        ValueError: the shapes differ, or the reference has no finite value.
    """
    if reference.shape != received.shape:
        raise ValueError(
            f"output {output!r}: expected shape {reference.shape}, received "
            f"{received.shape}"
        )
    reference, received = reference.astype(np.float64), received.astype(np.float64)
    defined = np.isfinite(reference)
    if not defined.any():
        raise ValueError(
            f"output {output!r} of the Keras model itself is NaN or infinite on all "
            "samples; nothing can be compared"
        )
    broken = defined & ~np.isfinite(received)
    compared = defined & ~broken
    difference = np.where(compared, received, 0) - np.where(compared, reference, 0)
    return OutputAgreement(
        output=output,
        samples=len(reference),
        max_abs_difference=float(np.max(np.abs(difference))),
        relative_difference=_ratio(_rms(difference), _spread(reference, defined)),
        top1_agreement=_top1(reference, received),
        broken=int(broken.sum()),
        undefined=int((~defined).sum()),
        lost=_lost(reference, received) if defined.all() else 0,
    )


def _lost(reference: Array, received: Array) -> int:
    """The relative difference is of the whole output, of which they may be little."""
    if reference.ndim < 2 or reference.shape[-1] < 2:
        return 0
    if np.all(reference >= 0) and np.allclose(reference.sum(axis=-1), 1.0, atol=1e-3):
        return 0
    entries = reference.reshape(-1, reference.shape[-1])
    varies = np.std(entries, axis=0) > _LEAST_SPREAD * np.sqrt(
        np.mean(np.square(entries), axis=0)
    )
    constant = np.ptp(received.reshape(entries.shape), axis=0) == 0
    if np.all((reference >= 0) & (reference <= 1)):  # a label that is never there
        varies &= entries.max(axis=0) > _LEAST_PROBABILITY
    return 0 if constant.all() else int(np.sum(varies & constant))


def _spread(reference: Array, defined: Array) -> float:
    size = _rms(reference[defined])
    if len(reference) < 2:
        return size
    finite = np.where(defined, reference, np.nan)
    mean = np.nansum(finite, axis=0) / np.maximum(defined.sum(axis=0), 1)
    return max(_rms((finite - mean)[defined]), _LEAST_SPREAD * size)


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def _ratio(difference: float, spread: float) -> float:
    if spread:
        return difference / spread
    return 0.0 if difference == 0 else float("inf")


def _top1(reference: Array, received: Array) -> float | None:
    if reference.ndim < 2 or reference.shape[-1] < 2:
        return None
    # NaN would win argmax; a broken value is the largest of nothing
    expected = np.argmax(np.nan_to_num(reference, nan=-np.inf), axis=-1)
    found = np.argmax(np.nan_to_num(received, nan=-np.inf), axis=-1)
    return float(np.mean(expected == found))
