"""Checks of the numbers a user passes, with messages that say what to do."""

import math
import numbers


def real(name: str, value: object) -> float:
    """Returns `value` as a float, or raises when it is not a finite number."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(
            f"`{name}` should be a number. Received: {value!r} "
            f"(of type {type(value).__name__})."
        )
    if not math.isfinite(value):
        raise ValueError(f"`{name}` should be a finite number. Received: {value!r}.")
    return float(value)


def positive(name: str, value: object) -> float:
    """Returns `value` as a float > 0, or raises."""
    number = real(name, value)
    if number <= 0.0:
        raise ValueError(f"`{name}` should be greater than 0. Received: {value!r}.")
    return number


def not_negative(name: str, value: object) -> float:
    """Returns `value` as a float >= 0, or raises."""
    number = real(name, value)
    if number < 0.0:
        raise ValueError(f"`{name}` should not be negative. Received: {value!r}.")
    return number


def sparsity(name: str, value: object) -> float:
    """Returns `value` as a float in [0, 1), the fraction of weights removed."""
    number = real(name, value)
    if not 0.0 <= number < 1.0:
        raise ValueError(
            f"`{name}` is the fraction of weights removed and should be in [0, 1), "
            f"for example 0.9 for 90 %. Received: {value!r}."
        )
    return number


def integer(name: str, value: object, minimum: int | None = None) -> int:
    """Returns `value` as an int, at least `minimum` where one is given."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(
            f"`{name}` should be an integer. Received: {value!r} "
            f"(of type {type(value).__name__})."
        )
    if minimum is not None and value < minimum:
        raise ValueError(
            f"`{name}` should be an integer of at least {minimum}. Received: {value!r}."
        )
    return int(value)
