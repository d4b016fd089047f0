"""How the sparsity rises: where a run stands -> fraction of the final sparsity.

Every schedule is 0 up to its `begin`, 1 from its `end` on, and rises in between. Both
are moments of the run, a fraction of it by default, so that a short run reaches its
target as well; `Epochs(n)` and `Steps(n)` are absolute.
"""

import abc
import dataclasses
import math

from keras_pdp.sparsity import validation


@dataclasses.dataclass(frozen=True)
class Position:
    """Where a run stands.

    Args:
        epoch: Epochs done, with the current one's part, for example 2.5.
        step: Training steps done; Inf where a run has steps without end.
        epochs: Epochs of the whole run, at least 1.

    Raises:
        TypeError: If an argument is no number, or `epochs` no integer.
        ValueError: If one is negative or NaN, or `epochs` < 1.
    """

    epoch: float
    step: float
    epochs: int

    def __post_init__(self) -> None:
        validation.not_negative("epoch", self.epoch)
        if self.step != math.inf:
            validation.not_negative("step", self.step)
        validation.integer("epochs", self.epochs, minimum=1)

    @property
    def fraction(self) -> float:
        """The part of the run that is done."""
        return self.epoch / self.epochs


@dataclasses.dataclass(frozen=True)
class Epochs:
    """A moment `count` epochs after the start of the run."""

    count: float

    def __post_init__(self) -> None:
        validation.not_negative("Epochs(count)", self.count)


@dataclasses.dataclass(frozen=True)
class Steps:
    """A moment `count` training steps after the start of the run."""

    count: float

    def __post_init__(self) -> None:
        validation.not_negative("Steps(count)", self.count)


# A plain number is a fraction of the run.
Moment = float | Epochs | Steps


def elapsed(moment: Moment, position: Position) -> tuple[float, float]:
    """How far the run is, and how far the moment, both in the moment's own unit."""
    if isinstance(moment, Epochs):
        return position.epoch, moment.count
    if isinstance(moment, Steps):
        return position.step, moment.count
    return position.fraction, moment


def reached(moment: Moment, position: Position) -> bool:
    """Whether the run has come to the moment."""
    now, then = elapsed(moment, position)
    return now >= then


def check_moment(name: str, moment: object) -> Moment:
    """Returns `moment`, or raises saying what a moment is."""
    if isinstance(moment, Epochs | Steps):
        return moment
    number = validation.real(name, moment)
    if not 0.0 <= number <= 1.0:
        raise ValueError(
            f"`{name}` is a fraction of the run and should be in [0, 1]; for an "
            "absolute moment pass Epochs(n) or Steps(n). "
            f"Received: {moment!r}."
        )
    return number


class Schedule(abc.ABC):
    """Called with a `Position`, gives the fraction of the final sparsity in [0, 1]."""

    @abc.abstractmethod
    def __call__(self, position: Position) -> float:
        """The fraction of the final sparsity at `position`."""

    @property
    def complete(self) -> Moment | None:
        """The moment from which it gives 1; None where it does not say."""
        return None


@dataclasses.dataclass(frozen=True)
class _Ramp(Schedule):
    """A rise between two moments of one kind, whose form a subclass gives."""

    begin: Moment = 0.1
    end: Moment = 0.5

    def __post_init__(self) -> None:
        check_moment("begin", self.begin)
        check_moment("end", self.end)
        if _unit(self.begin) is not _unit(self.end):
            raise ValueError(
                "`begin` and `end` should be of one kind: two fractions, two Epochs or "
                f"two Steps. Received: begin={self.begin!r}, end={self.end!r}."
            )
        if _number(self.begin) >= _number(self.end):
            raise ValueError(
                "A schedule should end after it begins; for a single step use "
                f"Constant(begin). Received: begin={self.begin!r}, end={self.end!r}."
            )

    def __call__(self, position: Position) -> float:
        now, begin = elapsed(self.begin, position)
        _, end = elapsed(self.end, position)
        if now <= begin:
            return 0.0
        if now >= end:
            return 1.0
        return self._rise((now - begin) / (end - begin))

    @property
    def complete(self) -> Moment:
        return self.end

    @abc.abstractmethod
    def _rise(self, p: float) -> float:
        """The form of the ramp: rises from 0 at p = 0 to 1 at p = 1."""


@dataclasses.dataclass(frozen=True)
class Linear(_Ramp):
    """`p`: rises evenly.

    Args:
        begin: When pruning begins. Defaults to 0.1 of the run.
        end: When the final sparsity is reached. Defaults to 0.5 of the run.

    Raises:
        TypeError: If a moment is no number, `Epochs` or `Steps`.
        ValueError: If `end` is not after `begin`, or of another kind.

    Example:

    >>> Linear(0.0, 0.5)(Position(epoch=1, step=10, epochs=4))
    0.5
    """

    def _rise(self, p: float) -> float:
        return p

    @staticmethod
    def paper(warmup_epochs: int = 16, rate: float = 0.015) -> "PerEpoch":
        """The paper's: `min(1, rate * (e - warmup_epochs + 1))` in epoch e, from 0.

        Args:
            warmup_epochs: Epochs of dense training. Defaults to 16.
            rate: Part of the final sparsity added in each epoch. Defaults to 0.015,
                of the paper's recipe for 100 epochs (full sparsity at epoch 82).

        Raises:
            TypeError: If an argument is no number.
            ValueError: If `warmup_epochs` < 1 or `rate` is not in (0, 1].
        """
        warmup = validation.integer("warmup_epochs", warmup_epochs, minimum=1)
        if validation.positive("rate", rate) > 1.0:
            raise ValueError(f"`rate` should be in (0, 1]. Received: {rate!r}.")
        return PerEpoch(Linear(Epochs(warmup - 1), Epochs(warmup - 1 + 1 / rate)))


@dataclasses.dataclass(frozen=True)
class Polynomial(_Ramp):
    """`1 - (1 - p)^power`: fast at first, slow at the end (Zhu and Gupta 2017).

    Args:
        begin: When pruning begins. Defaults to 0.1 of the run.
        end: When the final sparsity is reached. Defaults to 0.5 of the run.
        power: > 0. Defaults to 3.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: As for `Linear`, or if `power` is not > 0.
    """

    power: float = 3.0

    def __post_init__(self) -> None:
        super().__post_init__()
        validation.positive("power", self.power)

    def _rise(self, p: float) -> float:
        return 1.0 - (1.0 - p) ** self.power


@dataclasses.dataclass(frozen=True)
class Exponential(_Ramp):
    """`(1 - exp(-rate p)) / (1 - exp(-rate))`: the steepest start.

    Args:
        begin: When pruning begins. Defaults to 0.1 of the run.
        end: When the final sparsity is reached. Defaults to 0.5 of the run.
        rate: How steep, > 0. Defaults to 4.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: As for `Linear`, or if `rate` is not > 0.
    """

    rate: float = 4.0

    def __post_init__(self) -> None:
        super().__post_init__()
        validation.positive("rate", self.rate)

    def _rise(self, p: float) -> float:
        return math.expm1(-self.rate * p) / math.expm1(-self.rate)


@dataclasses.dataclass(frozen=True)
class Constant(Schedule):
    """The final sparsity at once, from `begin` on.

    Args:
        begin: When it is set. Defaults to 0.0, the start of the run.
    """

    begin: Moment = 0.0

    def __post_init__(self) -> None:
        check_moment("begin", self.begin)

    def __call__(self, position: Position) -> float:
        return 1.0 if reached(self.begin, position) else 0.0

    @property
    def complete(self) -> Moment:
        return self.begin


@dataclasses.dataclass(frozen=True)
class PerEpoch(Schedule):
    """Another schedule, evaluated at the start of each epoch and held during it.

    Args:
        schedule: What gives the fraction.

    Raises:
        TypeError: If it is no `Schedule`.
    """

    schedule: Schedule

    def __post_init__(self) -> None:
        check(self.schedule)

    def __call__(self, position: Position) -> float:
        whole = math.floor(position.epoch)
        done = whole / position.epoch if position.epoch else 1.0
        return self.schedule(Position(whole, position.step * done, position.epochs))

    @property
    def complete(self) -> Moment | None:
        return self.schedule.complete


@dataclasses.dataclass(frozen=True)
class TwoFifthsOfTheRest:
    """Two fifths of the way from the end of a schedule to the end of the run."""

    def after(self, schedule: Schedule) -> float:
        """As a fraction of the run; 0.7 where the schedule ends by epochs or steps."""
        end = schedule.complete
        if end is None or _unit(end) is not float:
            return 0.7
        # `end + (1 - end) * 2 / 5`, but 0.46 and not 0.45999999999999996.
        return 0.4 + 0.6 * _number(end)


TWO_FIFTHS_OF_THE_REST = TwoFifthsOfTheRest()


def check(schedule: object) -> Schedule:
    """Returns `schedule`, or raises a TypeError that says what one looks like."""
    if isinstance(schedule, Schedule):
        return schedule
    raise TypeError(
        "`schedule` should be a Schedule such as Polynomial(0.1, 0.5), Linear(), "
        f"Exponential() or Constant(). Received: {schedule!r}."
    )


def _unit(moment: Moment) -> type:
    return type(moment) if isinstance(moment, Epochs | Steps) else float


def _number(moment: Moment) -> float:
    return moment.count if isinstance(moment, Epochs | Steps) else float(moment)


def check_in_fractions(schedule: Schedule, freeze_at: Moment | None) -> None:
    """Raises where a fraction of the run does not say how far the schedule is."""
    moments = (schedule.complete, freeze_at)
    absolute = any(isinstance(moment, Epochs | Steps) for moment in moments)
    if absolute or isinstance(schedule, PerEpoch):
        raise ValueError(
            "A schedule of epochs or steps needs Position(epoch, step, epochs); a "
            "number is the fraction of the run that is done. Received: a number, with "
            f"schedule={schedule!r}, freeze_at={freeze_at!r}."
        )


def fraction_at(schedule: Schedule, position: Position) -> float:
    """What the schedule gives; raises where it is no fraction, as one's own may be."""
    fraction = schedule(position)
    if not 0.0 <= fraction <= 1.0:
        raise ValueError(
            "A schedule should give the fraction of the final sparsity, in [0, 1]. "
            f"Received: {fraction!r} from {schedule!r} at {position!r}."
        )
    return fraction


def check_order(schedule: Schedule, freeze_at: Moment) -> None:
    """Raises where masks would be frozen before the schedule has ended."""
    end = schedule.complete
    if end is None or _unit(end) is not _unit(freeze_at):
        return
    if _number(freeze_at) < _number(end):
        raise ValueError(
            "`freeze_at` should not be before the end of the schedule. Received: "
            f"freeze_at={freeze_at!r}, schedule={schedule!r}."
        )


# The defaults. Where a budget is shared out, magnitudes have to mean something first;
# a pattern takes its part of every pool, and the net gets the longer to live with it.
OF_A_BUDGET = Polynomial(0.1, 0.5)
OF_PATTERNS = Polynomial(0.0, 0.1)
