import numpy as np
import pytest

from polyfed.environments.packs.cells import RadioCell, Spot

mobile_env = pytest.importorskip("mobile_env")


def test_it_is_the_package_with_cheaper_points():
    from mobile_env.core.base import MComCore
    from mobile_env.core.entities import BaseStation, UserEquipment

    from polyfed.environments.packs.cells import STATIONS

    cell = RadioCell(power=40.0, speed=10.0)
    cell.reset(seed=5)
    config = MComCore.default_config()
    config["bs"]["tx"], config["ue"]["velocity"] = 40.0, 10.0
    stations = [BaseStation(i, at, **config["bs"]) for i, at in enumerate(STATIONS)]
    users = [UserEquipment(i, **config["ue"]) for i in range(3)]
    package = MComCore(stations, users, config)
    package.arrival.seed, package.movement.seed = 5, 6
    seen, _ = package.reset()
    np.testing.assert_allclose(seen, cell.reset(seed=5)[0], rtol=1e-12)
    cell.action_space.seed(0)
    for _ in range(60):
        action = cell.action_space.sample()
        ours, theirs = cell.step(action), package.step(action)
        np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-12)
        assert ours[1] == pytest.approx(theirs[1], rel=1e-12)


def test_a_seed_counts_and_an_episode_without_one_is_another():
    cell = RadioCell()
    first, again, next_ = cell.reset(seed=7)[0], cell.reset(seed=7)[0], cell.reset()[0]
    np.testing.assert_array_equal(first, again)
    assert np.any(next_ != again)


def test_the_package_itself_ignores_seeds():
    """Else the door is no longer needed."""
    import gymnasium
    import mobile_env.scenarios  # noqa: F401

    one, two = (gymnasium.make("mobile-small-central-v0").reset(seed=seed)[0] for seed in (7, 8))
    np.testing.assert_array_equal(one, two)


def test_places_are_measured_in_a_straight_line():
    assert Spot(1, 1).distance(Spot(4, 5)) == 5.0
