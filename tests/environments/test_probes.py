import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polyfed.environments import CONTINUOUS_PROBES, PROBES, ProbeParams, ProbeState
from polyfed.environments.probes import ACTION_REWARD, CONSTANT_REWARD, DELAYED_REWARD, OBSERVED_ACTION_REWARD

KNOWN = {  # discount 0.9, worked out by hand
    "constant_reward": [[1.0]],
    "observed_reward": [[-1.0], [1.0]],
    "delayed_reward": [[0.9], [1.0]],
    "action_reward": [[-1.0, 1.0]],
    "observed_action_reward": [[1.0, -1.0], [-1.0, 1.0]],
}


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.name)
def test_values_are_what_a_greedy_agent_earns(probe):
    np.testing.assert_allclose(probe.action_values(discount=0.9), KNOWN[probe.name], rtol=1e-6)
    params = ProbeParams(scale=jnp.float32(2.0))
    values = probe.action_values(0.9, scale=2.0)
    for k, n in np.ndindex(values.shape):
        state, action = ProbeState(jnp.int32(k), time=jnp.int32(0)), n
        earned, factor, terminated = 0.0, 1.0, False
        while not terminated:
            state, step = probe.step(jax.random.key(0), state, jnp.int32(action), params)
            earned, factor, terminated = earned + factor * float(step.reward), 0.9 * factor, bool(step.terminated)
            np.testing.assert_array_equal(step.observation, probe.observations[int(state.situation)])
            action = int(values[int(state.situation)].argmax())
        assert earned == pytest.approx(values[k, n], abs=1e-6)


@pytest.mark.parametrize("probe", [*PROBES, *CONTINUOUS_PROBES], ids=lambda probe: probe.name)
def test_starts_are_uniform_over_the_first_situations(probe):
    keys = jax.random.split(jax.random.key(0), 1000)
    states, observations = jax.vmap(probe.reset, in_axes=(0, None))(keys, probe.nominal())
    starts = getattr(probe, "num_starts", len(probe.seen))
    counts = np.bincount(states.situation, minlength=starts)
    assert len(counts) == starts
    assert np.all(abs(counts / 1000 - 1 / starts) < 0.05)
    np.testing.assert_array_equal(observations, probe.observations[states.situation])


@pytest.mark.parametrize("probe", CONTINUOUS_PROBES, ids=lambda probe: probe.name)
def test_the_best_action_earns_the_scale_and_no_other_does(probe):
    params = ProbeParams(scale=jnp.float32(3.0))
    for k, best in enumerate(probe.best):
        state = ProbeState(jnp.int32(k), time=jnp.int32(0))
        rewards = [
            float(probe.step(jax.random.key(0), state, jnp.array([action]), params)[1].reward)
            for action in (best - 0.1, best, best + 0.1)
        ]
        np.testing.assert_allclose(rewards, [2.97, 3.0, 2.97], rtol=1e-5)


def test_episodes_end_before_the_clock():
    assert all(len(probe.seen) < probe.max_steps for probe in PROBES)
    first = ProbeState(jnp.int32(0), time=jnp.int32(0))
    _, step = DELAYED_REWARD.step(jax.random.key(0), first, jnp.int32(0), DELAYED_REWARD.nominal())
    assert (bool(step.terminated), float(step.reward)) == (False, 0.0)


def test_each_probe_needs_one_thing_more():
    assert [probe.action_space.n for probe in PROBES] == [1, 1, 1, 2, 2]
    assert [len(probe.observations) for probe in PROBES] == [1, 2, 2, 1, 2]
    assert OBSERVED_ACTION_REWARD.action_values(0.9).argmax(axis=1).tolist() == [0, 1]
    assert ACTION_REWARD.action_values(0.9).argmax(axis=1).tolist() == [1]
    assert dataclasses.replace(CONSTANT_REWARD, rewards=((2.0,),)).action_values(0.5).tolist() == [[2.0]]
