import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polyfed.environments import EdgeCache, EdgeCacheParams
from polyfed.environments.edge_cache import kept_contents, most_popular, request_at, zipf_rank
from polyfed.testing import check_environment

SHORT = EdgeCache(max_steps=60)
WORLDS = {
    "nominal": {},
    "steep, fast, small": {"zipf_exponent": 1.5, "drift": 0.1, "capacity": 1.5},
    "sizes equal": {"size_spread": 0.0, "neighbour_capacity": 0.0},
    "no room": {"capacity": 0.0},
}


def params_of(fields):
    return jax.tree.map(jnp.float32, EdgeCacheParams(**fields))


@jax.jit
def played(params, key, actions):
    """The return of fixed actions `[T]`."""
    state, _ = SHORT.reset(key, params)

    def step(state, action):
        state, given = SHORT.step(key, state, action, params)
        return state, (given.reward, given.truncated)

    _, (reward, truncated) = jax.lax.scan(step, state, actions)
    return jnp.sum(reward), truncated


def test_keeps_the_contract():
    check_environment(EdgeCache())


@pytest.mark.parametrize("fields", WORLDS.values(), ids=WORLDS)
def test_always_one_is_lru_and_always_zero_is_no_cache(fields):
    params, key = params_of(fields), jax.random.key(3)
    known = SHORT.baselines(params, key)
    for action, name in ((1, "LRU"), (0, "no cache")):
        total, truncated = played(params, key, jnp.full(60, action, jnp.int32))
        np.testing.assert_allclose(total, known[name], rtol=1e-4)
        assert np.flatnonzero(truncated).tolist() == [59]


@pytest.mark.parametrize("fields", WORLDS.values(), ids=WORLDS)
def test_nobody_does_better_than_the_optimum(fields):
    params = params_of(fields)
    for seed in range(3):
        key = jax.random.key(seed)
        optimum = SHORT.optimum(params, key)
        assert all(value <= optimum + 1e-6 for value in SHORT.baselines(params, key).values())
        for k_actions in jax.random.split(key, 3):
            actions = jax.random.randint(k_actions, (60,), 0, SHORT.num_slots + 1, jnp.int32)
            assert float(played(params, key, actions)[0]) <= optimum + 1e-3


def test_requests_follow_zipfs_law():
    uniform = jax.random.uniform(jax.random.key(0), (20_000,))
    ranks = np.asarray(jax.vmap(lambda u: zipf_rank(u, 1.0, 5))(uniform))
    wanted = 1 / np.arange(1, 6)
    found = np.bincount(ranks, minlength=5) / len(ranks)
    np.testing.assert_allclose(found, wanted / wanted.sum(), atol=0.01)


def test_every_rank_falls_by_one_as_a_content_comes_up():
    steep = params_of({"zipf_exponent": 5.0, "drift": 0.1, "phase": 7.0})
    seed = jnp.array([1, 2], jnp.int32)
    asked = [int(request_at(seed, jnp.int32(t), steep, 30)) for t in range(40)]
    leaders = [int(most_popular(jnp.int32(t), 7.0, 0.1)) for t in range(40)]
    assert np.mean(np.array(asked) == np.array(leaders)) > 0.9
    assert leaders[0] == 7
    assert leaders[-1] == 4


def test_a_victim_goes_first_then_the_least_recently_used():
    held, sizes = jnp.array([3, 1, 2, -1]), jnp.array([2.0, 1.0, 1.0, 1.0])
    keep = lambda action, capacity: kept_contents(held, jnp.int32(0), jnp.int32(action), sizes, capacity).tolist()  # noqa: E731
    assert keep(0, 3.0) == [3, 1, 2, -1]
    assert keep(2, 4.0) == [3, 2, 0, -1]
    assert keep(2, 3.0) == [2, 0, -1, -1]
    assert keep(1, 5.0) == [3, 1, 2, 0]
    assert keep(1, 1.0) == [3, 1, 2, -1]  # larger than all room


def test_what_is_asked_for_again_becomes_the_most_recent():
    held = jnp.array([3, 1, 2, -1])
    assert kept_contents(held, jnp.int32(3), jnp.int32(1), jnp.ones(4), 3.0).tolist() == [1, 2, 3, -1]
    assert kept_contents(held, jnp.int32(3), jnp.int32(0), jnp.ones(4), 3.0).tolist() == [1, 2, -1, -1]


@pytest.mark.parametrize("fields", [{"num_contents": 0}, {"num_slots": 0}, {"max_steps": 0}])
def test_refuses_sizes_in_a_sentence(fields):
    with pytest.raises(ValueError, match=f"environment.{next(iter(fields))} = 0 .*is out of range"):
        EdgeCache(**fields).check()
