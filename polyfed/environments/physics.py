"""Named physical quantities of Gymnasium's environments: where each is, its unit, its safe range, what follows from it.

The names of an environment that is also a family of ours are the family's. Other attributes stay within reach by their
path, see `attributes`. The ranges are those in which the simulator gives finite numbers and the task stays one.

References: towers2024gymnasium, todorov2012mujoco.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class Attribute:
    """A quantity of an environment, and how a value of it is put in place.

    >>> PHYSICS["LunarLander-v3"]["gravity"].default
    10.0
    """

    default: float  # as the environment is registered
    unit: str  # "1" for a pure number
    low: float
    high: float
    where: tuple[str, ...]  # paths from `unwrapped`; `kwargs.NAME` is an argument of the constructor
    follows: str  # what changes with it, in words
    factor: float = 1.0  # what is written is the value times this
    relative: bool = False  # the value multiplies what is there
    whole: bool = False  # only whole numbers make sense


_WIND = "the wind pushes the lander sideways, by a force that is drawn for every episode"
_LANDER: Mapping[str, Attribute] = {
    "gravity": Attribute(
        10.0, "m/s^2", 0.01, 11.99, ("kwargs.gravity",), "fall, and the thrust that hovering needs", factor=-1.0
    ),
    "wind": Attribute(0.0, "1", 0.0, 20.0, ("kwargs.wind_power", "kwargs.enable_wind"), _WIND),
    "turbulence": Attribute(
        1.5, "1", 0.0, 2.0, ("kwargs.turbulence_power",), "how hard wind turns the lander; nothing without wind"
    ),
}

_BODY: Mapping[str, Attribute] = {
    "gravity": Attribute(9.81, "m/s^2", 0.0, 30.0, ("model.opt.gravity[2]",), "weight, and so every contact", -1.0),
    "friction": Attribute(
        1.0, "1", 0.05, 5.0, ("model.geom_friction[*,0]",), "grip of all surfaces, times what it was", relative=True
    ),
    "body_mass": Attribute(
        1.0,
        "1",
        0.1,
        5.0,
        ("model.body_mass[*]", "model.body_inertia[*,*]"),
        "masses and inertias of all limbs, times what they were; shapes stay",
        relative=True,
    ),
    "gear": Attribute(
        1.0, "1", 0.1, 5.0, ("model.actuator_gear[*,0]",), "torque of all motors, times what it was", relative=True
    ),
    "damping": Attribute(
        1.0, "1", 0.0, 4.0, ("model.dof_damping[*]",), "how fast joints come to rest, times what it was", relative=True
    ),
    "time_step": Attribute(
        1.0, "1", 0.25, 1.25, ("model.opt.timestep",), "duration of a step, times what it was", relative=True
    ),
}

_FLUID: Mapping[str, Attribute] = {
    "viscosity": Attribute(
        1.0, "1", 0.0, 10.0, ("model.opt.viscosity",), "drag of what it swims in, times what it was", relative=True
    ),
    "wind": Attribute(0.0, "m/s", -5.0, 5.0, ("model.opt.wind[0]",), "current along the way it is rewarded for"),
}

# by body, the quantities that change nothing there: those that touch no ground, move in a plane, or have no damping
_IDLE: Mapping[str, tuple[str, ...]] = {
    "Ant": (),
    "HalfCheetah": (),
    "Hopper": (),
    "Humanoid": (),
    "HumanoidStandup": (),
    "InvertedDoublePendulum": ("friction",),
    "InvertedPendulum": ("friction",),
    "Pusher": ("gravity", "friction"),
    "Reacher": ("gravity", "friction"),
    "Swimmer": ("gravity", "friction", "damping"),
    "Walker2d": (),
}
_BODIES = {f"{body}-v5": {n: a for n, a in _BODY.items() if n not in idle} for body, idle in _IDLE.items()}

_MAZE: Mapping[str, Attribute] = {
    "maze": Attribute(
        1.0, "1", 0.0, 3.0, ("kwargs.maze",), "0 open, 1 U, 2 medium, 3 large: where walls stand", whole=True
    ),
    "gear": Attribute(
        1.0,
        "1",
        0.1,
        5.0,
        ("point_env.model.actuator_gear[*,0]",),
        "force of both motors, times what it was",
        relative=True,
    ),
    "damping": Attribute(
        1.0,
        "1",
        0.1,
        5.0,
        ("point_env.model.dof_damping[*]",),
        "how fast the ball comes to rest, times what it was",
        relative=True,
    ),
}

_CROSSING: Mapping[str, Attribute] = {
    "walls": Attribute(
        1.0, "1", 1.0, 3.0, ("kwargs.walls",), "how many walls stand between start and goal", whole=True
    ),
    "size": Attribute(
        9.0, "1", 7.0, 15.0, ("kwargs.size",), "cells along a side, an odd number: how far the goal is", whole=True
    ),
}

_ROOMS: Mapping[str, Attribute] = {
    "outside": Attribute(6.0, "°C", -20.0, 20.0, ("kwargs.outside",), "mean outside, which walls lose heat to"),
    "insulation": Attribute(4.0, "°C min/kJ", 1.0, 20.0, ("kwargs.insulation",), "resistance of the outer walls"),
    "capacity": Attribute(80.0, "kJ/°C", 20.0, 400.0, ("kwargs.capacity",), "of each room: how slowly it warms"),
}

_CELL: Mapping[str, Attribute] = {
    "bandwidth": Attribute(9e6, "Hz", 1e6, 1e8, ("kwargs.bandwidth",), "of a station, which its users share"),
    "power": Attribute(30.0, "dBm", 20.0, 46.0, ("kwargs.power",), "of a station: how far it reaches, how fast"),
    "speed": Attribute(1.5, "m/s", 0.0, 30.0, ("kwargs.speed",), "of users: how fast reception changes"),
}

_JUNCTION: Mapping[str, Attribute] = {
    "junction": Attribute(
        0.0,
        "1",
        0.0,
        3.0,
        ("kwargs.junction",),
        "0 two streets, 1 lanes for turning, 2 Cologne, 3 Ingolstadt: greens, lanes and traffic",
        whole=True,
    ),
}

PACKS: Mapping[str, Mapping[str, Attribute]] = {
    "polyfed/PointMaze-v0": _MAZE,
    "polyfed/Crossing-v0": _CROSSING,
    "polyfed/Rooms-v0": _ROOMS,
    "polyfed/RadioCell-v0": _CELL,
    "polyfed/Junction-v0": _JUNCTION,
}
"""Of the worlds of `packs`, the quantities by name."""

PHYSICS: Mapping[str, Mapping[str, Attribute]] = {
    "LunarLander-v3": _LANDER,
    "LunarLanderContinuous-v3": _LANDER,
    **_BODIES,
    "Swimmer-v5": {**_BODIES["Swimmer-v5"], **_FLUID},
    **PACKS,
}
"""By id, the quantities of an environment by name."""


def described(id_: str) -> list[str]:
    """A line for every named quantity of an environment; empty where none is known.

    >>> described("LunarLander-v3")[0]
    'gravity [m/s^2], 0.01 to 11.99, nominally 10: fall, and the thrust that hovering needs'
    """
    return [
        f"{name}{_unit(a.unit)}, {a.low:g} to {a.high:g}, nominally {a.default:g}: {a.follows}"
        for name, a in PHYSICS.get(id_, {}).items()
    ]


def _unit(unit: str) -> str:
    return "" if unit == "1" else f" [{unit}]"


def free(default: float, path: str) -> Attribute:
    """The quantity behind a path that nobody has described.

    >>> free(0.5, "length").low
    -inf
    """
    return Attribute(default, "1", -math.inf, math.inf, (path,), "not described")
