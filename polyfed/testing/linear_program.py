"""The Wasserstein barycenter of histograms on a line as the linear program that defines it: slow, and independent.

References: agueh2011barycenters.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

MOST_GIGABYTES = 1.0
_BYTES_PER_VARIABLE = 1700  # of one entry of a plan, inside HiGHS: measured at 50 to 150 positions


def _gigabytes(num_histograms: int, num_bins: int) -> float:
    """Memory that the program needs: a plan of `n^2` entries per histogram."""
    return num_histograms * num_bins**2 * _BYTES_PER_VARIABLE / 1e9


def barycenter_linear_program(histograms: ArrayLike, weights: ArrayLike, power: int = 2) -> NDArray[np.float64]:
    """The barycenter among histograms on the grid `0 .. n - 1`, by `scipy.optimize.linprog`.

        min over b, P_1 .. P_K of sum_k lambda_k sum_ij |i - j|^p P_k(i, j)
        where P_k >= 0,    sum_j P_k(i, j) = h_k(i) / sum h_k,    sum_i P_k(i, j) = b(j)

    (Agueh & Carlier 2011, eq. 2.2, on a grid.) An oracle for `barycenter_1d(..., grid="nearest")`, which finds the same
    optimum in closed form. It need not be unique: then compare the objectives.

    Args:
      histograms: `[K, n]`, not negative, each with some mass.
      weights: `[K]`, not negative, any scale; 0 is absent.
      power: 2 or 1.

    Returns:
      `[n]`, of mass 1.

    Raises:
      ValueError: Negative or no weights, a histogram that is none, or more than about 1 GB of memory.

    Example:
      >>> barycenter_linear_program([[1, 0, 0, 0, 0], [0, 0, 1, 0, 0]], [1, 1]).round(6).tolist()
      [0.0, 1.0, 0.0, 0.0, 0.0]
    """
    from scipy import sparse
    from scipy.optimize import linprog

    h, shares = np.asarray(histograms, np.float64), np.asarray(weights, np.float64)
    if not (np.all(np.isfinite(shares)) and np.all(shares >= 0) and np.any(shares > 0)):
        raise ValueError(
            f"The weights {shares.tolist()} share nothing out. Give finite ones from 0, one at least above."
        )
    h, shares = h[shares > 0], shares[shares > 0] / np.sum(shares)
    if not (np.all(np.isfinite(h)) and np.all(h >= 0) and np.all(np.sum(h, axis=1) > 0)):
        raise ValueError(
            "A histogram has a negative or infinite bin, or no mass. Subtract the minimum; drop constants."
        )
    count, size = h.shape
    if (needed := _gigabytes(count, size)) > MOST_GIGABYTES:
        raise ValueError(
            f"The linear program of {count} histograms of {size} bins has {count * size**2:,} variables and needs "
            f'about {needed:,.1f} GB. Use the exact solver, barycenter_1d(..., grid="nearest"), which finds the same '
            "optimum."
        )
    positions = np.arange(size)
    cost = np.abs(positions[:, None] - positions).astype(np.float64) ** power
    one, identity = np.ones((1, size)), sparse.identity(size)
    sent = sparse.block_diag([sparse.kron(identity, one)] * count)  # sum_j P_k(i, j)
    received = sparse.block_diag([sparse.kron(one, identity)] * count)  # sum_i P_k(i, j)
    equal = sparse.bmat([[sent, None], [received, sparse.vstack([-identity] * count)]], format="csr")
    right = np.concatenate([(h / h.sum(axis=1, keepdims=True)).ravel(), np.zeros(count * size)])
    objective = np.concatenate([np.kron(shares, cost.ravel()), np.zeros(size)])
    solved = linprog(objective, A_eq=equal, b_eq=right, method="highs")
    if solved.x is None:
        raise ValueError(f"HiGHS found no optimum ({solved.message}), so there is no oracle. Use the exact solver.")
    return np.maximum(solved.x[-size:], 0.0) + 0.0
