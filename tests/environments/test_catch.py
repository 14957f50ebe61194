"""The probe for images: what it shows, pays and refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polyfed.environments import Catch, CatchState, ProbeParams
from polyfed.testing import check_environment


def test_it_keeps_the_contract():
    check_environment(Catch(), num_steps=40)


def test_following_the_ball_always_catches_it_and_standing_still_rarely_does():
    catch, params = Catch(rows=5, columns=9), ProbeParams(scale=jnp.float32(2.0))
    catch.check()
    step, scores = jax.jit(catch.step), {"follow": [], "stay": []}
    for column in range(9):
        for rule in scores:
            state, total = CatchState(jnp.int32(column), jnp.int32(0), jnp.int32(4)), 0.0
            for time in range(4):
                action = catch.best_action(state) if rule == "follow" else np.int32(1)
                state, given = step(jax.random.key(0), state, jnp.asarray(action), params)
                total += float(given.reward)
                assert bool(given.terminated) == (time == 3)
                assert not bool(given.truncated)
            scores[rule].append(total)
    assert scores["follow"] == [2.0] * 9
    assert scores["stay"] == [-2.0] * 4 + [2.0] + [-2.0] * 4


def test_the_picture_shows_ball_and_paddle():
    shown = np.asarray(Catch().picture(jnp.int32(1), jnp.int32(2), jnp.int32(5))).reshape(6, 6)
    assert np.argwhere(shown).tolist() == [[2, 1], [5, 5]]


@pytest.mark.parametrize("catch", [Catch(rows=1), Catch(rows=3, columns=6), Catch(columns=0)])
def test_balls_that_nobody_can_catch_are_refused(catch):
    with pytest.raises(ValueError, match="leave balls that nobody can catch"):
        catch.check()
