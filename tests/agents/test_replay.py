"""The ring against plain Python lists: every window that may be drawn, and none that may not."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from polyfed.agents.replay import Replay
from polyfed.types import Trajectory

DISCOUNT = 0.9


def made_up_steps(seed, num_steps, num_envs, chance_of_end):
    """Transitions `[T, E]` in NumPy; each observation names its step and environment."""
    random = np.random.default_rng(seed)
    shape = (num_steps, num_envs)
    time, env = np.indices(shape)
    return Trajectory(
        observation=np.stack([time, env], axis=-1).astype(np.float32),
        action=random.integers(0, 4, shape).astype(np.int32),
        reward=random.normal(size=shape).astype(np.float32),
        next_observation=np.stack([time + 0.5, env], axis=-1).astype(np.float32),
        terminated=random.random(shape) < chance_of_end,
        truncated=random.random(shape) < chance_of_end,
    )


def window(steps, time, env, n_step):
    """Naive: reward, bootstrap factor and last observation of the window that starts at `time` in `env`."""
    reward, factor = 0.0, 1.0
    for t in range(time, time + n_step):
        reward += factor * steps.reward[t, env]
        factor *= DISCOUNT
        if steps.terminated[t, env]:
            return reward, 0.0, steps.next_observation[t, env]
        if steps.truncated[t, env]:
            break
    return reward, factor, steps.next_observation[t, env]


add = jax.jit(lambda replay, trajectory: replay.add(trajectory))


def filled(steps, length, rows_at_once=1):
    num_steps, num_envs = steps.reward.shape
    replay = Replay.empty(length * num_envs, num_envs, observation_size=2, action_size=1)
    for t in range(0, num_steps, rows_at_once):
        replay = add(replay, jax.tree.map(lambda x, t=t: x[t : t + rows_at_once], steps))
    return replay


@functools.partial(jax.jit, static_argnames=("batch_size", "n_step"))
def sample(replay, key, batch_size, n_step):
    return replay.sample(key, batch_size, DISCOUNT, n_step)


def check_windows(steps, length, n_step, batch_size=2000):
    """Every sampled window is the naive one; every window that is whole in the ring is drawn, and no other."""
    num_steps, num_envs = steps.reward.shape
    batch = sample(filled(steps, length), jax.random.key(0), batch_size, n_step)
    times, envs = np.asarray(batch.observation).astype(int).T
    oldest = max(num_steps - length, 0)
    whole = {(t, e) for t in range(oldest, num_steps - n_step + 1) for e in range(num_envs)}
    assert set(zip(times.tolist(), envs.tolist(), strict=True)) == whole
    naive = {(t, e): window(steps, t, e, n_step) for t, e in whole}
    reward, bootstrap, last = zip(*(naive[t, e] for t, e in zip(times, envs, strict=True)), strict=True)
    np.testing.assert_allclose(batch.reward, reward, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(batch.bootstrap, bootstrap, rtol=1e-6)
    np.testing.assert_array_equal(batch.next_observation, last)
    np.testing.assert_array_equal(batch.action[:, 0], steps.action[times, envs])


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    shape=st.sampled_from([(8, 1, 1), (8, 1, 3), (8, 3, 1), (8, 3, 3), (5, 2, 5)]),
    num_steps=st.integers(5, 30),
    chance_of_end=st.sampled_from([0.0, 0.1, 0.4, 1.0]),
)
@pytest.mark.slow
def test_windows_are_those_of_a_list(seed, shape, num_steps, chance_of_end):
    length, num_envs, n_step = shape
    check_windows(made_up_steps(seed, num_steps, num_envs, chance_of_end), length, n_step)


@pytest.mark.parametrize("num_steps", [7, 8, 9, 15, 16, 17, 23])
def test_windows_cross_the_end_of_the_ring_but_not_the_newest_step(num_steps):
    check_windows(made_up_steps(num_steps, num_steps, num_envs=2, chance_of_end=0.2), length=8, n_step=3)


@pytest.mark.parametrize(
    ("ends", "length", "bootstrap"),
    [
        ({}, 3, DISCOUNT**3),
        ({1: "truncated"}, 2, DISCOUNT**2),
        ({1: "terminated"}, 2, 0.0),
        ({0: "truncated", 1: "terminated"}, 1, DISCOUNT),  # what comes after the end is another episode
        ({0: "both"}, 1, 0.0),  # the MDP ended at the very step at which the clock did
        ({2: "truncated"}, 3, DISCOUNT**3),
        ({2: "terminated"}, 3, 0.0),
    ],
)
def test_truncation_bootstraps_and_termination_does_not(ends, length, bootstrap):
    steps = made_up_steps(0, 3, 1, chance_of_end=0.0)
    for t, end in ends.items():
        steps.terminated[t] = end != "truncated"
        steps.truncated[t] = end != "terminated"
    batch = sample(filled(steps, length=3), jax.random.key(0), 4, 3)
    np.testing.assert_allclose(batch.bootstrap, bootstrap, rtol=1e-6)
    np.testing.assert_allclose(batch.reward, sum(DISCOUNT**i * steps.reward[i, 0] for i in range(length)), rtol=1e-5)
    np.testing.assert_array_equal(batch.next_observation, np.tile(steps.next_observation[length - 1, 0], (4, 1)))


@pytest.mark.parametrize("flag", ["terminated", "truncated"])
def test_one_step_bootstraps_unless_terminated(flag):
    steps = made_up_steps(0, 4, 1, chance_of_end=0.0)
    getattr(steps, flag)[:] = True
    batch = sample(filled(steps, length=4), jax.random.key(0), 8, 1)
    np.testing.assert_allclose(batch.bootstrap, 0.0 if flag == "terminated" else DISCOUNT)


@pytest.mark.parametrize(("num_steps", "n_step"), [(5, 1), (20, 1), (6, 3), (21, 3)])
def test_samples_uniformly(num_steps, n_step):
    steps = made_up_steps(0, num_steps, num_envs=3, chance_of_end=0.1)
    batch = sample(filled(steps, length=8), jax.random.key(1), 60_000, n_step)
    times, envs = np.asarray(batch.observation).astype(int).T
    counts = np.unique(times * 3 + envs, return_counts=True)[1]
    assert len(counts) == 3 * (min(num_steps, 8) - n_step + 1)
    assert stats.chisquare(counts).pvalue > 1e-3


def test_never_samples_what_was_not_written():
    steps = made_up_steps(0, 3, num_envs=2, chance_of_end=0.0)
    replay = filled(steps, length=1000)
    replay = Replay(replay.rows.at[3:].set(jnp.nan), replay.count, 2, 1)
    assert int(replay.size) == 3
    batch = sample(replay, jax.random.key(0), 5000, 2)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(batch))


def test_a_rollout_is_written_as_its_steps_are():
    steps = made_up_steps(0, 24, num_envs=2, chance_of_end=0.2)
    one, four = filled(steps, length=8), filled(steps, length=8, rows_at_once=4)
    assert int(four.count) == 24
    np.testing.assert_array_equal(one.rows, four.rows)


def test_forgotten_rows_are_not_sampled_again():
    old, new = (made_up_steps(seed, 5, num_envs=1, chance_of_end=0.0) for seed in (0, 1))
    replay = filled(old, length=8)
    replay = Replay(replay.rows, jnp.zeros_like(replay.count), 2, 1)  # what `absorb` does where replay does not survive
    for t in range(2):
        replay = add(replay, jax.tree.map(lambda x, t=t: x[t : t + 1], new))
    rewards = set(np.asarray(sample(replay, jax.random.key(0), 500, 1).reward).tolist())
    assert rewards == set(new.reward[:2, 0].tolist())
