"""How diverse a set of states is, in a few figures."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.spatial import cKDTree


def standardised(states: np.ndarray) -> np.ndarray:
    """Every entry with mean 0 and standard deviation 1, float64; an entry that never changes is 0.

    Args:
      states: `[M, D]`.

    >>> standardised(np.array([[0.0, 5.0], [2.0, 5.0]])).tolist()
    [[-1.0, 0.0], [1.0, 0.0]]
    """
    states = np.asarray(states, np.float64)
    spread = states.std(axis=0)
    varies = spread > 1e-12 * np.maximum(np.abs(states).max(axis=0), 1e-300)
    return (states - states.mean(axis=0)) * varies / np.where(varies, spread, 1.0)


def diversity(states: np.ndarray) -> dict[str, Any]:
    """What a set of states covers.

    Args:
      states: `[M, D]`, `M >= 1`.

    Returns:
      `num`: `M`. `distinct`: how many of them differ. `mean` and `std`: of every entry, lists of `D`. `spacing`: mean
      distance to the nearest other state, all entries in units of their standard deviation; 0 for one state. At the
      same `M`, a larger one says that states are spread more evenly. `dimensions`: in how many independent
      directions they vary, `(sum l)^2 / sum l^2` over the eigenvalues `l` of the correlation matrix: 1 where all lie
      on a line, `D` where no two entries are correlated, 0 where nothing varies.

    >>> line = np.linspace(0, 1, 11)[:, None] * np.array([[1.0, 2.0]])
    >>> found = diversity(line)
    >>> found["num"], found["distinct"], round(found["dimensions"], 3), round(found["spacing"], 3)
    (11, 11, 1.0, 0.447)
    """
    units = standardised(states)
    eigenvalues = np.linalg.eigvalsh(units.T @ units / len(units))
    squares = float(np.sum(eigenvalues**2))
    nearest = cKDTree(units).query(units, k=2)[0][:, 1] if len(units) > 1 else np.zeros(1)
    return {
        "num": len(units),
        "distinct": len(np.unique(np.asarray(states), axis=0)),
        "mean": np.asarray(states, np.float64).mean(axis=0).tolist(),
        "std": np.asarray(states, np.float64).std(axis=0).tolist(),
        "spacing": float(nearest.mean()),
        "dimensions": float(np.sum(eigenvalues) ** 2 / squares) if squares else 0.0,
    }
