import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polyfed.environments import Battery, CartPole, Dataset, Digits, EdgeCache, Explicit
from polyfed.environments.episodes import episode_keys
from polyfed.evaluation import yardstick as module
from polyfed.evaluation.yardstick import Yardstick, yardstick

STATION, HOME = EdgeCache(max_steps=40), Battery(max_steps=24)
KEY = jax.random.key(1)


def worlds(environment, **values):
    return Explicit(values).params(environment, len(next(iter(values.values()))))


@pytest.mark.slow
def test_the_rules_played_what_evaluate_plays():
    """Never to keep anything is the floor, always to keep at the expense of the oldest is LRU."""
    judged = worlds(STATION, capacity=(2.0, 4.0))
    found = yardstick(STATION, [judged], episode_keys(KEY, 3))
    for action, rule in enumerate(("no cache", "LRU")):
        played = STATION.evaluate(lambda seen, a=action: jnp.full(len(seen), a, jnp.int32), judged, KEY, 3)
        np.testing.assert_allclose(played, found.baselines[rule][0], rtol=1e-5)
    assert (found.optimum >= found.baselines["LRU"]).all()
    assert found.per_cent(found.optimum) == pytest.approx(100.0)


@pytest.mark.slow
def test_the_home_without_a_battery_is_the_floor():
    judged = worlds(HOME, solar_peak=(0.0, 6.0))
    found = yardstick(HOME, [judged], episode_keys(KEY, 2))
    played = HOME.evaluate(lambda seen: jnp.zeros((len(seen), 1)), judged, KEY, 2)
    np.testing.assert_allclose(found.per_cent(np.asarray(played)[None]), 0.0, atol=1e-3)
    assert set(found.rules()) == {"self-consumption"}


def test_every_fleet_has_a_row_and_worlds_that_recur_are_asked_once(monkeypatch):
    asked = []
    optimum = Battery.optimum
    monkeypatch.setattr(Battery, "optimum", lambda self, *args: asked.append(args) or optimum(self, *args))
    first, second = worlds(HOME, capacity=(4.0, 6.0)), worlds(HOME, capacity=(6.0, 9.0))
    found = yardstick(HOME, [first, second], episode_keys(KEY, 2))
    assert found.optimum.shape == (2, 2)
    assert len(asked) == 3 * 2
    assert found.optimum[0, 1] == found.optimum[1, 0]
    alone = yardstick(HOME, [second], episode_keys(KEY, 2))
    assert found.optimum[1].tolist() == alone.optimum[0].tolist()


def test_returns_of_seeds_are_set_against_their_own_fleet_or_the_only_one():
    floor, optimum = np.array([[0.0, 0.0], [0.0, 10.0]]), np.array([[10.0, 20.0], [40.0, 30.0]])
    own = Yardstick("nothing", optimum, {"nothing": floor})
    returns = np.array([[[5.0, 5.0], [10.0, 5.0]]])  # [N, S, M]
    assert own.per_cent(returns).tolist() == [[[50.0, 25.0], [25.0, -25.0]]]
    common = Yardstick("nothing", optimum[:1], {"nothing": floor[:1]})
    assert common.per_cent(returns).tolist() == [[[50.0, 25.0], [100.0, 25.0]]]


def test_where_there_is_nothing_to_gain_there_is_no_number():
    flat = Yardstick("nothing", np.array([[-3.0, -1.0]]), {"nothing": np.array([[-3.0 - 1e-8, -2.0]])})
    assert np.isnan(flat.per_cent(flat.optimum)).tolist() == [[True, False]]


def test_who_waits_long_is_told_once_and_who_does_not_is_not(monkeypatch):
    said, judged = [], worlds(HOME, capacity=(4.0, 6.0))
    yardstick(HOME, [judged], episode_keys(KEY, 2), said.append)
    assert not said
    monkeypatch.setattr(module, "PATIENCE", 0.0)
    yardstick(HOME, [judged], episode_keys(KEY, 2), said.append)
    (sentence,) = said
    assert sentence.startswith("Looking for the optimum of 4 evaluation episodes, once for all arms: about ")


@pytest.mark.parametrize("world", [CartPole(), Dataset(Digits())], ids=["CartPole", "Dataset"])
def test_other_worlds_say_that_they_know_none(world):
    assert not world.floor
    for ask in (world.optimum, world.baselines):
        with pytest.raises(ValueError, match=rf"{type(world).__name__} knows no optimum.*EdgeCache or Battery"):
            ask(None, KEY)
