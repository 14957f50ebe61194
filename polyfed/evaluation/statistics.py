"""Interquartile means over seeds with bootstrap intervals (Agarwal et al. 2021, `agarwal2021precipice`).

Scores are returns: higher is better. Seeds are the unit of chance, and every function that draws does so from
`BOOTSTRAP_SEED`, so the same scores give the same interval. What is not a finite number is never trimmed away: NaN or
infinity in, NaN out.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable

import numpy as np
from scipy import stats

CONFIDENCE = 0.95  # of every interval
RESAMPLES = 4000  # bootstrap resamples
BOOTSTRAP_SEED = 20210830  # of the resampling; the same run gives the same report
FEW_SEEDS = 5  # below it no claim is made: the signs of n paired differences agree by chance with probability 2^(1 - n)
WINDOW = 0.25  # share of the evaluation points after round 0 that make the early and the final window

_BATCH = 2_000_000  # numbers held at once while resampling


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A statistic over seeds with its interval; the three arrays have one shape.

    `low` and `high` are NaN with a single seed: there is no interval, and none is invented.

    >>> estimate_iqm(np.array([[1.0], [2.0], [3.0]])).value
    array(2.)
    >>> estimate_iqm(np.array([[1.0]])).has_interval
    False
    """

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    num_seeds: int

    @property
    def has_interval(self) -> bool:
        """Whether more than one seed was run."""
        return self.num_seeds > 1

    def __getitem__(self, index: int) -> Estimate:
        """The estimate of one row."""
        return Estimate(self.value[index], self.low[index], self.high[index], self.num_seeds)


def final_window(rounds: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Mean over the last quarter of the evaluation points, never over round 0 unless there is nothing else.

    Args:
      rounds: `[N]`, the round after which each evaluation was made, ascending; 0 = before training.
      values: `[N, ...]`.

    Returns:
      `[...]`, the mean of the last `ceil(N' / 4)` points, `N'` of which came after round 0.

    >>> float(final_window(np.arange(9), np.arange(9.0)))
    7.5
    """
    trained = _after_training_began(rounds)
    return np.asarray(values)[trained[-_window_length(trained) :]].mean(axis=0)


def early_window(rounds: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Mean over the first quarter of the evaluation points after round 0; otherwise as `final_window`.

    >>> float(early_window(np.arange(9), np.arange(9.0)))
    1.5
    """
    trained = _after_training_began(rounds)
    return np.asarray(values)[trained[: _window_length(trained)]].mean(axis=0)


def _after_training_began(rounds: np.ndarray) -> np.ndarray:
    (trained,) = np.nonzero(np.asarray(rounds) > 0)
    return trained if len(trained) else np.arange(len(rounds))


def _window_length(points: np.ndarray) -> int:
    return max(1, math.ceil(WINDOW * len(points)))


def interquartile_mean(scores: np.ndarray, axis: int | None = None) -> np.ndarray:
    """Mean of the middle half: the `floor(n / 4)` lowest and as many highest of `n` scores are left out.

    Args:
      scores: Any shape.
      axis: Axis that is averaged; `None` averages all scores at once.

    >>> interquartile_mean(np.array([0.0, 1.0, 2.0, 9.0]))
    array(1.5)
    """
    scores = _finite(scores)
    mean = stats.trim_mean(scores, 0.25, axis=axis)
    return np.where(np.isnan(scores).any(axis=axis), np.nan, mean)


def estimate_iqm(scores: np.ndarray) -> Estimate:
    """Interquartile mean over seeds and environments with its stratified bootstrap percentile interval.

    `IQM({x[s, m]})`; a resample draws `S` seeds with replacement within each environment, independently of the
    other environments (Agarwal et al. 2021, sec. 4.1 and 4.3). That independence is the convention of the field;
    the environments of one seed share a federation, so where seeds differ in all environments alike this interval is
    too narrow. No claim rests on it: `paired_difference` and `estimate_worst_case` resample whole seeds.

    Args:
      scores: `[..., S, M]`, `S` seeds on `M` environments; leading axes (evaluation points) are resampled alike.

    Returns:
      Arrays `[...]`; the bounds are NaN with one seed.

    >>> estimate = estimate_iqm(np.array([[1.0, 5.0], [2.0, 6.0], [3.0, 7.0], [4.0, 8.0]]))
    >>> float(estimate.value), bool(estimate.low < 4.5 < estimate.high)
    (4.5, True)
    """
    scores = _finite(scores)
    columns = [scores[..., column] for column in range(scores.shape[-1])]
    return _bootstrap(columns, _pooled_iqm, CONFIDENCE)


def estimate_worst_case(scores: np.ndarray) -> Estimate:
    """Interquartile mean over seeds of the worst environment's score, `IQM_s(min_m x[s, m])`, with its interval.

    Args:
      scores: `[..., S, M]`.

    >>> float(estimate_worst_case(np.array([[1.0, 5.0], [2.0, 0.0], [3.0, 7.0]])).value)  # mean of 1, 0, 3
    1.3333333333333333
    """
    return estimate_iqm(np.asarray(scores, float).min(axis=-1, keepdims=True))


def paired_difference(scores: np.ndarray, baseline: np.ndarray) -> Estimate:
    """Interquartile mean of `scores - baseline`, paired by seed, with an expanded percentile interval.

    With few seeds the plain percentile interval is too short (5 normal differences: it covers 90 %, not 95 %). Its
    level is therefore expanded to `1 - 2 Φ(sqrt(S / (S - 1)) t_{0.025, S - 1})` (Hesterberg 2015, sec. 4.2), which
    tends to 95 % as seeds are added.

    Args:
      scores: `[..., S]`, one row per client.
      baseline: Same shape, same seeds in the same order.

    Returns:
      Arrays `[...]`; the bounds are NaN with one seed.

    Raises:
      ValueError: The shapes differ.

    >>> gain = paired_difference(np.array([3.0, 5.0, 4.0, 6.0, 5.0]), np.ones(5))
    >>> float(gain.value), bool(gain.low > 0)
    (3.6666666666666665, True)
    """
    scores, baseline = _finite(scores), _finite(baseline)
    if scores.shape != baseline.shape:
        raise ValueError(
            f"Scores of shape {scores.shape} cannot be paired with a baseline of shape {baseline.shape}: "
            "give both the same seeds."
        )
    return _bootstrap([scores - baseline], _pooled_iqm, expanded_confidence(scores.shape[-1]))


def first_reach(positions: np.ndarray, scores: np.ndarray, target: float) -> np.ndarray:
    """Where scores first reach a target.

    Args:
      positions: `[N]`, rounds, seconds or bytes of the evaluation points.
      scores: `[N, ...]`; NaN reaches nothing.
      target: Reached by a score that is as high or higher.

    Returns:
      `[...]`, the position of the first point that reaches the target; `inf` where none does.

    >>> first_reach(np.array([0, 5, 10]), np.array([[0.1, 0.1], [0.9, 0.4], [0.8, 0.5]]), 0.8)
    array([ 5., inf])
    """
    reached = np.asarray(scores, float) >= target
    return np.where(reached.any(axis=0), np.asarray(positions, float)[reached.argmax(axis=0)], np.inf)


def estimate_median(values: np.ndarray) -> Estimate:
    """Median over seeds with the interval between two order statistics that holds whatever the distribution.

    Its bounds are the `k + 1` lowest and highest values, `k` the largest with `P(Bin(S, 1/2) <= k) <= 2.5 %` (the sign
    test turned round). Below 6 seeds no such `k` exists, and the bounds are the lowest and the highest value: 5 seeds
    cover 94 %. Values may be infinite (a target never reached); NaN in, NaN out.

    Args:
      values: `[..., S]`.

    >>> found = estimate_median(np.array([10.0, 12.0, 14.0, 11.0, np.inf]))
    >>> float(found.value), float(found.low), float(found.high)
    (12.0, 10.0, inf)
    """
    values = np.sort(np.asarray(values, float), axis=-1)
    num_seeds = values.shape[-1]
    middle = np.asarray((values[..., (num_seeds - 1) // 2] + values[..., num_seeds // 2]) / 2)
    unknown = np.isnan(values).any(axis=-1)
    if num_seeds < 2:
        return Estimate(middle, np.full(middle.shape, np.nan), np.full(middle.shape, np.nan), num_seeds)
    cut = max(0, int(stats.binom.ppf((1 - CONFIDENCE) / 2, num_seeds, 0.5)) - 1)
    low, high = values[..., cut], values[..., num_seeds - 1 - cut]
    middle, low, high = (np.where(unknown, np.nan, x) for x in (middle, low, high))
    return Estimate(middle, low, high, num_seeds)


def expanded_confidence(num_seeds: int) -> float:
    """Level of the percentile interval that covers like a Student interval of level `CONFIDENCE` (Hesterberg 2015).

    >>> round(expanded_confidence(5), 3), round(expanded_confidence(1000), 3)
    (0.998, 0.95)
    """
    if num_seeds < 2:
        return CONFIDENCE
    tail = (1 - CONFIDENCE) / 2
    quantile = math.sqrt(num_seeds / (num_seeds - 1)) * stats.t.ppf(tail, num_seeds - 1)
    return float(1 - 2 * stats.norm.cdf(quantile))


def probability_of_improvement(scores: np.ndarray, baseline: np.ndarray) -> Estimate:
    """Chance that a run of one method beats a run of another on an environment, averaged over environments.

    `mean_m U_m / (S S')`, `U` Mann and Whitney's statistic, ties count half (Agarwal et al. 2021, sec. 4.3); stratified
    bootstrap percentile interval.

    Args:
      scores: `[S, M]`.
      baseline: `[S', M]`, the same environments.

    >>> float(probability_of_improvement(np.array([[2.0], [3.0]]), np.array([[1.0], [2.0]])).value)
    0.875
    """
    ours, theirs = (list(_finite(x).T) for x in (scores, baseline))
    return _bootstrap(ours + theirs, _superiority, CONFIDENCE)


def _finite(scores: np.ndarray) -> np.ndarray:
    scores = np.asarray(scores, float)
    return np.where(np.isfinite(scores), scores, np.nan)


def _pooled_iqm(*columns: np.ndarray, axis: int = -1) -> np.ndarray:
    return interquartile_mean(np.concatenate(columns, axis=axis), axis=axis)


def _superiority(*columns: np.ndarray, axis: int = -1) -> np.ndarray:
    ours, theirs = columns[: len(columns) // 2], columns[len(columns) // 2 :]
    chances = []
    for x, y in zip(ours, theirs, strict=True):
        x, y = np.moveaxis(x, axis, -1)[..., :, None], np.moveaxis(y, axis, -1)[..., None, :]
        chance = np.mean((x > y) + 0.5 * (x == y), axis=(-2, -1))
        chances.append(np.where(np.isnan(x).any(axis=(-2, -1)) | np.isnan(y).any(axis=(-2, -1)), np.nan, chance))
    return np.mean(chances, axis=0)


def _bootstrap(columns: list[np.ndarray], statistic: Callable[..., np.ndarray], confidence: float) -> Estimate:
    """Percentile interval; each column `[..., S]` is resampled along its last axis on its own."""
    num_seeds = min(column.shape[-1] for column in columns)
    value = np.asarray(statistic(*columns, axis=-1))
    if num_seeds < 2:
        return Estimate(value, np.full(value.shape, np.nan), np.full(value.shape, np.nan), num_seeds)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)  # a NaN score: the bounds are NaN, as promised
        found = stats.bootstrap(
            columns,
            statistic,
            n_resamples=RESAMPLES,
            batch=max(1, _BATCH // max(1, sum(column.size for column in columns))),
            vectorized=True,
            axis=-1,
            confidence_level=confidence,
            method="percentile",
            rng=np.random.default_rng(BOOTSTRAP_SEED),
        ).confidence_interval
    return Estimate(value, np.asarray(found.low), np.asarray(found.high), num_seeds)
