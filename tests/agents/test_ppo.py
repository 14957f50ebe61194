"""PPO against its losses written out by hand, and on problems of known values."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polyfed.agents.observation_statistics import ObservationStatistics
from polyfed.agents.ppo import PPO, clipped_gain
from polyfed.agents.rollout import local_update
from polyfed.environments import CONTINUOUS_PROBES, PROBES, Acrobot, CartPole, Pendulum, Probe
from polyfed.leaves import stacked
from polyfed.testing import check_agent
from polyfed.types import Trajectory

SMALL = PPO(
    hidden=(6,), rollout_steps=12, epochs=1, minibatches=1, learning_rate=0.1, value_learning_rate=0.02,
    entropy_weight=0.03, normalize=False,
)  # fmt: skip


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


def test_gain_is_the_smaller_of_the_two():
    random = np.random.default_rng(0)
    log_ratio, advantage = random.normal(0, 0.4, 50), random.normal(size=50)
    expected = [
        min(np.exp(r) * a, min(max(np.exp(r), 0.8), 1.2) * a) for r, a in zip(log_ratio, advantage, strict=True)
    ]
    found = clipped_gain(jnp.asarray(log_ratio, jnp.float32), jnp.asarray(advantage, jnp.float32), 0.2)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.slow
def test_the_second_epoch_is_judged_by_the_policy_that_acted():
    """What the first epoch leaves says what the loss of the second is: the mean over both is what is reported."""
    state, trajectory = SMALL.init(jax.random.key(0), CartPole(), 2), made_up(0, 12)
    once, first = jax.jit(SMALL.learn)(state, trajectory, jax.random.key(1))
    _, both = jax.jit(dataclasses.replace(SMALL, epochs=2).learn)(state, trajectory, jax.random.key(1))
    value, after = (np.asarray(state.value(x)[..., 0]) for x in (trajectory.observation, trajectory.next_observation))
    advantage = np.zeros((12, 2))
    for e in range(2):
        later = 0.0
        for t in reversed(range(12)):
            over = trajectory.terminated[t, e] or trajectory.truncated[t, e]
            ahead = 0.0 if trajectory.terminated[t, e] else 0.99 * after[t, e]
            error = trajectory.reward[t, e] + ahead - value[t, e]
            later = advantage[t, e] = error + (0.0 if over else 0.99 * 0.95 * later)

    def losses(policy, network):
        total, apart, clipped = 0.0, 0.0, 0
        for t in range(12):
            for e in range(2):
                x, action = trajectory.observation[t, e], trajectory.action[t, e]
                new, old = (np.asarray(jax.nn.softmax(p(x)), np.float64) for p in (policy, state.policy))
                ratio = new[action] / old[action]
                clipped += abs(ratio - 1) > 0.2
                gain = min(ratio * advantage[t, e], np.clip(ratio, 0.8, 1.2) * advantage[t, e])
                total -= gain - 0.03 * (new * np.log(new)).sum()
                apart += (float(network(x)[0]) - value[t, e] - advantage[t, e]) ** 2
        return total / 24, apart / 24, clipped

    expected = [losses(state.policy, state.value), losses(once.policy, once.value)]
    assert expected[1][2] > 0  # something was clipped
    assert float(first["loss"]) == pytest.approx(expected[0][0], rel=1e-3, abs=1e-4)
    assert float(both["loss"]) == pytest.approx((expected[0][0] + expected[1][0]) / 2, rel=1e-3, abs=1e-4)
    assert float(both["value_loss"]) == pytest.approx((expected[0][1] + expected[1][1]) / 2, rel=1e-3)


def test_minibatches_are_all_samples_once():
    still = dataclasses.replace(SMALL, learning_rate=0.0, value_learning_rate=0.0)
    state, trajectory = still.init(jax.random.key(0), CartPole(), 2), made_up(0, 12)
    found = [
        jax.jit(dataclasses.replace(still, minibatches=m).learn)(state, trajectory, jax.random.key(1))[1]
        for m in (1, 6)
    ]
    for name in ("loss", "value_loss", "entropy"):
        assert float(found[0][name]) == pytest.approx(float(found[1][name]), rel=1e-4, abs=1e-6)


def test_derived_learners():
    assert SMALL.rollout_length == 12
    assert SMALL.pooled(3).minibatches == 3
    assert SMALL.plain() == SMALL


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"rollout_steps": 0}, r"agent\.rollout_steps = 0 steps is out of range"),
        ({"epochs": 0}, r"agent\.epochs = 0 is out of range"),
        ({"minibatches": 0}, r"agent\.minibatches = 0 is out of range"),
        ({"clip": 1.5}, r"agent\.clip = 1\.5 is out of range"),
        ({"trace_decay": 1.5}, r"agent\.trace_decay = 1\.5 is out of range"),
        ({"entropy_weight": -0.1}, r"agent\.entropy_weight = -0\.1 is out of range"),
        ({"max_grad_norm": 0.0}, r"agent\.max_grad_norm = 0 is out of range"),
    ],
)
def test_refuses_fields_in_a_sentence(fields, sentence):
    with pytest.raises(ValueError, match=sentence):
        dataclasses.replace(SMALL, **fields).check(CartPole())


def test_refuses_a_rollout_that_cannot_be_cut():
    with pytest.raises(ValueError, match=r"12 steps of 2 environments cannot be cut into agent\.minibatches = 5"):
        dataclasses.replace(SMALL, minibatches=5).init(jax.random.key(0), CartPole(), 2)


ENDLESS = Probe(name="endless", seen=(0.5,), rewards=((1.0,),), successors=(0,), num_starts=1, max_steps=4)


@pytest.mark.parametrize(
    "probe",
    [pytest.param(p, marks=[] if p is PROBES[4] else pytest.mark.slow) for p in (*PROBES, ENDLESS, *CONTINUOUS_PROBES)],
    ids=lambda p: p.name,
)
def test_learns_what_to_do_and_what_it_is_worth(probe):
    """Of the endless one: truncation bootstraps, or it would be worth less than `1 / (1 - discount)`."""
    rates = {"learning_rate": 3e-3, "value_learning_rate": 1e-2}
    agent = stacked(PPO(hidden=(16,), rollout_steps=16, discount=0.8, **rates), None)
    params = jax.tree.map(lambda x: jnp.full(4, x), probe.nominal())
    state = agent.init(jax.random.key(3), probe, 4), probe.start(jax.random.key(4), params), params
    state = jax.jit(lambda *client: local_update(probe, agent, client, jax.random.key(5), num_steps=1600)[0])(*state)
    seen = jnp.asarray(probe.observations)
    if probe in CONTINUOUS_PROBES:
        np.testing.assert_allclose(agent.policy(state, seen)[:, 0], probe.best, atol=0.15)
        return
    known = np.array([[1 / (1 - 0.8)]]) if probe is ENDLESS else probe.action_values(discount=0.8)
    np.testing.assert_allclose(state.value(seen)[:, 0], known.max(axis=1), atol=0.15)
    if probe.action_space.n > 1:
        np.testing.assert_array_equal(agent.policy(state, seen), known.argmax(axis=1))


@pytest.mark.slow
@pytest.mark.parametrize("world", [CartPole(max_steps=30), Pendulum(max_steps=30)], ids=repr)
def test_keeps_the_contract(world):
    check_agent(dataclasses.replace(SMALL, epochs=2, minibatches=3), world, num_steps=24)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("world", "agent", "num_envs", "enough"),
    [
        (CartPole(), PPO(), 4, 475.0),
        (Acrobot(), PPO(entropy_weight=0.01, statistics=ObservationStatistics()), 8, -100.0),
        (Pendulum(), PPO(discount=0.9, minibatches=16), 4, -200.0),
    ],
    ids=["CartPole", "Acrobot", "Pendulum"],
)
def test_learns(world, agent, num_envs, enough):
    """25,600 steps in each environment."""
    agent = stacked(agent, None)
    params = jax.tree.map(lambda x: jnp.full(num_envs, x), world.nominal())
    run = jax.jit(lambda state, stay, key: local_update(world, agent, (state, stay, params), key, num_steps=25_600)[0])
    one, found = jax.tree.map(lambda x: x[:1], params), []
    for seed in range(3):
        state, stay = agent.init(jax.random.key(seed), world, num_envs), world.start(jax.random.key(seed), params)
        state = run(state, stay, jax.random.key(10 + seed))
        found.append(float(world.evaluate(lambda x, s=state: agent.policy(s, x), one, jax.random.key(9), 20)[0]))
    assert np.mean(found) >= enough
