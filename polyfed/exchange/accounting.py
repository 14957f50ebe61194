"""What Gaussian noise is worth: epsilon after a number of releases (the only door to dp-accounting).

A release adds normal noise of deviation `z S` to something that one client can move by `S` at most; `z` is the noise
multiplier. Without sampling of clients, `T` releases are one Gaussian mechanism of multiplier `z / sqrt(T)`, whose
epsilon is known exactly. With Poisson sampling it is not, and dp-accounting bounds it.

References: balle2018gaussian, dong2022gdp, mironov2017rdp, koskela2020pld, doroshenko2022dots.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.special import log_ndtr

from polyfed.checks import in_range, one_of
from polyfed.errors import MissingExtraError

ACCOUNTANTS = ("exact", "pld", "rdp")
LARGEST_PLD = 50.0  # epsilon; beyond it a privacy loss distribution takes minutes and gigabytes


def load() -> Any:
    """dp-accounting; raises `MissingExtraError` if it is not installed."""
    try:
        import dp_accounting
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            'The accountants "pld" and "rdp" need a package that is not installed: pip install "polyfed[privacy]", or '
            'use accountant = "exact".'
        ) from error
    return dp_accounting


def gaussian_delta(epsilon: float, mu: float) -> float:
    """The smallest delta of a Gaussian mechanism at epsilon (Balle and Wang 2018, theorem 8).

        delta = Phi(mu / 2 - epsilon / mu) - e^epsilon Phi(-mu / 2 - epsilon / mu)

    Args:
      epsilon: From 0.
      mu: Sensitivity over standard deviation, above 0: `sqrt(T) / z`.

    >>> round(gaussian_delta(1.0, 0.5), 6)
    0.00683
    """
    first = log_ndtr(mu / 2 - epsilon / mu)
    second = epsilon + log_ndtr(-mu / 2 - epsilon / mu)
    return float(np.exp(first) * -np.expm1(min(second - first, 0.0)))


def gaussian_epsilon(mu: float, delta: float) -> float:
    """The smallest epsilon of a Gaussian mechanism at delta: `gaussian_delta` turned round.

    Args:
      mu: Sensitivity over standard deviation; at 0 epsilon is 0, at infinity it is infinite.
      delta: Above 0, below 1.

    >>> round(gaussian_epsilon(10 / 6.4, 1e-5), 3)
    7.405
    """
    if mu <= 0:
        return 0.0
    if not math.isfinite(mu):
        return math.inf
    above = lambda epsilon: gaussian_delta(epsilon, mu) - delta  # noqa: E731
    if above(0.0) <= 0:
        return 0.0
    most = mu * mu / 2 + mu * math.sqrt(2 * math.log(1 / delta)) + 1  # the tail bound of the privacy loss, and more
    return float(brentq(above, 0.0, most, xtol=1e-12, rtol=1e-14))


@functools.lru_cache(maxsize=256)
def spent(
    noise_multiplier: float, releases: int, delta: float, accountant: str = "exact", sampling: float = 1.0
) -> float:
    """Epsilon at delta after a number of releases.

    Args:
      noise_multiplier: `z`, standard deviation over sensitivity; 0: infinite epsilon.
      releases: `T`, from 0.
      delta: Above 0, below 1.
      accountant: "exact" where clients are not sampled; "pld": privacy loss distributions (Koskela et al. 2020,
        Doroshenko et al. 2022) and "rdp": Rényi divergences (Mironov 2017), both of dp-accounting and for adding or
        removing a client.
      sampling: Probability with which a client takes part in a release, independently of all else, its outcome secret.
        Experiments do not sample clients, so it is 1 there.

    Raises:
      MissingExtraError: The accountant is not installed.
      ValueError: A number is out of range, or the accountant cannot do it.

    >>> round(spent(6.4, 100, 1e-5), 3)
    7.405
    """
    one_of("accountant", accountant, ACCOUNTANTS)
    in_range("delta", delta, 1e-300, 1 - 1e-12)
    in_range("sampling", sampling, 0.0, 1.0)
    if accountant == "exact" and sampling != 1:
        raise ValueError(
            f'The accountant "exact" knows no sampling, but clients take part with probability {sampling:g}: use "pld".'
        )
    if releases == 0 or sampling == 0:
        return 0.0
    if noise_multiplier <= 0:
        return math.inf
    if accountant == "exact":
        return gaussian_epsilon(math.sqrt(releases) / noise_multiplier, delta)
    if accountant == "pld" and (rough := spent(noise_multiplier, releases, delta, "rdp", sampling)) > LARGEST_PLD:
        raise ValueError(
            f'The accountant "pld" is for an epsilon up to {LARGEST_PLD:g}, but {releases} releases with noise '
            f'{noise_multiplier:g} times the sensitivity come to {rough:.3g}: use "exact" or "rdp".'
        )
    return _by_accountant(accountant, noise_multiplier, releases, delta, sampling)


def _by_accountant(accountant: str, noise_multiplier: float, releases: int, delta: float, sampling: float) -> float:
    accounting = load()
    event = accounting.GaussianDpEvent(noise_multiplier)
    if sampling < 1:
        event = accounting.PoissonSampledDpEvent(sampling, event)
    made = accounting.pld.PLDAccountant if accountant == "pld" else accounting.rdp.RdpAccountant
    relation = accounting.NeighboringRelation.ADD_OR_REMOVE_ONE
    composed = made(neighboring_relation=relation).compose(accounting.SelfComposedDpEvent(event, releases))
    return float(composed.get_epsilon(delta))


@functools.lru_cache(maxsize=256)
def affordable(noise_multiplier: float, epsilon: float, delta: float, at_most: int, accountant: str = "exact") -> int:
    """The most releases, up to `at_most`, that spend `epsilon` or less; clients are not sampled.

    >>> affordable(6.4, 7.405, 1e-5, at_most=1000), affordable(6.4, 7.4051, 1e-5, at_most=1000)
    (99, 100)
    """
    most = _affordable(noise_multiplier, epsilon, delta, at_most, "exact")
    return most if accountant == "exact" else _affordable(noise_multiplier, epsilon, delta, most, accountant)


def _affordable(noise_multiplier: float, epsilon: float, delta: float, at_most: int, accountant: str) -> int:
    """By halving, between what is affordable and what is not; no accountant says less than the exact one."""
    low, high = 0, at_most + 1
    while high - low > 1:
        middle = (low + high) // 2
        good = spent(noise_multiplier, middle, delta, accountant) <= epsilon
        low, high = (middle, high) if good else (low, middle)
    return low
