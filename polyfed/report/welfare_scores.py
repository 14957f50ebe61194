"""System welfare and individual improvement: what training itself gives to all agents, and to each (Jiang et al. 2025).

Welfare is what the fleet earns while it learns, `mean_c x[r, s, c]` of the training returns `x`; an agent's improvement
is what it earns in a federation beyond what it earns alone. Arrays in, numbers out: a script can use what the page
does. Axes: `R` rounds, `S` seeds, `C` agents. A round in which an agent ended no episode is NaN and is not counted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from polyfed.evaluation import statistics
from polyfed.evaluation.statistics import FEW_SEEDS, Estimate
from polyfed.report import wording
from polyfed.report.verdict import HELPED, HURT, UNDECIDED, UNKNOWN, outcome, shortfall

TAIL = 10  # the last tenth of the rounds
Clause = tuple[str, str]  # an outcome, and what is said of it


def per_agent(returns: np.ndarray, last: int | None = None) -> np.ndarray:
    """`[S, C]`: what each agent earned per round, on average over the last rounds.

    Args:
      returns: `[R, S, C]`.
      last: How many; `None`: all.

    >>> returns = np.array([[[1.0, 10.0]], [[3.0, np.nan]], [[5.0, 30.0]]])
    >>> per_agent(returns), per_agent(returns, last=1)
    (array([[ 3., 20.]]), array([[ 5., 30.]]))
    """
    returns = np.asarray(returns, float)
    return _mean(returns if last is None else returns[-last:])


def welfare(returns: np.ndarray, last: int | None = None) -> np.ndarray:
    """`[S]`: the mean over agents of `per_agent`; NaN where an agent ended no episode.

    >>> welfare(np.array([[[1.0, 10.0]], [[3.0, 20.0]]]))
    array([8.5])
    """
    return per_agent(returns, last).mean(axis=-1)


def smoothed(returns: np.ndarray, window: int) -> np.ndarray:
    """`[R - window + 1, S]`: welfare over the last `window` rounds, after round `window`, `window + 1`, ..., `R`.

    Args:
      returns: `[R, S, C]`.
      window: Rounds, 1 to `R`.

    Raises:
      ValueError: There are fewer rounds than the window has.

    >>> smoothed(np.array([[[1.0, 3.0]], [[2.0, 4.0]], [[6.0, 8.0]]]), window=2)
    array([[2.5],
           [5. ]])
    """
    returns = np.asarray(returns, float)
    if not 1 <= window <= len(returns):
        raise ValueError(
            f"window = {window} does not fit into {len(returns)} rounds: no mean is whole; give 1 to {len(returns)}."
        )
    known, number = ~np.isnan(returns), len(returns) - window + 1
    earned = np.where(known, returns, 0.0)
    total, count = (sum(x[start : start + number] for start in range(window)) for x in (earned, known.astype(int)))
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).mean(axis=-1)


def rounds_until(returns: np.ndarray, level: float, window: int) -> np.ndarray:
    """`[S]`: the round after which the smoothed welfare first reaches a level; `inf` where it never does.

    Seeds are judged one by one; for the mean over seeds give `returns.mean(axis=1, keepdims=True)`.

    >>> rounds_until(np.array([[[1.0, 3.0]], [[2.0, 4.0]], [[6.0, 8.0]]]), level=4.0, window=2)
    array([3.])
    """
    curve = smoothed(returns, window)
    return statistics.first_reach(np.arange(window, window + len(curve)), curve, level)


def last_tenth(num_rounds: int) -> int:
    """Rounds in the last tenth, at least one.

    >>> last_tenth(2000), last_tenth(25), last_tenth(3)
    (200, 3, 1)
    """
    return max(1, math.ceil(num_rounds / TAIL))


def improvement(returns: np.ndarray, alone: np.ndarray) -> Estimate:
    """`[C]`: per agent, the mean over the last tenth of training minus that of the same agent alone.

    Paired by seed, whole seeds resampled, as `polyfed.evaluation.statistics.paired_difference` does.

    Args:
      returns: `[R, S, C]`, in a federation.
      alone: `[R', S, C]`, the same agents and seeds without it.

    >>> gains = improvement(np.full((20, 5, 2), [30.0, 8.0]), np.full((20, 5, 2), [10.0, 9.0]))
    >>> gains.value
    array([20., -1.])
    """
    return statistics.paired_difference(
        per_agent(returns, last_tenth(len(returns))).T, per_agent(alone, last_tenth(len(alone))).T
    )


def who_gains(labels: Sequence[str], gains: Estimate) -> tuple[Clause, ...]:
    """Who gains, who loses, and for whom nothing can be told; each clause is an outcome and what is said.

    "Nobody loses" is said only where no interval lies below zero, and never without the width of the intervals: wide
    ones hide losses.

    Args:
      labels: One per agent.
      gains: `[C]`, from `improvement`.

    >>> gains = improvement(np.full((20, 5, 2), [30.0, 8.0]), np.full((20, 5, 2), [10.0, 9.0]))
    >>> [text for _, text in who_gains(["wide", "narrow"], gains)]
    ['1 of 2 agents gains: wide +20.0 [20.0, 20.0]', '1 of 2 agents loses: narrow −1.00 [−1.00, −1.00]']
    """
    found: dict[str, list[str]] = {}
    for label, gain in zip(labels, (gains[i] for i in range(len(labels))), strict=True):
        found.setdefault(outcome(gain), []).append(f"{label} {wording.estimate(gain, sign=True)}")
    said = {key: wording.listing(texts, 12) for key, texts in found.items()}
    unknown = [(UNKNOWN, f"not a number: {said[UNKNOWN]}")] if UNKNOWN in said else []
    if gains.num_seeds < FEW_SEEDS:
        few = [(UNDECIDED, f"{shortfall(gains.num_seeds)}: {said[UNDECIDED]}")] if UNDECIDED in said else []
        return (*few, *unknown)
    clauses = []
    for key, verb in ((HELPED, "gain"), (HURT, "lose")):
        if key in found:
            number, plural = len(found[key]), wording.count(len(labels), "agent")
            clauses.append((key, f"{number} of {plural} {verb}{'s' * (number == 1)}: {said[key]}"))
    if HELPED not in found and not unknown:
        clauses.insert(0, ("", "nobody gains for sure"))
    if HURT not in found and not unknown:
        clauses.append(("", _nobody_loses(labels, gains)))
    if UNDECIDED in found:
        clauses.append((UNDECIDED, f"not to be told apart from learning alone: {said[UNDECIDED]}"))
    return (*clauses, *unknown)


def _nobody_loses(labels: Sequence[str], gains: Estimate) -> str:
    """The absence of losses, no stronger than the intervals."""
    widths, least = gains.high - gains.low, int(np.argmin(gains.low))
    decimals = wording.places([gains[i] for i in range(len(labels))])
    low, high = (wording.number(float(bound), decimals) for bound in (widths.min(), widths.max()))
    width = f"{low} wide" if low == high else f"{low} to {high} wide"
    text = f"nobody loses: no interval lies below zero; the intervals are {width}"
    if gains.low[least] < 0:
        depth = wording.number(float(gains.low[least]), decimals)
        text += f", and the lowest reaches down to {depth} ({labels[least]})"
    return text


def _mean(rows: np.ndarray) -> np.ndarray:
    """Mean over the first axis of what is not NaN; NaN where nothing is."""
    known = ~np.isnan(rows)
    number = known.sum(axis=0)
    return np.where(number > 0, np.where(known, rows, 0.0).sum(axis=0) / np.maximum(number, 1), np.nan)
