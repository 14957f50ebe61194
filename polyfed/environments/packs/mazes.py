"""A ball that is pushed through a maze towards a goal, in a maze that a number chooses (Gymnasium-Robotics' PointMaze).

This file is the door to `gymnasium_robotics`.

References: fu2020d4rl.
"""

from __future__ import annotations

from pathlib import Path

import gymnasium

MAZES = ("OPEN", "U_MAZE", "MEDIUM_MAZE", "LARGE_MAZE")  # as the package calls them


def point_maze(maze: float = 1, render_mode: str | None = None) -> gymnasium.Env:
    """The ball in one of `MAZES`; goal and ball begin in free cells by chance, and the goal stays where it is.

    The reward of a step is `exp(-d)`, with `d` the distance to the goal in m, and the episode does not end at the goal:
    the return is at most the number of steps.

    Args:
      maze: 0 open, 1 U, 2 medium, 3 large.
      render_mode: As in `gymnasium.make`.

    >>> sorted(point_maze(maze=0).observation_space)  # doctest: +SKIP
    ['achieved_goal', 'desired_goal', 'observation']
    """
    from gymnasium_robotics.envs.maze import maps
    from gymnasium_robotics.envs.maze.point_maze import PointMazeEnv

    walls = getattr(maps, MAZES[int(maze)])
    env = PointMazeEnv(walls, render_mode, reward_type="dense", continuing_task=True, reset_target=False)
    Path(env.tmp_xml_file_path).unlink(missing_ok=True)  # it is read by now, and nobody else removes it
    return env
