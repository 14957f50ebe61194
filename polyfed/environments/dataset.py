"""A world of labelled images: a client lives in its shard of a data set and imitates the labels.

A classifier is a policy whose observation is an image and whose action is a class; the data set demonstrates the right
one. So supervised clients go through the same local update, exchange and rules as those that act.
"""

from __future__ import annotations

import functools
import hashlib
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt8

from polyfed.environments.digits import Digits
from polyfed.environments.environment import quantity
from polyfed.environments.idx import IdxFolder, Samples
from polyfed.environments.spaces import Box, Discrete
from polyfed.environments.world import Act, World
from polyfed.types import Trajectory

Source = IdxFolder | Digits
CHUNK = 200  # images that are classified at once when a policy is judged: bounds the memory of activations


class Shard(eqx.Module):
    """The samples of one client, in random order, padded to the largest client's; stacked `[C, ...]` for all.

    >>> Shard(images=jnp.zeros((5, 4), jnp.uint8), labels=jnp.zeros(5, jnp.int32), size=jnp.float32(3))
    Shard(images=u8[5,4], labels=i32[5], size=f32[])
    """

    images: UInt8[Array, "*C n D"]  # 0 to 255; rows from `size` on are padding
    labels: Int[Array, "*C n"]
    size: Float[Array, "*C"] = quantity(0.0, "samples", low=1.0)


class Reading(eqx.Module):
    """How far a client has read: the order of this epoch, and how many samples of it are behind.

    >>> Reading(order=jnp.array([[2, 0, 1]], jnp.int32), position=jnp.array([1], jnp.int32))
    Reading(order=i32[1,3], position=i32[1])
    """

    order: Int[Array, "E n"]  # of the rows of the shard, padding last
    position: Int[Array, " E"]


class Dataset(World):
    """Labelled images, split among the clients by a variation such as `EqualSplit`, `LabelShards` or `Dirichlet`.

    An epoch visits every sample once, in random order. What is left at its end and does not fill a rollout is dropped,
    and so comes up in another epoch; a shard smaller than a rollout is repeated within it. A trajectory holds images
    scaled to 0 to 1 and flattened as observations, labels as actions, reward 1; every sample is an episode.

    A client is judged on unseen samples with its own proportions of classes (`judged`). A policy is measured by its
    accuracy on the first `num_episodes` samples of each world, all if it has fewer; the
    order in which they are stored is random.

    >>> dataset = Dataset(Digits())
    >>> dataset.observation_space.shape, dataset.action_space
    ((8, 8), Discrete(n=10))
    >>> params = jax.tree.map(lambda x: x[None], dataset.nominal())  # one world: all training samples
    >>> stay = dataset.start(jax.random.key(0), params)
    >>> keys = jax.random.split(jax.random.key(1), (32, 1 + 2))
    >>> stay, (trajectory, _) = dataset.live(None, stay, params, ((), keys))
    >>> trajectory.observation.shape, trajectory.action.shape, stay.position
    ((32, 1, 64), (32, 1), Array([32], dtype=int32))
    """

    params_class: ClassVar[type] = Shard
    measure: ClassVar[str] = "accuracy"

    source: Source  # where the images come from

    @property
    def samples(self) -> Samples:
        """All images and labels, read once per process; raises what `source.load` raises."""
        return _load(self.source)

    @property
    def observation_space(self) -> Box:
        """Intensities from 0 to 1; `shape` is the image's."""
        size = self.samples.images.shape[1]
        return Box(low=(0.0,) * size, high=(1.0,) * size, shape=self.samples.image_shape)

    @property
    def action_space(self) -> Discrete:
        """The classes."""
        return Discrete(self.samples.num_classes)

    @property
    def step_bytes(self) -> int:
        """What a sample takes on the wire: its pixels and its label, a byte each."""
        return self.samples.images.shape[1] + 1

    def nominal(self) -> Shard:
        """All training samples in one shard."""
        return jax.tree.map(lambda x: x[0], shards(self.samples, [self.samples.train]))

    def start(self, key: PRNGKeyArray, params: Shard) -> Reading:
        """The order of the first epoch."""
        keys = jax.random.split(key, params.size.shape[0])
        return Reading(_orders(keys, params), jnp.zeros(params.size.shape, jnp.int32))

    def draw(self, key: PRNGKeyArray, params: Shard, num_steps: int) -> Any:
        """Nothing: the order of an epoch is drawn where one begins."""
        del key, params, num_steps
        return ()

    def live(self, act: Act, stay: Reading, params: Shard, inputs: Any) -> tuple[Reading, tuple[Trajectory, Any]]:
        """The next `T` samples of every shard, whatever a policy would say of them."""
        del act
        keys = inputs[1]
        length, size = keys.shape[0], params.size.astype(jnp.int32)
        fits = stay.position + length <= size

        def next_epoch() -> Int[Array, "E n"]:
            return jnp.where(fits[:, None], stay.order, _orders(keys[0, :-2], params))

        order = jax.lax.cond(jnp.all(fits), lambda: stay.order, next_epoch)
        position = jnp.where(fits, stay.position, 0)
        places = (position[:, None] + jnp.arange(length, dtype=jnp.int32)) % jnp.maximum(size, 1)[:, None]
        rows = jnp.take_along_axis(order, places, axis=1).T  # [T, E]
        world = jnp.arange(rows.shape[1], dtype=jnp.int32)
        observation, action = _floats(params.images[world, rows]), params.labels[world, rows]
        no, one = jnp.zeros(rows.shape, bool), jnp.ones(rows.shape, jnp.float32)
        trajectory = Trajectory(observation, action, one, observation, terminated=~no, truncated=no)
        none_ended = jnp.zeros((), jnp.float32)  # the learner itself tells how it did
        return Reading(order, position + length), (trajectory, (none_ended, none_ended))

    def evaluate(self, act: Act, params: Shard, key: PRNGKeyArray, num_episodes: int) -> Float[Array, " M"]:
        """Accuracy of a policy on the first samples of each world; nothing is drawn."""
        del key
        num = min(num_episodes, params.labels.shape[1])
        chunks = -(-num // CHUNK)
        chunk = -(-num // chunks)

        def right_in_chunk(place: Int[Array, ""]) -> Int[Array, ""]:
            """How many samples of one chunk are classified as labelled; padding is not looked at."""
            world, first = place // chunks, place % chunks * chunk
            start = jnp.minimum(first, num - chunk)  # the last chunk begins earlier, and counts only what is new
            size = jnp.minimum(params.size[world].astype(jnp.int32), num)

            def classify() -> Int[Array, ""]:
                row = start + jnp.arange(chunk, dtype=jnp.int32)
                right = act(_floats(params.images[world, row])) == params.labels[world, row]
                return jnp.sum(right & (row >= first) & (row < size), dtype=jnp.int32)

            return jax.lax.cond(first < size, classify, lambda: jnp.zeros((), jnp.int32))

        num_worlds = params.labels.shape[0]
        right = jax.lax.map(right_in_chunk, jnp.arange(num_worlds * chunks, dtype=jnp.int32))
        return jnp.sum(right.reshape(num_worlds, chunks), axis=1) / jnp.minimum(params.size, num)

    def fingerprint(self) -> str:
        """SHA-256 of images, labels and which of them are held out.

        >>> len(Dataset(Digits()).fingerprint())
        64
        """
        held = self.samples
        whole = hashlib.sha256()
        for array in (held.images, held.labels, held.train, held.test):
            whole.update(np.ascontiguousarray(array).tobytes())
        return whole.hexdigest()

    def weights(self, params: Shard) -> Float[Array, " C"]:
        """The number of samples of each client (McMahan et al. 2017, eq. 1)."""
        return jnp.asarray(params.size, jnp.float32)

    def judged(self, params: Shard) -> Shard:
        """Unseen samples for each client, the classes in its own proportions: the most that the test samples allow.

        Which test samples of a class they are does not depend on the client.

        >>> dataset = Dataset(Digits())
        >>> shard = shards(dataset.samples, [dataset.samples.train[dataset.samples.labels[dataset.samples.train] == 3]])
        >>> judged = dataset.judged(shard)
        >>> set(judged.labels[0, : int(judged.size[0])].tolist())
        {3}
        """
        samples = self.samples
        order = np.random.default_rng(0).permutation(samples.test)
        by_class = [order[samples.labels[order] == k] for k in range(samples.num_classes)]
        return shards(samples, [_like(own, by_class) for own in _label_counts(params, samples.num_classes)])

    def join(self, first: Shard, second: Shard) -> Shard:
        """Worlds `[A, ...]` and `[B, ...]` as `[A + B, ...]`, padded to the larger shard."""
        num = max(first.labels.shape[1], second.labels.shape[1])

        def padded(params: Shard, values: Array) -> Array:
            missing = num - params.labels.shape[1]
            return jnp.pad(values, [(0, 0), (0, missing)] + [(0, 0)] * (values.ndim - 2))

        pair = (first, second)
        return Shard(
            images=jnp.concatenate([padded(params, params.images) for params in pair]),
            labels=jnp.concatenate([padded(params, params.labels) for params in pair]),
            size=jnp.concatenate([params.size for params in pair]),
        )


def shards(samples: Samples, rows: list[np.ndarray]) -> Shard:
    """The given rows of a data set for each client, padded to the longest, leaves `[C, ...]`.

    >>> samples = Digits().load()
    >>> shards(samples, [np.array([3, 5]), np.array([7])])
    Shard(images=u8[2,2,64], labels=i32[2,2], size=f32[2])
    """
    num = max(len(own) for own in rows)
    images = np.zeros((len(rows), num, samples.images.shape[1]), np.uint8)
    labels = np.zeros((len(rows), num), np.int32)
    for client, own in enumerate(rows):
        images[client, : len(own)], labels[client, : len(own)] = samples.images[own], samples.labels[own]
    return Shard(jnp.asarray(images), jnp.asarray(labels), jnp.asarray([len(own) for own in rows], jnp.float32))


def _label_counts(params: Shard, num_classes: int) -> np.ndarray:
    """How many samples of each class each client holds, `[C, num_classes]`."""
    pairs = zip(np.asarray(params.labels), np.asarray(params.size, int), strict=True)
    return np.stack([np.bincount(labels[:size], minlength=num_classes) for labels, size in pairs])


def _like(counts: np.ndarray, by_class: list[np.ndarray]) -> np.ndarray:
    """As many rows as there are with the classes in proportion to the counts, mixed."""
    available = np.array([len(rows) for rows in by_class])
    held = counts > 0
    times = np.min(available[held] / counts[held])
    numbers = np.minimum(np.ceil(counts * times - 1e-9).astype(int), available)
    rows = np.concatenate([own[:number] for own, number in zip(by_class, numbers, strict=True)])
    return np.random.default_rng(1).permutation(rows)


def _orders(keys: PRNGKeyArray, params: Shard) -> Int[Array, "E n"]:
    """A random order of each shard's rows, padding last."""
    num = params.labels.shape[1]

    def one(key: PRNGKeyArray, size: Float[Array, ""]) -> Int[Array, " n"]:
        draws = jax.random.uniform(key, (num,), jnp.float32)
        return jnp.argsort(jnp.where(jnp.arange(num, dtype=jnp.int32) < size, draws, 2.0)).astype(jnp.int32)

    return jax.vmap(one)(keys, params.size)


def _floats(images: UInt8[Array, "*shape"]) -> Float[Array, "*shape"]:
    return images.astype(jnp.float32) / 255


@functools.lru_cache(maxsize=4)
def _load(source: Source) -> Samples:
    return source.load()
