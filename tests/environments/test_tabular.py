"""Finite worlds: what is refused, and that stepping follows the probabilities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polyfed.agents import DQN
from polyfed.environments import RandomMDPs, TabularMDP, TabularMDPs
from polyfed.environments.tabular import draw_index

EVEN = np.full((2, 3, 2), 0.5)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"transitions": EVEN * 0.9}, r"transitions\[0\]\[0\] sums to 0\.9, but"),
        ({"transitions": EVEN - np.array([1.0, -1.0])}, r"transitions\[0\]\[0\] has an entry that is negative"),
        ({"transitions": np.full((2, 3, 4), 0.25)}, "the next states must be the states"),
        ({"rewards": np.zeros((2, 2))}, "give one reward for each"),
        ({"start": np.ones(3) / 3}, "give one probability each"),
        ({"start": np.ones(2)}, "start sums to 2, but"),
        ({"discount": 1.0}, "discount = 1 is out of range"),
    ],
)
def test_refuses(changes, sentence):
    fields = {"transitions": EVEN, "rewards": np.zeros((2, 3)), "start": np.ones(2) / 2, "discount": 0.9}
    TabularMDPs(**fields).check()
    with pytest.raises(ValueError, match=sentence):
        TabularMDPs(**{**fields, **changes}).check()


def test_the_shift_is_that_of_the_released_code():
    assert TabularMDPs(EVEN, np.zeros((2, 3)), np.ones(2) / 2, 0.9).shift == pytest.approx(5.0)


def test_an_index_is_drawn_with_its_probability():
    keys = jax.random.split(jax.random.key(0), 20_000)
    drawn = jax.vmap(lambda key: draw_index(key, jnp.array([0.2, 0.0, 0.5, 0.3, 0.0])))(keys)
    np.testing.assert_allclose(np.bincount(drawn, minlength=5) / 20_000, [0.2, 0, 0.5, 0.3, 0], atol=0.015)


@pytest.mark.slow
def test_steps_follow_the_transitions_and_the_clock():
    world = TabularMDP(num_states=4, num_actions=2, max_steps=3)
    params = jax.tree.map(lambda x: x[0], RandomMDPs(density=0.6, seed=3).params(world, num_clients=1))
    state, seen = world.reset(jax.random.key(0), params)
    assert int(jnp.argmax(seen)) == int(state.state)
    step = jax.jit(jax.vmap(world.step, in_axes=(0, None, None, None)))
    after, given = step(jax.random.split(jax.random.key(1), 20_000), state, jnp.int32(1), params)
    shares = np.bincount(after.state, minlength=4) / 20_000
    np.testing.assert_allclose(shares, params.transitions[state.state, 1], atol=0.015)
    assert np.all(given.reward == params.rewards[state.state, 1])
    assert not np.any(given.terminated)
    for expected in (False, False, True):
        state, given = world.step(jax.random.key(2), state, jnp.int32(0), params)
        assert bool(given.truncated) == expected


def test_a_network_can_live_there_too():
    DQN(hidden=(8,)).check(TabularMDP())


@pytest.mark.parametrize("field", ["num_states", "num_actions", "max_steps"])
def test_refuses_sizes(field):
    with pytest.raises(ValueError, match=f"environment.{field} = 0 .* out of range"):
        TabularMDP(**{field: 0}).check()
