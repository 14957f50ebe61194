import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polyfed.agents import DQN, Proximal
from polyfed.environments import CartPole
from polyfed.leaves import stacked
from polyfed.types import Trajectory


def test_proximal_is_half_the_squared_distance():
    random = np.random.default_rng(0)
    params, anchor = ({"a": random.normal(size=(3, 2)), "b": random.normal(size=4)} for _ in range(2))
    distance = sum((p - a) ** 2 for k in "ab" for p, a in zip(params[k].flat, anchor[k].flat, strict=True))
    assert float(Proximal(strength=0.3)(params, anchor)) == pytest.approx(0.5 * 0.3 * distance, rel=1e-5)
    gradient = jax.grad(lambda p: Proximal(strength=0.3)(p, anchor))(params)
    np.testing.assert_allclose(gradient["a"], 0.3 * (params["a"] - anchor["a"]), rtol=1e-4)
    assert float(Proximal(strength=0.3)(anchor, anchor)) == 0.0


def test_refuses_a_push_away():
    with pytest.raises(ValueError, match=r"local_terms\.strength = -1 is out of range"):
        Proximal(strength=-1.0).check()
    with pytest.raises(ValueError, match="strength"):
        DQN(local_terms=(Proximal(strength=-1.0),)).check(CartPole())


def one_transition(seed):
    k_now, k_next = jax.random.split(jax.random.key(seed))
    flag = jnp.zeros((1, 1), bool)
    return Trajectory(
        observation=jax.random.normal(k_now, (1, 1, 4)),
        action=jnp.ones((1, 1), jnp.int32),
        reward=jnp.ones((1, 1)),
        next_observation=jax.random.normal(k_next, (1, 1, 4)),
        terminated=flag,
        truncated=flag,
    )


@jax.jit
def learn(agent, state, step):
    return agent.learn(state, one_transition(step), jax.random.key(step))[0]


@pytest.mark.slow
def test_a_strong_proximal_term_keeps_a_client_near_the_last_broadcast():
    def trained(strength):
        agent = DQN(hidden=(8,), batch_size=4, replay_capacity=50, learning_starts=1, learning_rate=1e-2)
        agent = stacked(dataclasses.replace(agent, local_terms=(Proximal(strength),)), None)
        state = jax.jit(lambda agent: agent.init(jax.random.key(0), CartPole(), num_envs=1))(agent)
        broadcast = jax.tree.map(lambda x: x + 1.0, agent.share(state))  # far from where the client began
        state = agent.absorb(state, broadcast)
        assert all(jax.tree.leaves(jax.tree.map(lambda a, b: bool((a == b).all()), state.anchor, broadcast)))
        for step in range(60):
            state = learn(agent, state, step)
        gaps = jax.tree.map(lambda a, b: jnp.sum((a - b) ** 2), state.online, broadcast)
        return float(sum(jax.tree.leaves(gaps)))

    free, near = trained(0.0), trained(1e4)
    assert near < 0.05 * free
