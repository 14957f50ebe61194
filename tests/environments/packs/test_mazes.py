from pathlib import Path

import numpy as np
import pytest

from polyfed.environments.packs.mazes import point_maze

pytest.importorskip("gymnasium_robotics")


def test_a_number_chooses_where_walls_stand_and_spaces_stay():
    mazes = [point_maze(maze=i) for i in range(4)]
    assert len({str(env.maze.maze_map) for env in mazes}) == 4
    assert len({(str(env.observation_space), str(env.action_space)) for env in mazes}) == 1


def test_nothing_is_left_behind():
    env = point_maze()
    assert not Path(env.tmp_xml_file_path).exists()
    env.reset(seed=0)  # and it is not needed any more


def test_the_goal_stays_and_is_worth_the_more_the_nearer():
    env = point_maze(maze=0)
    seen, _ = env.reset(seed=2)
    goal = seen["desired_goal"]
    for _ in range(150):
        seen, reward, terminated, *_ = env.step(np.clip(10 * (goal - seen["achieved_goal"]), -1, 1))
        assert reward == pytest.approx(np.exp(-np.linalg.norm(seen["achieved_goal"] - goal)))
    assert reward > 0.6
    assert not terminated
    np.testing.assert_array_equal(seen["desired_goal"], goal)
