"""A2C against its two losses written out by hand, and on problems of known values."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from polyfed.agents.a2c import A2C
from polyfed.agents.rollout import local_update
from polyfed.environments import CONTINUOUS_PROBES, PROBES, CartPole, Probe
from polyfed.leaves import stacked
from polyfed.testing import check_agent
from polyfed.types import Trajectory

SMALL = A2C(hidden=(6,), rollout_steps=12, learning_rate=0.01, value_learning_rate=0.02, trace_decay=0.9)


def made_up(seed, num_steps, num_envs=2):
    """Transitions of CartPole's shape that nobody lived through, `[T, E]`, with both kinds of ends."""
    random = np.random.default_rng(seed)
    shape = (num_steps, num_envs)
    return Trajectory(
        observation=random.normal(size=(*shape, 4)).astype(np.float32),
        action=random.integers(0, 2, shape).astype(np.int32),
        reward=random.normal(size=shape).astype(np.float32),
        next_observation=random.normal(size=(*shape, 4)).astype(np.float32),
        terminated=random.random(shape) < 0.2,
        truncated=random.random(shape) < 0.2,
    )


def advantages(agent, state, trajectory):
    """`(A, V + A)` `[T, E]`, one step after another."""
    value, after = (
        np.asarray(state.value(x)[..., 0], np.float64) for x in (trajectory.observation, trajectory.next_observation)
    )
    found = np.zeros_like(value)
    for e in range(value.shape[1]):
        later = 0.0
        for t in reversed(range(value.shape[0])):
            ahead = 0.0 if trajectory.terminated[t, e] else agent.discount * after[t, e]
            over = trajectory.terminated[t, e] or trajectory.truncated[t, e]
            error = trajectory.reward[t, e] + ahead - value[t, e]
            later = found[t, e] = error + (0.0 if over else agent.discount * agent.trace_decay * later)
    return found, value + found


def test_a_step_of_each_network_is_that_of_its_loss_by_hand():
    """Two rollouts, so that moments count; gradients are clipped."""
    seen = jnp.ones((3, 4))
    pull = lambda predict: jnp.sum(predict(seen).probabilities[:, 0])  # noqa: E731
    state = SMALL.init(jax.random.key(0), CartPole(), 2)
    optimizers = [optax.chain(optax.clip_by_global_norm(0.5), optax.adam(rate)) for rate in (0.01, 0.02)]
    networks = state.policy, state.value
    mine = [(network, optimizer.init(network)) for network, optimizer in zip(networks, optimizers, strict=True)]
    learn = jax.jit(lambda *given: stacked(SMALL, None).learn(*given, jax.random.key(0), penalty=pull))
    for seed in range(2):
        trajectory = made_up(seed, 12)
        advantage, target = advantages(SMALL, state, trajectory)

        def policy_loss(policy, trajectory=trajectory, advantage=advantage):
            share = jax.nn.softmax(policy(trajectory.observation))
            chosen = jnp.where(trajectory.action == 1, share[..., 1], share[..., 0])
            entropy = -jnp.sum(share * jnp.log(share), axis=-1)
            penalty = jnp.sum(jax.nn.softmax(policy(seen))[:, 0])
            return jnp.mean(-jnp.log(chosen) * advantage - 0.01 * entropy) + penalty

        def value_loss(value, trajectory=trajectory, target=target):
            return jnp.mean((value(trajectory.observation)[..., 0] - target) ** 2)

        expected = float(value_loss(state.value))
        for i, loss in enumerate((policy_loss, value_loss)):
            network, moments = mine[i]
            updates, moments = optimizers[i].update(jax.jit(jax.grad(loss))(network), moments, network)
            mine[i] = optax.apply_updates(network, updates), moments
        state, metrics = learn(state, trajectory)
        assert float(metrics["value_loss"]) == pytest.approx(expected, rel=1e-4)
        new = [jax.tree.leaves(x) for x in ((state.policy, state.value), (mine[0][0], mine[1][0]))]
        for ours, theirs in zip(*new, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)
    assert int(state.updates) == 2


def test_derived_learners():
    assert SMALL.rollout_length == 12
    assert not SMALL.episodic
    assert SMALL.pooled(3) == SMALL == SMALL.plain()


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"rollout_steps": 0}, r"agent\.rollout_steps = 0 steps is out of range"),
        ({"value_learning_rate": -1.0}, r"agent\.value_learning_rate = -1 is out of range"),
        ({"trace_decay": 1.5}, r"agent\.trace_decay = 1\.5 is out of range"),
        ({"entropy_weight": -0.1}, r"agent\.entropy_weight = -0\.1 is out of range"),
        ({"max_grad_norm": 0.0}, r"agent\.max_grad_norm = 0 is out of range"),
    ],
)
def test_refuses_fields_in_a_sentence(fields, sentence):
    with pytest.raises(ValueError, match=sentence):
        dataclasses.replace(SMALL, **fields).check(CartPole())


ENDLESS = Probe(name="endless", seen=(0.5,), rewards=((1.0,),), successors=(0,), num_starts=1, max_steps=4)


@pytest.mark.parametrize(
    "probe",
    [pytest.param(p, marks=[] if p is PROBES[4] else pytest.mark.slow) for p in (*PROBES, ENDLESS, *CONTINUOUS_PROBES)],
    ids=lambda p: p.name,
)
def test_learns_what_to_do_and_what_it_is_worth(probe):
    """Of the endless one: truncation bootstraps, or it would be worth less than `1 / (1 - discount)`."""
    rates = {"learning_rate": 3e-3, "value_learning_rate": 1e-2, "entropy_weight": 0.0}
    agent = stacked(A2C(hidden=(16,), rollout_steps=4, discount=0.8, **rates), None)
    params = jax.tree.map(lambda x: jnp.full(8, x), probe.nominal())
    state = agent.init(jax.random.key(3), probe, 8), probe.start(jax.random.key(4), params), params
    state = jax.jit(lambda *client: local_update(probe, agent, client, jax.random.key(5), num_steps=6000)[0])(*state)
    seen = jnp.asarray(probe.observations)
    if probe in CONTINUOUS_PROBES:
        np.testing.assert_allclose(agent.policy(state, seen)[:, 0], probe.best, atol=0.15)
        return
    known = np.array([[1 / (1 - 0.8)]]) if probe is ENDLESS else probe.action_values(discount=0.8)
    np.testing.assert_allclose(state.value(seen)[:, 0], known.max(axis=1), atol=0.15)
    if probe.action_space.n > 1:
        np.testing.assert_array_equal(agent.policy(state, seen), known.argmax(axis=1))


@pytest.mark.slow
def test_keeps_the_contract():
    check_agent(SMALL, CartPole(max_steps=30), num_steps=24)


@pytest.mark.slow
def test_balances_the_pole():
    """32,000 steps in each of 8 environments."""
    world, agent = CartPole(), stacked(A2C(), None)
    params = jax.tree.map(lambda x: jnp.full(8, x), world.nominal())
    run = jax.jit(lambda state, stay, key: local_update(world, agent, (state, stay, params), key, num_steps=32_000)[0])
    one, found = jax.tree.map(lambda x: x[:1], params), []
    for seed in range(3):
        state, stay = agent.init(jax.random.key(seed), world, 8), world.start(jax.random.key(seed), params)
        state = run(state, stay, jax.random.key(10 + seed))
        found.append(float(world.evaluate(lambda x, s=state: agent.policy(s, x), one, jax.random.key(9), 20)[0]))
    assert np.mean(found) >= 475
