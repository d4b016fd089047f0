"""Where a `fit` stands, from what Keras reports to callbacks."""

from keras_pdp.sparsity.schedule import Position


class Clock:
    """Counts the epochs and steps of a run, which may be spread over several `fit`s.

    Everything comes from the number of the epoch where the steps of one are known, so
    that a run that goes on from a checkpoint needs nothing from before it. Where they
    are unknown, the first epoch counts as its beginning until it is over.
    """

    def __init__(self) -> None:
        self.epochs = 1
        self._steps_per_epoch: int | None = None
        self._epoch = 0
        self._steps = 0  # done before this epoch
        self._batch = 0  # done in this epoch

    def begin(self, epochs: int, steps_per_epoch: int | None) -> None:
        """A `fit` begins, of a run of so many epochs."""
        self.epochs, self._steps_per_epoch = epochs, steps_per_epoch
        self._steps = self._batch = self._epoch = 0

    def begin_epoch(self, epoch: int) -> None:
        self._epoch, self._batch = epoch, 0
        if self._steps_per_epoch:
            self._steps = epoch * self._steps_per_epoch

    def end_batch(self, batch: int) -> None:
        """The last one of an execution of several steps."""
        self._batch = batch + 1

    def end_epoch(self) -> None:
        if not self._steps_per_epoch:
            self._steps_per_epoch = self._batch
        self._epoch += 1
        self._steps += self._batch
        self._batch = 0

    @property
    def knows_steps(self) -> bool:
        """Whether the steps of an epoch are known."""
        return bool(self._steps_per_epoch)

    @property
    def epochs_done(self) -> int:
        return self._epoch

    @property
    def now(self) -> Position:
        part = self._batch / self._steps_per_epoch if self._steps_per_epoch else 0.0
        epoch = self._epoch + min(part, 1.0)
        return Position(epoch, self._steps + self._batch, self.epochs)

    @property
    def end(self) -> Position:
        """The last position; its steps are Inf where they are unknown."""
        steps = self.epochs * (self._steps_per_epoch or 0)
        return Position(self.epochs, steps or float("inf"), self.epochs)
