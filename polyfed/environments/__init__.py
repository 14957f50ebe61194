"""Worlds: families of Markov decision processes whose physics is data, and how the clients' worlds differ.

Gymnasium is not imported here; `polyfed.environments.gymnasium` is the door to it.
"""

from polyfed.environments.acrobot import Acrobot, AcrobotParams, AcrobotState
from polyfed.environments.cartpole import CartPole, CartPoleParams, CartPoleState
from polyfed.environments.dataset import Dataset, Shard
from polyfed.environments.digits import Digits
from polyfed.environments.environment import Environment, Params, Quantity, Step, quantities, quantity
from polyfed.environments.idx import IdxFolder, Samples
from polyfed.environments.mountain_car import MountainCar, MountainCarParams, MountainCarState
from polyfed.environments.mountain_car_continuous import MountainCarContinuous, MountainCarContinuousParams
from polyfed.environments.pendulum import Pendulum, PendulumParams, PendulumState
from polyfed.environments.probes import CONTINUOUS_PROBES, PROBES, ContinuousProbe, Probe, ProbeParams, ProbeState
from polyfed.environments.spaces import Box, Discrete, Space
from polyfed.environments.splits import Dirichlet, EqualSplit, LabelShards, Split, TestSet
from polyfed.environments.variation import Explicit, Grid, Uniform, Variation
from polyfed.environments.world import World

SPLITS: tuple[Split, ...] = (EqualSplit(), LabelShards(), Dirichlet())
"""One of each way to split a data set among clients."""

FAMILIES: tuple[Environment, ...] = (CartPole(), Acrobot(), MountainCar(), MountainCarContinuous(), Pendulum())
"""One instance of every family with its published time limit; every contract check runs on each."""

__all__ = [
    "CONTINUOUS_PROBES",
    "FAMILIES",
    "PROBES",
    "SPLITS",
    "Acrobot",
    "AcrobotParams",
    "AcrobotState",
    "Box",
    "CartPole",
    "CartPoleParams",
    "CartPoleState",
    "ContinuousProbe",
    "Dataset",
    "Digits",
    "Dirichlet",
    "Discrete",
    "Environment",
    "EqualSplit",
    "Explicit",
    "Grid",
    "IdxFolder",
    "LabelShards",
    "MountainCar",
    "MountainCarContinuous",
    "MountainCarContinuousParams",
    "MountainCarParams",
    "MountainCarState",
    "Params",
    "Pendulum",
    "PendulumParams",
    "PendulumState",
    "Probe",
    "ProbeParams",
    "ProbeState",
    "Quantity",
    "Samples",
    "Shard",
    "Space",
    "Split",
    "Step",
    "TestSet",
    "Uniform",
    "Variation",
    "World",
    "quantities",
    "quantity",
]
