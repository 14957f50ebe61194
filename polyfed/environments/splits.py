"""How a data set is split among clients: equally, by label shards (McMahan et al. 2017), or by Dirichlet proportions.

All draws come from `numpy.random.default_rng(seed)`. Every client's samples are stored in random order.

References: mcmahan2017fedavg, yurochkin2019bayesian, hsu2019fedavgm.
"""

from __future__ import annotations

import abc
from typing import ClassVar

import equinox as eqx
import numpy as np

from polyfed.checks import in_range, whole_in_range
from polyfed.environments.dataset import Dataset, Shard, shards
from polyfed.environments.idx import Samples
from polyfed.environments.world import World

Worlds = dict[str, np.ndarray]
Rows = list[np.ndarray]  # for each client, which samples it holds
MAX_DRAWS = 1000  # of a Dirichlet split, until everybody has enough


class Split(eqx.Module):
    """Which client holds which samples of a data set.

    A fact that the experiment checks: `even`, all clients hold equally many.

    >>> isinstance(EqualSplit(), Split)
    True
    """

    even: ClassVar[bool] = False

    @abc.abstractmethod
    def rows(self, samples: Samples, num_clients: int) -> Rows:
        """The samples of each client, in random order; no sample is held twice."""

    @abc.abstractmethod
    def check(self, environment: World, num_clients: int) -> None:
        """Refuse with a `ValueError` what cannot be split."""

    def worlds(self, environment: World, num_clients: int) -> Worlds:
        """How many samples each client holds, float64 `[C]`."""
        return {"size": np.asarray([len(own) for own in self._checked(environment, num_clients)], np.float64)}

    def params(self, environment: World, num_clients: int) -> Shard:
        """Everybody's samples, padded to the longest shard, leaves `[C, ...]`."""
        rows = self._checked(environment, num_clients)
        return shards(_samples(environment), rows)

    def label_counts(self, environment: World, num_clients: int) -> np.ndarray:
        """How many samples of each class each client holds, int `[C, num_classes]`.

        >>> from polyfed.environments.digits import Digits
        >>> EqualSplit().label_counts(Dataset(Digits()), num_clients=2).sum(axis=1)
        array([750, 750])
        """
        rows, samples = self._checked(environment, num_clients), _samples(environment)
        return np.stack([np.bincount(samples.labels[own], minlength=samples.num_classes) for own in rows])

    def _checked(self, environment: World, num_clients: int) -> Rows:
        self.check(environment, num_clients)
        return self.rows(_samples(environment), num_clients)


class EqualSplit(Split):
    """Independent and identically distributed: the training samples in random order, cut into equal shards.

    What remains of the division is held by nobody.

    >>> from polyfed.environments.digits import Digits
    >>> EqualSplit(seed=1).worlds(Dataset(Digits()), num_clients=4)["size"]  # of 1500
    array([375., 375., 375., 375.])
    """

    even: ClassVar[bool] = True

    seed: int = eqx.field(default=0, static=True)  # of the order

    def rows(self, samples: Samples, num_clients: int) -> Rows:
        """`floor(N / C)` samples each."""
        return _equal_parts(np.random.default_rng(self.seed).permutation(samples.train), num_clients)

    def check(self, environment: World, num_clients: int) -> None:
        """Refuse with a `ValueError` what cannot be split."""
        _check_enough(self, environment, num_clients, self.seed, 1)


class LabelShards(Split):
    """Training samples sorted by label, cut into equal shards, a few to each client (McMahan et al. 2017, sec. 3).

    With two shards, most clients see two classes only. What remains of the division is drawn and held by nobody.

    >>> from polyfed.environments.digits import Digits
    >>> counts = LabelShards(shards_per_client=2).label_counts(Dataset(Digits()), num_clients=10)
    >>> counts.shape, int((counts > 0).sum(axis=1).max()) <= 4
    ((10, 10), True)
    """

    even: ClassVar[bool] = True

    shards_per_client: int = eqx.field(default=2, static=True)  # 1 is the most extreme
    seed: int = eqx.field(default=0, static=True)  # of the deal

    def rows(self, samples: Samples, num_clients: int) -> Rows:
        """`shards_per_client` shards of `floor(N / (C s))` samples each."""
        draw = np.random.default_rng(self.seed)
        num_shards = num_clients * self.shards_per_client
        kept = draw.permutation(samples.train)[: len(samples.train) // num_shards * num_shards]
        cut = _equal_parts(kept[np.argsort(samples.labels[kept], kind="stable")], num_shards)
        dealt = draw.permutation(num_shards).reshape(num_clients, self.shards_per_client)
        return [draw.permutation(np.concatenate([cut[shard] for shard in own])) for own in dealt]

    def check(self, environment: World, num_clients: int) -> None:
        """Refuse with a `ValueError` what cannot be split."""
        whole_in_range("variation.shards_per_client", self.shards_per_client, 1, 10**6, "shards")
        _check_enough(self, environment, num_clients, self.seed, self.shards_per_client)


class Dirichlet(Split):
    """The samples of every class are split in proportions drawn from a Dirichlet distribution.

    `p_k ~ Dir(alpha, ..., alpha)` over the clients, one draw per class `k`, as Yurochkin et al. (2019) do: the
    smaller `alpha`, the fewer classes a client has, and the more sizes differ. The draw is repeated until everybody
    has `min_size` samples. (Hsu et al. 2019 draw proportions of classes per client, all of one size.)

    >>> from polyfed.environments.digits import Digits
    >>> sizes = Dirichlet(alpha=0.5).worlds(Dataset(Digits()), num_clients=5)["size"]
    >>> float(sizes.sum()), bool(sizes.min() >= 10), bool(sizes.max() > sizes.min())
    (1500.0, True, True)
    """

    alpha: float = eqx.field(default=0.5, static=True)  # > 0: towards 0 one client per class, towards infinity equal
    min_size: int = eqx.field(default=10, static=True)  # samples that everybody has at least
    seed: int = eqx.field(default=0, static=True)  # of the proportions

    def rows(self, samples: Samples, num_clients: int) -> Rows:
        """Every training sample once; raises `ValueError` where a thousand draws leave somebody below `min_size`."""
        draw = np.random.default_rng(self.seed)
        classes = [samples.train[samples.labels[samples.train] == k] for k in range(samples.num_classes)]
        for _ in range(MAX_DRAWS):
            shares = draw.dirichlet(np.full(num_clients, self.alpha), len(classes))
            ends = [(np.cumsum(p)[:-1] * len(own)).astype(int) for p, own in zip(shares, classes, strict=True)]
            sizes = sum(np.diff(e, prepend=0, append=len(own)) for e, own in zip(ends, classes, strict=True))
            if np.min(sizes) >= self.min_size:
                parts = [np.split(draw.permutation(own), e) for e, own in zip(ends, classes, strict=True)]
                return [draw.permutation(np.concatenate(own)) for own in zip(*parts, strict=True)]
        raise ValueError(
            f"Dirichlet(alpha={self.alpha:g}) left one of {num_clients} clients with fewer than min_size = "
            f"{self.min_size} samples in {MAX_DRAWS} draws: raise alpha, lower min_size, or have fewer clients."
        )

    def check(self, environment: World, num_clients: int) -> None:
        """Refuse with a `ValueError` what cannot be split."""
        in_range("variation.alpha", self.alpha, 1e-3, 1e6)
        whole_in_range("variation.min_size", self.min_size, 1, 10**9, "samples")
        _check_enough(self, environment, num_clients, self.seed, self.min_size)
        self.rows(_samples(environment), num_clients)


class TestSet(Split):
    """The samples from which nobody learns, as one world: where the federation is judged.

    >>> from polyfed.environments.digits import Digits
    >>> TestSet().worlds(Dataset(Digits()), num_clients=1)["size"]
    array([297.])
    """

    __test__ = False  # pytest: no test, whatever its name

    seed: int = eqx.field(default=0, static=True)  # of the order, which decides what a short evaluation looks at

    def rows(self, samples: Samples, num_clients: int) -> Rows:
        """All test samples."""
        del num_clients
        return [np.random.default_rng(self.seed).permutation(samples.test)]

    def check(self, environment: World, num_clients: int) -> None:
        """Refuse with a `ValueError` more than one world."""
        _check_dataset(self, environment)
        whole_in_range("evaluation.held_out.seed", self.seed, 0, 2**32 - 1)
        if num_clients != 1:
            raise ValueError(
                f"TestSet is one world, but {num_clients} were asked for: set evaluation.num_held_out to 1, and split "
                "what the clients learn from by EqualSplit, LabelShards or Dirichlet."
            )


def _equal_parts(rows: np.ndarray, num: int) -> Rows:
    """`num` parts of equal length; the remainder is left out."""
    length = len(rows) // num
    return [rows[i * length : (i + 1) * length] for i in range(num)]


def _samples(environment: World) -> Samples:
    assert isinstance(environment, Dataset)
    return environment.samples


def _check_dataset(split: Split, environment: World) -> None:
    if not isinstance(environment, Dataset):
        name = type(environment).__name__
        raise ValueError(
            f"{type(split).__name__} splits a data set, but {name} has no samples: use Explicit, Grid or Uniform for "
            f"{name}, or live in a Dataset."
        )


def _check_enough(split: Split, environment: World, num_clients: int, seed: int, each: int) -> None:
    """Refuse worlds without samples, and more clients than there are samples for."""
    _check_dataset(split, environment)
    whole_in_range("variation.seed", seed, 0, 2**32 - 1)
    num = len(_samples(environment).train)
    if num_clients < 1 or num_clients * each > num:
        needs = "one sample" if each == 1 else f"{each} samples"
        raise ValueError(
            f"{num_clients} clients cannot share {num} training samples by {type(split).__name__}, for everybody needs "
            f"{needs}: have 1 to {num // each} clients."
        )
