"""The probe for memory: what it shows and pays, and that nothing but the sign helps."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polyfed.environments import CartPole, ProbeParams, Recall, RecallState, Remembered
from polyfed.testing import check_environment


@pytest.mark.parametrize("world", [Recall(), Remembered(Recall(), 3), Remembered(CartPole(), 2)], ids=str)
def test_it_keeps_the_contract(world):
    check_environment(world, num_steps=40)


def test_every_policy_of_what_is_seen_earns_nothing_in_the_mean():
    """All deterministic ones; a random one is a mixture of them."""
    recall, params = Recall(length=2), ProbeParams(scale=jnp.float32(3.0))
    step = jax.jit(recall.step)
    views = [(-1.0, 0.0), (1.0, 0.0), (0.0, 0.0), (0.0, 1.0)]
    for choices in itertools.product((0, 1), repeat=len(views)):
        act, total = dict(zip(views, choices, strict=True)), []
        for cue in (0, 1):
            state, gained = RecallState(jnp.int32(cue), jnp.int32(0)), 0.0
            shown = tuple(np.asarray(recall._shown(state)).tolist())
            for time in range(3):
                state, given = step(jax.random.key(0), state, jnp.int32(act[shown]), params)
                shown, gained = tuple(np.asarray(given.observation).tolist()), gained + float(given.reward)
                assert bool(given.terminated) == (time == 2)
            total.append(gained)
        assert sorted(total) == [-3.0, 3.0]


def test_a_sign_at_the_junction_is_refused():
    with pytest.raises(ValueError, match="shows the sign at the junction"):
        Recall(length=0).check()
