"""Few states for many: as many from every cluster, so that rare situations are not lost (Jiang et al. 2025, FedHPD).

The published recipe: entries of unit variance, principal components, k-means, the same number of states per cluster.

References: jiang2025fedhpd, arthur2007kmeans, lloyd1982quantization.
"""

from __future__ import annotations

import numpy as np

from polyfed.environments.state_diversity import standardised


def principal_components(points: np.ndarray, num: int) -> np.ndarray:
    """Coordinates along the `num` directions of largest variance, `[M, num]`.

    The sign of a direction is that of its largest entry.

    Args:
      points: `[M, D]`, `num <= min(M, D)`.
      num: Directions.

    >>> principal_components(np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]]), 1).round(3).ravel().tolist()
    [-1.414, 0.0, 1.414]
    """
    centred = points - points.mean(axis=0)
    directions = np.linalg.svd(centred, full_matrices=False)[2][:num]
    largest = np.take_along_axis(directions, np.abs(directions).argmax(axis=1)[:, None], axis=1)
    return centred @ (directions * np.sign(largest)).T


def k_means(
    points: np.ndarray, num: int, random: np.random.Generator, starts: int = 10
) -> tuple[np.ndarray, np.ndarray, float]:
    """Lloyd's algorithm from k-means++ centres, the best of several starts (Lloyd 1982, Arthur & Vassilvitskii 2007).

    Args:
      points: `[M, D]`, `M >= num`.
      num: Clusters.
      random: Where centres are drawn from.
      starts: Independent starts.

    Returns:
      `(cluster of every point [M], centres [num, D], sum of squared distances to the own centre)`.

    >>> points = np.array([[0.0], [0.1], [5.0], [5.1]])
    >>> clusters, centres, inertia = k_means(points, 2, np.random.default_rng(0))
    >>> sorted(centres.ravel().round(2).tolist()), round(inertia, 3)
    ([0.05, 5.05], 0.01)
    """
    found = [_lloyd(points, _first_centres(points, num, random)) for _ in range(starts)]
    return min(found, key=lambda result: result[2])


def _squared_distances(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """`[M, num]`."""
    return np.stack([np.sum((points - centre) ** 2, axis=1) for centre in centres], axis=1)


def _first_centres(points: np.ndarray, num: int, random: np.random.Generator) -> np.ndarray:
    """Points, each drawn with a probability in proportion to its squared distance from those before."""
    centres = points[random.integers(len(points))][None]
    nearest = _squared_distances(points, centres)[:, 0]
    while len(centres) < num:
        total = nearest.sum()
        place = random.choice(len(points), p=nearest / total) if total > 0 else random.integers(len(points))
        centres = np.concatenate([centres, points[place][None]])
        nearest = np.minimum(nearest, _squared_distances(points, centres[-1:])[:, 0])
    return centres


def _lloyd(points: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Assign, average, until nothing changes; an empty cluster keeps its centre."""
    clusters = np.full(len(points), -1)
    for _ in range(300):
        distances = _squared_distances(points, centres)
        nearest = distances.argmin(axis=1)
        if np.array_equal(nearest, clusters):
            break
        clusters = nearest
        centres = np.stack(
            [points[clusters == k].mean(0) if np.any(clusters == k) else c for k, c in enumerate(centres)]
        )
    return clusters, centres, float(_squared_distances(points, centres)[np.arange(len(points)), clusters].sum())


def quotas(sizes: np.ndarray, num: int) -> np.ndarray:
    """How many to take of each cluster: all the same, but where a cluster has fewer, the others make up for it.

    Args:
      sizes: `[K]`, of the clusters, `sizes.sum() >= num`.
      num: How many in all.

    >>> quotas(np.array([100, 3, 100]), 30).tolist(), quotas(np.array([9, 9, 9]), 10).tolist()
    ([14, 3, 13], [4, 3, 3])
    """
    taken = np.zeros(len(sizes), int)
    while (missing := num - taken.sum()) > 0:
        left = np.flatnonzero(taken < sizes)
        share = np.full(len(left), missing // len(left)) + (np.arange(len(left)) < missing % len(left))
        taken[left] += np.minimum(share, sizes[left] - taken[left])
    return taken


def clustered(states: np.ndarray, num: int, *, clusters: int, components: int, seed: int) -> np.ndarray:
    """`num` of many states: the same number from every cluster, in random order.

    Clusters are those of k-means on the first principal components of the standardised states. A cluster of fewer
    states gives all it has, and the others make up for it. The random order is ours: so a chunk of the states is as
    diverse as the whole.

    Args:
      states: `[N, D]`, `N >= num`.
      num: States to keep.
      clusters: Number of clusters.
      components: Number of principal components.
      seed: Of centres and draws.

    Returns:
      `[num, D]`, rows of `states`.

    >>> many = np.concatenate([np.zeros((900, 2)), np.ones((100, 2))])
    >>> clustered(many, 100, clusters=2, components=1, seed=0).mean(axis=0).tolist()
    [0.5, 0.5]
    """
    random = np.random.default_rng(seed)
    belongs, _, _ = k_means(principal_components(standardised(states), components), clusters, random)
    members = [np.flatnonzero(belongs == k) for k in range(clusters)]
    wanted = quotas(np.array([len(own) for own in members]), num)
    kept = [random.choice(own, number, replace=False) for own, number in zip(members, wanted, strict=True)]
    return states[random.permutation(np.concatenate(kept))]
