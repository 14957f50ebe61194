"""The local update, judged by what its learner was told: step by step, the physics and the clock of a plain loop."""

import functools
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polyfed.agents import Agent
from polyfed.agents.rollout import local_update
from polyfed.environments import CartPole, CartPoleState
from polyfed.types import Trajectory

NUM_STEPS, NUM_ENVS, TIME_LIMIT = 60, 3, 12
ENVIRONMENT = CartPole(max_steps=TIME_LIMIT)


class Recorder(Agent):
    """Keeps in its state `(rollouts so far, everything that it was told)`; half of the time it acts at random."""

    rollout_length: ClassVar[int] = 1

    def check(self, environment):
        """Any environment will do."""

    def init(self, key, environment, num_envs):
        """Room for `NUM_STEPS`, leaves `[rollouts, T, E, ...]`."""
        shape = (NUM_STEPS // self.rollout_length, self.rollout_length, num_envs)
        real, flag = jnp.zeros(shape), jnp.zeros(shape, bool)
        seen = jnp.zeros((*shape, environment.observation_space.size))
        keys = jnp.zeros((shape[0], *jax.random.key_data(key).shape), jnp.uint32)
        return jnp.int32(0), (Trajectory(seen, real.astype(jnp.int32), real, seen, flag, flag), keys)

    def act(self, state, observation, key):
        """Away from where the pole leans, so that it falls soon, or anywhere."""
        draws = jax.random.uniform(key, (2, observation.shape[0]))
        return jnp.where(draws[0] < 0.4, draws[1] < 0.5, observation[:, 2] < 0).astype(jnp.int32)

    def learn(self, state, trajectory, key):
        """Write it down."""
        index, log = state
        told = trajectory, jax.random.key_data(key)
        log = jax.tree.map(lambda log, told: log.at[index].set(told), log, told)
        return (index + 1, log), {"cart": jnp.mean(trajectory.observation[..., 0])}

    def share(self, state):
        """Unused."""

    def absorb(self, state, broadcast):
        """Unused."""

    def policy(self, state, observation):
        """Unused."""


class RolloutRecorder(Agent):
    """The same, told four steps at a time."""

    rollout_length: ClassVar[int] = 4

    check, init, act, learn = Recorder.check, Recorder.init, Recorder.act, Recorder.learn
    share, absorb, policy = Recorder.share, Recorder.absorb, Recorder.policy


PARAMS = jax.tree.map(lambda x: x * jnp.linspace(0.8, 1.2, NUM_ENVS), ENVIRONMENT.nominal())


@functools.partial(jax.jit, static_argnames=("num_steps",))
def update(agent, client, key, num_steps):
    return local_update(ENVIRONMENT, agent, client, key, num_steps=num_steps)


ROUNDS = {Recorder: 20, RolloutRecorder: 1}  # three steps each, or all at once


@functools.cache
def told(cls, seed=0):
    """First observations, everything told as `[T, E, ...]` in NumPy, keys, worlds at the end, metrics of each round."""
    agent, rounds, worlds, each = cls(), ROUNDS[cls], ENVIRONMENT.start(jax.random.key(seed), PARAMS), []
    state, first = agent.init(jax.random.key(0), ENVIRONMENT, NUM_ENVS), np.asarray(worlds.observation)
    for key in jax.random.split(jax.random.key(seed), rounds):
        state, worlds, metrics = update(agent, (state, worlds, PARAMS), key, NUM_STEPS // rounds)
        each.append({name: float(value) for name, value in metrics.items()})
    count, (log, keys) = state
    assert int(count) == NUM_STEPS // cls.rollout_length
    log = jax.tree.map(lambda x: np.asarray(x).reshape(NUM_STEPS, NUM_ENVS, *x.shape[3:]), log)
    return first, log, np.asarray(keys), worlds, each


both = pytest.mark.parametrize("cls", ROUNDS, ids=["steps", "rollouts"])


@both
def test_the_learner_is_told_what_happened(cls):
    first, log, _, after, _ = told(cls)
    clock = np.zeros(NUM_ENVS, int)
    step = jax.jit(jax.vmap(ENVIRONMENT.step))
    keys = jax.random.split(jax.random.key(9), NUM_ENVS)  # this world has no chance in its steps
    observation, ends = first, []
    for t in range(NUM_STEPS):
        np.testing.assert_array_equal(log.observation[t], observation)
        state = CartPoleState(*observation.T, time=jnp.asarray(clock, jnp.int32))
        _, given = step(keys, state, jnp.asarray(log.action[t]), PARAMS)
        np.testing.assert_allclose(log.next_observation[t], given.observation, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(log.reward[t], given.reward)
        np.testing.assert_array_equal(log.terminated[t], given.terminated)
        np.testing.assert_array_equal(log.truncated[t], clock + 1 == TIME_LIMIT)
        over = log.terminated[t] | log.truncated[t]
        clock = np.where(over, 0, clock + 1)
        coming = log.observation[t + 1] if t + 1 < NUM_STEPS else np.asarray(after.observation)
        np.testing.assert_array_equal(coming[~over], log.next_observation[t][~over])
        assert np.all(abs(coming[over]) <= 1.2 * 0.05)  # a fresh start of CartPole
        ends += coming[over].tolist()
        observation = coming
    assert log.terminated.any()
    assert log.truncated.any()
    assert len({tuple(x) for x in ends}) == len(ends) > 10  # no two fresh starts are alike


@both
def test_metrics_count_the_episodes_that_ended_in_each_round(cls):
    """An episode that goes on into another round is counted whole, there; where none ended the return is NaN, not 0."""
    _, log, _, after, each = told(cls)
    length, running, empty = NUM_STEPS // len(each), np.zeros(NUM_ENVS), 0
    for i, metrics in enumerate(each):
        finished = []
        for t in range(i * length, (i + 1) * length):
            running += log.reward[t]
            over = log.terminated[t] | log.truncated[t]
            finished += running[over].tolist()
            running[over] = 0
        assert metrics["episodes"] == len(finished)
        expected = np.mean(finished) if finished else np.nan
        assert metrics["return"] == pytest.approx(expected, rel=1e-5, nan_ok=True)
        cart = log.observation[i * length : (i + 1) * length, ..., 0]
        assert metrics["cart"] == pytest.approx(cart.mean(), abs=1e-6)
        empty += not finished
    np.testing.assert_allclose(after.episode_return, running)
    assert (empty > 0) == (len(each) > 1)


@both
def test_no_key_is_used_twice(cls):
    _, log, keys, _, _ = told(cls)
    assert len({key.tobytes() for key in keys}) == len(keys)
    other = told(cls, seed=1)[1]
    assert np.any(other.action != log.action)
