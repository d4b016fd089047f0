"""How soft the mask is: the temperature tau of `sigmoid((w^2 - t^2) / tau)`.

What decides is not tau but `kappa = t^2 / tau`, how many temperatures wide the pruned
range is. A fixed tau is soft on a layer with weights of 0.02 and a plain hard mask on
one with weights of 0.2.
"""

import abc
import dataclasses
from typing import Any

import keras

from keras_pdp.sparsity import validation
from keras_pdp.sparsity.granularity import Channel, Granularity

# tau is stored as float32: outside of these it, or a quotient by it, would be 0 or Inf.
# The smallest also keeps 0 / tau defined for a kernel whose threshold is 0.
_SMALLEST, _LARGEST = 1e-30, 1e30


class Temperature(abc.ABC):
    """Gives each kernel its tau, once, when pruning begins."""

    @abc.abstractmethod
    def at(self, threshold: float) -> float:
        """The kernel's tau, > 0, from the threshold `t` it is heading for."""

    def get_config(self) -> dict[str, Any]:
        """The fields, JSON-safe; `from_config(get_config())` is an equal value."""
        return dataclasses.asdict(self)  # type: ignore[call-overload]

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Temperature":
        """Builds the value from `get_config()`."""
        return cls(**config)


@keras.saving.register_keras_serializable(package="keras_pdp")
@dataclasses.dataclass(frozen=True)
class Calibrated(Temperature):
    """`tau = t^2 / kappa`, with the threshold each kernel is heading for.

    Set once and kept. It is the temperature of the gradient, and of what a step
    computes with while pruning begins; from there the masks harden
    (`PDPCallback(harden=...)`).

    Args:
        kappa: How hard the mask is, > 0. In benchmarks/STUDY.md, with masks that
            harden, 2 did best or nearly so, 5 lost up to 1.6 points to it and gained
            0.8 at most, and 20 lost up to 4.8; of whole channels 20 did best.
            Defaults to 2.0.

    Raises:
        TypeError: If `kappa` is no number.
        ValueError: If it is not finite and > 0.
    """

    kappa: float = 2.0

    def __post_init__(self) -> None:
        # Stored as a plain float: JSON knows no numpy numbers.
        object.__setattr__(self, "kappa", validation.positive("kappa", self.kappa))

    def at(self, threshold: float) -> float:
        return min(max(threshold**2 / self.kappa, _SMALLEST), _LARGEST)


@keras.saving.register_keras_serializable(package="keras_pdp")
@dataclasses.dataclass(frozen=True)
class Absolute(Temperature):
    """One tau for every kernel, as in the paper.

    Args:
        tau: The temperature, in units of squared weights, between 1e-30 and 1e30.
            Defaults to 1e-4. Of channels that hang together in several kernels, whose
            score is relative, in units of their mean.

    Raises:
        TypeError: If `tau` is no number.
        ValueError: If it is not in that range.
    """

    tau: float = 1e-4

    def __post_init__(self) -> None:
        object.__setattr__(self, "tau", validation.positive("tau", self.tau))
        if not _SMALLEST <= self.tau <= _LARGEST:
            raise ValueError(
                f"`tau` is computed with in float32 and should be between {_SMALLEST} "
                f"and {_LARGEST}; try Calibrated(), which finds one for each kernel. "
                f"Received: {self.tau!r}."
            )

    def at(self, threshold: float) -> float:
        return self.tau


def default(granularity: Granularity) -> Temperature:
    """The temperature where none is asked for: `Calibrated()`, harder for channels.

    By evidence (benchmarks/STUDY.md): a trained net whose channels are pruned briefly
    gains 2.7 points with it, and nets from random weights lose nothing.
    """
    return Calibrated(20.0) if isinstance(granularity, Channel) else Calibrated()


def check(temperature: object) -> Temperature:
    """Returns `temperature`, or raises a TypeError that says what one looks like."""
    if isinstance(temperature, Temperature):
        return temperature
    raise TypeError(
        "`temperature` should be Calibrated(kappa=2.0) or Absolute(tau). "
        f"Received: {temperature!r}."
    )
