"""Worlds of other packages under ids of Gymnasium: thin doors, each imported when its world is first made.

A world stands here where a package's own id and arguments cannot say what a fleet needs: a number in which clients
differ, seeds that count, or spaces that a network reads. Nothing is simulated here.
"""

from __future__ import annotations

from collections.abc import Mapping

import gymnasium

# id -> (file of this folder and what makes the world there, steps until truncation)
WORLDS: Mapping[str, tuple[str, int]] = {
    "polyfed/PointMaze-v0": ("mazes:point_maze", 300),
    "polyfed/Crossing-v0": ("grids:Crossing", 100),
    "polyfed/Rooms-v0": ("rooms:Rooms", 40),
    "polyfed/RadioCell-v0": ("cells:RadioCell", 100),
    "polyfed/Junction-v0": ("junctions:Junction", 360),
}

# package -> the extra that brings it
EXTRAS: Mapping[str, str] = {
    "gymnasium_robotics": "maze",
    "minigrid": "maze",
    "mobile_env": "ran",
    "pyRDDLGym": "rddl",
    "rddlrepository": "rddl",
    "sumo": "traffic",
    "sumo_rl": "traffic",
}

# how ids of packages begin -> the module that makes them known, which nobody imports unasked
MODULES: Mapping[str, str] = {
    "AntMaze_": "gymnasium_robotics",
    "BabyAI-": "minigrid",
    "MiniGrid-": "minigrid",
    "PointMaze_": "gymnasium_robotics",
    "mobile-": "mobile_env",
    "sumo-rl-": "sumo_rl",
}


def register() -> None:
    """Make the worlds known to Gymnasium, once; no package is imported.

    >>> register()
    >>> gymnasium.spec("polyfed/Rooms-v0").max_episode_steps
    40
    """
    for id_, (place, steps) in WORLDS.items():
        if id_ not in gymnasium.registry:
            gymnasium.register(id_, entry_point=f"{__name__}.{place}", max_episode_steps=steps)
