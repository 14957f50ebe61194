"""The probe for masks: its values by trying everything, and what a shut door costs."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polyfed.environments import Doors, DoorsState, ProbeParams
from polyfed.testing import check_environment


def test_it_keeps_the_contract():
    check_environment(Doors())


@pytest.mark.parametrize("discount", [1.0, 0.9])
def test_the_value_is_the_best_mean_over_all_that_may_be_open(discount):
    doors, pays = Doors(), (0.0, 1.0, 4.0)
    best = []
    for rooms in itertools.product(doors.patterns, repeat=3):
        gains = [max(r for r, is_open in zip(pays, room, strict=True) if is_open) for room in rooms]
        best.append(sum(discount**k * gain for k, gain in enumerate(gains)))
    assert doors.value(discount) == pytest.approx(np.mean(best))
    values = doors.action_values(discount, scale=2.0)
    assert values.shape == (12, 3)
    np.testing.assert_allclose(values[:4], [[2 * (r + discount * doors.value(discount, room=1)) for r in pays]] * 4)


def test_a_shut_door_costs_and_ends_and_an_open_one_pays_and_leads_on():
    doors, params, key = Doors(), ProbeParams(scale=jnp.float32(2.0)), jax.random.key(0)
    state = DoorsState(jnp.array([True, False, True]), jnp.int32(1))
    shown = doors._shown(state)
    assert doors.allowed(shown).tolist() == [True, False, True]
    _, through = doors.step(key, state, jnp.int32(2), params)
    _, shut = doors.step(key, state, jnp.int32(1), params)
    assert (float(through.reward), bool(through.terminated)) == (8.0, False)
    assert (float(shut.reward), bool(shut.terminated)) == (-20.0, True)
    _, last = doors.step(key, DoorsState(state.open, jnp.int32(2)), jnp.int32(0), params)
    assert (float(last.reward), bool(last.terminated), bool(last.truncated)) == (0.0, True, False)


def test_every_pattern_is_as_likely():
    keys = jax.random.split(jax.random.key(0), 2000)
    states, _ = jax.vmap(Doors().reset, in_axes=(0, None))(keys, Doors().nominal())
    shares = [np.mean(np.all(np.asarray(states.open) == p, axis=1)) for p in Doors().patterns]
    np.testing.assert_allclose(shares, 0.25, atol=0.04)


def test_the_contract_of_masks_is_looked_at():
    class Short(Doors):
        def allowed(self, observation):
            return observation[..., 2:] > 0.5

    class Shut(Doors):
        def allowed(self, observation):
            return observation[..., 1:] > 1.5

    with pytest.raises(AssertionError, match=r"Short allows bool\[2\] for observations \[4\] of Discrete\(n=3\)"):
        check_environment(Short())
    with pytest.raises(AssertionError, match="Shut allows nothing although the episode goes on"):
        check_environment(Shut(), num_steps=20)
