from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polyfed.environments import CartPole
from polyfed.environments.trace import trace_episode


def left(observation: Any) -> Any:
    return jnp.zeros(observation.shape[0], jnp.int32)


def lean(observation: Any) -> Any:
    return (observation[:, 2] + 0.1 * observation[:, 3] > 0).astype(jnp.int32)


@pytest.mark.parametrize(("act", "max_steps"), [(left, 200), (lean, 15)], ids=["it falls", "the clock ends it"])
def test_an_episode_state_by_state_is_that_of_a_loop(act: Any, max_steps: int) -> None:
    environment, key = CartPole(max_steps=max_steps), jax.random.key(3)
    params = environment.nominal()
    states, total, steps = trace_episode(environment, act, params, key)
    state, observation = environment.reset(jax.random.split(key)[0], params)
    for t in range(steps + 1):
        for found, expected in zip(jax.tree.leaves(states), jax.tree.leaves(state), strict=True):
            np.testing.assert_allclose(found[t], expected, rtol=1e-5, atol=1e-6)
        state, given = environment.step(key, state, act(observation[None])[0], params)
        observation = given.observation
        assert bool(given.terminated | given.truncated) == (t >= steps - 1)
    assert total == steps
    assert (steps == max_steps) == (act is lean)
    assert states.time.shape == (steps + 1,)


def test_the_world_and_the_start_make_the_episode() -> None:
    environment = CartPole()
    short = CartPole.params_class(half_length=jnp.float32(0.1))
    found = [trace_episode(environment, left, p, jax.random.key(s))[2] for p, s in ((short, 0), (short, 0))]
    assert found[0] == found[1] < trace_episode(environment, left, environment.nominal(), jax.random.key(0))[2]
    angles = [trace_episode(environment, left, short, jax.random.key(s))[0].angle[0] for s in range(3)]
    assert len({float(a) for a in angles}) == 3
