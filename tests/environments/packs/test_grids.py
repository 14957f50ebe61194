import numpy as np
import pytest

from polyfed.environments.packs.grids import Crossing

pytest.importorskip("minigrid")


def test_what_is_seen_is_the_view_and_where_the_robot_looks():
    grid = Crossing(walls=2, size=9)
    seen, _ = grid.reset(seed=0)
    assert grid.observation_space.contains(seen)
    assert seen[-4:].tolist() == [1.0, 0.0, 0.0, 0.0]
    turned, *_ = grid.step(1)
    assert turned[-4:].tolist() == [0.0, 1.0, 0.0, 0.0]
    theirs = grid.unwrapped.gen_obs()["image"]
    np.testing.assert_allclose(turned[:-4].reshape(theirs.shape) * 10, theirs, rtol=1e-6)


def test_the_goal_pays_and_ends_an_episode():
    grid = Crossing(walls=1, size=7)
    grid.reset(seed=0)
    grid.unwrapped.agent_pos, grid.unwrapped.agent_dir = (4, 5), 0
    _, reward, terminated, *_ = grid.step(2)
    assert (reward, terminated) == (pytest.approx(1 - 0.9 / 100), True)
