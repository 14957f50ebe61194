"""EdgeCache: a base station that decides which contents to keep, while their popularity moves (ours).

Requests follow Zipf's law, as web requests do (Breslau et al. 1999); contents age and new ones come up.

References: breslau1999zipf, belady1966.
"""

from __future__ import annotations

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from polyfed.checks import whole_in_range
from polyfed.environments.edge_cache_oracles import SLACK, Demand, belady, lfu, lru, optimal_plan, planned_hits
from polyfed.environments.environment import Environment, Quantity, Step, quantity
from polyfed.environments.spaces import Box, Discrete

MEMORIES = (10.0, 100.0)  # requests: how far back the two averages of a content's requests look
GOLDEN = 0.6180339887  # multiples of it are spread evenly over [0, 1)
DELAY_UNIT = 100.0  # ms of delay that cost a reward of 1


class EdgeCacheParams(eqx.Module):
    """A base station, what its users ask for, and what is near.

    >>> EdgeCacheParams(cloud_delay=200.0).capacity
    4.0
    """

    zipf_exponent: Quantity = quantity(0.9, "1", low=0.0, high=5.0)  # the r-th most popular has r^-exponent
    drift: Quantity = quantity(0.02, "1/request", low=0.0, high=1.0)  # ranks that every content falls per request
    phase: Quantity = quantity(0.0, "1", low=0.0, high=1000.0)  # which content is most popular at first
    capacity: Quantity = quantity(4.0, "1", low=0.0, high=1000.0)  # in mean sizes of contents
    size_spread: Quantity = quantity(0.5, "1", low=0.0, high=0.9)  # sizes lie in 1 ± spread
    neighbour_phase: Quantity = quantity(10.0, "1", low=0.0, high=1000.0)  # which is most popular at the neighbour
    neighbour_capacity: Quantity = quantity(4.0, "1", low=0.0, high=1000.0)  # contents that the neighbour holds
    local_delay: Quantity = quantity(5.0, "ms", low=0.0, high=10_000.0)
    neighbour_delay: Quantity = quantity(30.0, "ms", low=0.0, high=10_000.0)  # where the neighbour holds the content
    cloud_delay: Quantity = quantity(100.0, "ms", low=0.0, high=10_000.0)


class EdgeCacheState(eqx.Module):
    """What is held, what is asked for, what was asked for, and the clock.

    >>> EdgeCache().reset(jax.random.key(0), EdgeCache().nominal())[0].held
    Array([-1, -1, -1, -1, -1, -1], dtype=int32)
    """

    seed: Int[Array, " 2"]  # of all requests of the episode
    request: Int[Array, ""]  # the content that is asked for now
    held: Int[Array, " K"]  # contents from the least to the most recently used, then -1 for every empty slot
    traces: Float[Array, "2 N"]  # how often each content was asked for of late, averages over `MEMORIES`
    time: Int[Array, ""]  # requests since the reset


def content_sizes(num_contents: int, spread: Quantity) -> Float[Array, " N"]:
    """Sizes in `1 ± spread`, spread evenly and the same at every site; their mean is about 1.

    >>> content_sizes(3, 0.5).round(2)
    Array([0.5 , 1.12, 0.74], dtype=float32)
    """
    even = np.mod(GOLDEN * np.arange(num_contents), 1.0).astype(np.float32)
    return jnp.asarray(1.0 + spread * (2.0 * even - 1.0), jnp.float32)


def most_popular(time: Int[Array, ""], phase: Quantity, drift: Quantity) -> Int[Array, ""]:
    """The content of rank 0; content `n` has rank `(n - this) mod N`.

    Every `1 / drift` requests all contents fall by one rank, and the last comes up as the new first.

    >>> [int(most_popular(jnp.int32(time), 5.0, 0.1)) for time in (0, 9, 10)]
    [5, 5, 4]
    """
    return jnp.ceil(phase - drift * jnp.asarray(time, jnp.float32)).astype(jnp.int32)


def zipf_rank(uniform: Float[Array, ""], exponent: Quantity, num_contents: int) -> Int[Array, ""]:
    """A rank from 0 with probability proportional to `(rank + 1)^-exponent`, by inversion.

    >>> [int(zipf_rank(jnp.float32(u), 1.0, 3)) for u in (0.5, 0.6, 0.9)]  # probabilities 6/11, 3/11, 2/11
    [0, 1, 2]
    """
    logs = np.log1p(np.arange(num_contents, dtype=np.float32))
    below = jnp.cumsum(jnp.exp(-exponent * logs).astype(jnp.float32))
    rank = jnp.sum(below <= uniform * below[-1], dtype=jnp.int32)
    return jnp.minimum(rank, num_contents - 1)


def request_at(seed: Int[Array, " 2"], time: Int[Array, ""], params: EdgeCacheParams, num_contents: int) -> Array:
    """The content that is asked for at a time: a pure function of the episode's seed.

    >>> int(request_at(jnp.array([1, 2], jnp.int32), jnp.int32(0), EdgeCacheParams(zipf_exponent=5.0, phase=7.0), 30))
    7
    """
    words = jax.lax.bitcast_convert_type(seed, jnp.uint32)
    key = jax.random.fold_in(jax.random.wrap_key_data(words, impl="threefry2x32"), time)
    rank = zipf_rank(jax.random.uniform(key, (), jnp.float32), params.zipf_exponent, num_contents)
    return jnp.mod(most_popular(time, params.phase, params.drift) + rank, num_contents)


def at_neighbour(time: Int[Array, ""], params: EdgeCacheParams, num_contents: int) -> Bool[Array, " N"]:
    """Which contents the neighbour holds: those most popular there, at this time.

    >>> jnp.flatnonzero(at_neighbour(jnp.int32(0), EdgeCacheParams(neighbour_capacity=2.0), 30)).tolist()
    [10, 11]
    """
    first = most_popular(time, params.neighbour_phase, params.drift)
    ranks = jnp.mod(jnp.arange(num_contents, dtype=jnp.int32) - first, num_contents)
    return ranks < params.neighbour_capacity


def kept_contents(
    held: Int[Array, " K"], request: Int[Array, ""], action: Array, sizes: Float[Array, " N"], capacity: Quantity
) -> Int[Array, " K"]:
    """What is held after a request was served.

    Args:
      held: From the least to the most recently used, then -1.
      request: The content that was asked for.
      action: 0: do not keep it. `k`: keep it, and evict the `k`-th least recently used if it does not fit, then others
        from the least recently used on until it does. Where fewer are held, `k` is 1.
      sizes: Of all contents.
      capacity: For the sum of the sizes; a content that is larger is never kept.

    >>> kept_contents(jnp.array([4, 2, -1]), jnp.int32(0), jnp.int32(2), jnp.ones(5), 2.0).tolist()
    [4, 0, -1]
    """
    place, own = jnp.arange(len(held), dtype=jnp.int32), sizes[request]
    other = (held >= 0) & (held != request)
    size = jnp.where(other, sizes[held], 0.0)
    victim = jnp.where(jnp.any(other & (place == action - 1)), action - 1, -1)
    before = (place[:, None] > place) & (place[:, None] != victim) | (place == victim) & (place[:, None] != victim)
    gone = jnp.sum(before * size, axis=1), jnp.sum(before & other, axis=1, dtype=jnp.int32)  # before it is its turn
    full = jnp.sum(size) - gone[0] + own > capacity + SLACK
    crowded = jnp.sum(other, dtype=jnp.int32) - gone[1] >= len(held)
    keep = (action > 0) & (own <= capacity + SLACK)
    stays = other & ~(keep & (full | crowded))
    moved = jnp.sum((place[:, None] > place) & stays, axis=1, dtype=jnp.int32)  # places as they close up
    count = jnp.sum(stays, dtype=jnp.int32)
    closed = jnp.sum(jnp.where(stays & (moved == place[:, None]), held + 1, 0), axis=1, dtype=jnp.int32) - 1
    return jnp.where(keep & (place == count), request, closed)


class EdgeCache(Environment[EdgeCacheState]):
    """Every step one request is served, then action 0 does not keep its content, and `k` keeps it.

    Where there is no room, `k` evicts the `k`-th least recently used content first, so that always 1 is the rule LRU.
    The reward is minus the delay in units of 100 ms: local where the content is held, else the neighbour's where that
    holds it, else the cloud's. What an action changes is the delay of later requests.

    The observation, all in [0, 1]: of the request whether it is held, its size, how often it was asked for of late (two
    averages, their square roots) and whether the neighbour holds it; the free room; then size, averages and neighbour
    of every held content, from the least recently used on. Not observed are the law of popularity, how fast it moves,
    which content is which, and the time. The cache is empty at first.

    >>> environment = EdgeCache()
    >>> environment.action_space
    Discrete(n=7)
    >>> key, params = jax.random.key(0), environment.nominal()
    >>> optimum, others = environment.optimum(params, key), environment.baselines(params, key)
    >>> all(optimum >= value for value in others.values()), list(others)
    (True, ['no cache', 'LRU', 'LFU', 'Belady'])
    """

    params_class: ClassVar[type] = EdgeCacheParams
    floor: ClassVar[str] = "no cache"  # the baseline that is 0 per cent of the optimum

    max_steps: int = eqx.field(default=200, static=True)  # requests until truncation
    num_contents: int = eqx.field(default=30, static=True)  # in the catalogue
    num_slots: int = eqx.field(default=6, static=True)  # contents that a station can hold, whatever their sizes

    @property
    def observation_space(self) -> Box:
        """All in [0, 1]."""
        size = 6 + 4 * self.num_slots
        return Box(low=(0.0,) * size, high=(1.0,) * size)

    @property
    def action_space(self) -> Discrete:
        """Do not keep, or keep at the expense of one of the slots."""
        return Discrete(self.num_slots + 1)

    def check(self) -> None:
        """Raise `ValueError` in one sentence if a size is out of range."""
        whole_in_range("environment.max_steps", self.max_steps, 1, 10**6, "requests")
        whole_in_range("environment.num_contents", self.num_contents, 1, 10_000)
        whole_in_range("environment.num_slots", self.num_slots, 1, 1000)

    def reset(self, key: PRNGKeyArray, params: EdgeCacheParams) -> tuple[EdgeCacheState, Array]:
        """An empty cache, and the first request."""
        seed = jax.lax.bitcast_convert_type(jax.random.bits(key, (2,), jnp.uint32), jnp.int32)
        time = jnp.zeros((), jnp.int32)
        state = EdgeCacheState(
            seed=seed,
            request=request_at(seed, time, params, self.num_contents),
            held=jnp.full(self.num_slots, -1, jnp.int32),
            traces=jnp.zeros((2, self.num_contents), jnp.float32),
            time=time,
        )
        return state, self._observe(state, at_neighbour(time, params, self.num_contents), params)

    def step(
        self, key: PRNGKeyArray, state: EdgeCacheState, action: Array, params: EdgeCacheParams
    ) -> tuple[EdgeCacheState, Step]:
        """Serve the request, keep its content or not, and draw the next: all chance comes from the reset."""
        del key
        num, time = self.num_contents, state.time + 1
        remote = jnp.where(
            at_neighbour(state.time, params, num)[state.request], params.neighbour_delay, params.cloud_delay
        )
        delay = jnp.where(jnp.any(state.held == state.request), params.local_delay, remote)
        sizes, fade = content_sizes(num, params.size_spread), np.exp(-1 / np.asarray(MEMORIES))[:, None]
        asked = jnp.arange(num, dtype=jnp.int32) == state.request
        fade = fade.astype(np.float32)
        state = EdgeCacheState(
            seed=state.seed,
            request=request_at(state.seed, time, params, num),
            held=kept_contents(state.held, state.request, action.astype(jnp.int32), sizes, params.capacity),
            traces=fade * state.traces + (1 - fade) * asked,
            time=time,
        )
        seen = self._observe(state, at_neighbour(time, params, num), params)
        reward = (-delay / DELAY_UNIT).astype(jnp.float32)
        return state, Step(seen, reward, jnp.zeros((), bool), time >= self.max_steps)

    def _observe(self, state: EdgeCacheState, near: Bool[Array, " N"], params: EdgeCacheParams) -> Array:
        sizes = content_sizes(self.num_contents, params.size_spread)
        known = jnp.stack([sizes / 2, *jnp.sqrt(state.traces), near.astype(jnp.float32)])  # [4, N]
        slots = jnp.where(state.held >= 0, known[:, state.held], 0.0)
        free = 1 - 2 * jnp.sum(slots[0]) / jnp.maximum(params.capacity, SLACK)
        hit = jnp.any(state.held == state.request).astype(jnp.float32)
        first = jnp.stack([hit, *known[:, state.request], free])
        return jnp.clip(jnp.concatenate([first, slots.ravel()]), 0.0, 1.0).astype(jnp.float32)

    def demand(self, params: EdgeCacheParams, key: PRNGKeyArray) -> tuple[Demand, np.ndarray]:
        """All requests of the episode that starts from `reset(key, params)`, and each's reward without a cache, `[T]`.

        >>> demand, without = EdgeCache(max_steps=3).demand(EdgeCache().nominal(), jax.random.key(0))
        >>> demand.requests.shape, without.round(1).tolist()
        ((3,), [-1.0, -1.0, -1.0])
        """
        params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)
        requests, near, sizes = (np.asarray(x) for x in _future(self, params, key))
        remote = np.where(near, np.float64(params.neighbour_delay), np.float64(params.cloud_delay)) / DELAY_UNIT
        saving = remote - np.float64(params.local_delay) / DELAY_UNIT
        return Demand(requests, sizes, saving, float(params.capacity), self.num_slots), -remote

    def optimum(self, params: EdgeCacheParams, key: PRNGKeyArray) -> float:
        """The highest return that any policy can have in the episode that starts from `reset(key, params)`.

        It is exact and attained, see `plan`: no policy does better, also none that knows the future.
        """
        demand, without = self.demand(params, key)
        return float(without.sum()) + demand.saved(planned_hits(demand, optimal_plan(demand)))

    def plan(self, params: EdgeCacheParams, key: PRNGKeyArray) -> np.ndarray:
        """Actions `[T]` that attain the optimum in the episode that starts from `reset(key, params)`."""
        return optimal_plan(self.demand(params, key)[0]).astype(np.int32)

    def baselines(self, params: EdgeCacheParams, key: PRNGKeyArray) -> dict[str, float]:
        """Returns of known rules in the episode that starts from `reset(key, params)`; Belady's sees the future."""
        demand, without = self.demand(params, key)
        nothing, rules = float(without.sum()), {"LRU": lru, "LFU": lfu, "Belady": belady}
        return {"no cache": nothing} | {name: nothing + demand.saved(rule(demand)) for name, rule in rules.items()}


@eqx.filter_jit
def _future(environment: EdgeCache, params: EdgeCacheParams, key: PRNGKeyArray) -> tuple[Array, Array, Array]:
    """What is asked for `[T]`, whether the neighbour holds it then `[T]`, and sizes `[N]`."""
    num, times = environment.num_contents, jnp.arange(environment.max_steps, dtype=jnp.int32)
    state, _ = environment.reset(key, params)
    requests = jax.vmap(lambda time: request_at(state.seed, time, params, num))(times)
    near = jax.vmap(lambda time, n: at_neighbour(time, params, num)[n])(times, requests)
    return requests, near, content_sizes(num, params.size_spread)
