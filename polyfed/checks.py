"""Sentences for bad input: what was given, why it cannot work, what to do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from polyfed.naming import did_you_mean


def one_of(name: str, value: str, known: Iterable[str]) -> None:
    """Raise `ValueError` unless `value` is among `known`.

    >>> one_of("activation", "rleu", ["relu", "tanh"])
    Traceback (most recent call last):
    ValueError: activation = 'rleu' is not known: did you mean 'relu'?
    """
    known = list(known)
    if value not in known:
        raise ValueError(f"{name} = {value!r} is not known: {did_you_mean(str(value), known)}")


def as_numbers(value: Any) -> np.ndarray:
    """One number or nested ones as float64; raises `TypeError` or `ValueError` for text, nothing and ragged lists.

    >>> as_numbers((1, 0.5)).tolist()
    [1.0, 0.5]
    """
    given = np.asarray(value)
    if given.size == 0 or given.dtype.kind in "USMmc" or any(x is None for x in given.flat):
        raise TypeError(f"{value!r} is not a number")
    return given.astype(np.float64)


def in_range(name: str, value: Any, low: float, high: float, unit: str = "") -> None:
    """Raise `ValueError` unless every number in `value` lies in `[low, high]`.

    >>> in_range("discount", 1.5, 0.0, 1.0)
    Traceback (most recent call last):
    ValueError: discount = 1.5 is out of range: give a number from 0 to 1.
    """
    try:
        numbers = np.atleast_1d(as_numbers(value))
    except (TypeError, ValueError):
        raise ValueError(
            f"{name} = {value!r} is not a number: give one from {low:g} to {high:g}{_space(unit)}."
        ) from None
    wrong = numbers[~((numbers >= low) & (numbers <= high))]
    if wrong.size:
        raise ValueError(
            f"{name} = {wrong.flat[0]:g}{_space(unit)} is out of range: "
            f"give a number from {low:g} to {high:g}{_space(unit)}."
        )


def whole_in_range(name: str, value: Any, low: int, high: int, unit: str = "") -> None:
    """Raise `ValueError` unless `value` is one whole number in `[low, high]`: what counts things or fixes a shape.

    >>> whole_in_range("num_clients", 2.5, 1, 10)
    Traceback (most recent call last):
    ValueError: num_clients = 2.5 is not one whole number: give one from 1 to 10.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise ValueError(
            f"{name} = {value!r} is not one whole number: give one from {low:g} to {high:g}{_space(unit)}."
        )
    in_range(name, value, low, high, unit)


def _space(unit: str) -> str:
    return f" {unit}" if unit else ""
