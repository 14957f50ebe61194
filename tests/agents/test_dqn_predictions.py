"""What a DQN predicts, and how it imitates: its online network's action values."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from polyfed.agents import DDPG, DQN, Embedding
from polyfed.environments import CartPole
from polyfed.types import ActionValues

SMALL = DQN(hidden=(8,), batch_size=8, replay_capacity=80, learning_starts=5)
WORLD = CartPole()  # observations of 4 numbers, 2 actions
VARIANTS = {"plain": {}, "dueling": {"dueling": True}, "embedding": {"embedding": Embedding(2)}, "narrow": {"width": 5}}


def seen(num):
    return np.random.default_rng(0).normal(size=(num, 4)).astype(np.float32)


def begun(agent, seed=0):
    begin = jax.jit(lambda key: agent.settle(agent.init(key, WORLD, 1), jax.random.fold_in(key, 7)))
    return begin(jax.random.key(seed))


@pytest.mark.parametrize("variant", VARIANTS)
def test_predicts_the_values_that_it_acts_by(variant):
    agent = dataclasses.replace(SMALL, **VARIANTS[variant])
    look = jax.jit(lambda state, seen: (agent.predict(state, seen), agent.policy(state, seen)))
    said, chosen = look(begun(agent), seen(30))
    assert isinstance(said, ActionValues)
    assert said.values.shape == (30, 2)
    np.testing.assert_array_equal(np.argmax(said.values, axis=-1), chosen)


def test_an_embedding_stands_before_every_observation():
    agent = dataclasses.replace(SMALL, embedding=Embedding(2))
    state = begun(agent)
    both = np.concatenate([np.broadcast_to(state.embedding.vector, (3, 2)), seen(3)], axis=-1)
    assert np.any(state.embedding.vector)
    said = jax.jit(agent.predict)(state, seen(3)).values
    np.testing.assert_allclose(said, jax.jit(lambda network, x: network(x))(state.online, both), rtol=1e-6)


def test_imitates_other_values_with_its_own_optimizer():
    @jax.jit
    def imitate(state, wanted):
        error = lambda params: jnp.mean((SMALL.predict(state, seen(30), params).values - wanted) ** 2)  # noqa: E731
        params, moments = SMALL.student(state)
        before, gradient = jax.value_and_grad(error)(params)
        updates, moments = SMALL.student_optimizer(state).update(gradient, moments, params)
        params = optax.apply_updates(params, updates)
        return SMALL.taught(state, params, moments), moments, before, error(params)

    state, other = begun(SMALL), begun(SMALL, seed=1)
    after, moments, before, error = imitate(state, jax.jit(SMALL.predict)(other, seen(30)).values)
    assert error < before
    moved = np.abs(after.online.layers[0].weight - state.online.layers[0].weight)
    assert moved.max() == pytest.approx(1e-3, rel=1e-3)  # Adam's first step is as long as its rate
    assert all(map(np.array_equal, jax.tree.leaves(after.optimizer), jax.tree.leaves(moments)))
    rest = dataclasses.replace(after, online=state.online, optimizer=state.optimizer)
    assert all(map(np.array_equal, jax.tree.leaves(rest), jax.tree.leaves(state)))


def test_a_deterministic_policy_predicts_nothing():
    with pytest.raises(ValueError, match=r"DDPG makes no predictions: share its parameters"):
        DDPG().predict(None, seen(1))
