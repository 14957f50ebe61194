"""Worlds: families of Markov decision processes whose physics is data, and how the clients' worlds differ.

Gymnasium is not imported here; `polyfed.environments.gymnasium` is the door to it.
"""

from polyfed.environments.acrobot import Acrobot, AcrobotParams, AcrobotState
from polyfed.environments.battery import Battery, BatteryParams, BatteryState
from polyfed.environments.body import Body, BodyState
from polyfed.environments.cartpole import CartPole, CartPoleParams, CartPoleState
from polyfed.environments.catch import Catch, CatchState
from polyfed.environments.dataset import Dataset, Shard
from polyfed.environments.digits import Digits
from polyfed.environments.doors import Doors, DoorsState
from polyfed.environments.edge_cache import EdgeCache, EdgeCacheParams, EdgeCacheState
from polyfed.environments.environment import Environment, Params, Quantity, Step, quantity
from polyfed.environments.half_cheetah import HalfCheetah, HalfCheetahParams
from polyfed.environments.hopper import Hopper, HopperParams
from polyfed.environments.idx import IdxFolder, Samples
from polyfed.environments.inverted_pendulum import InvertedPendulum, InvertedPendulumParams
from polyfed.environments.mountain_car import MountainCar, MountainCarParams, MountainCarState
from polyfed.environments.mountain_car_continuous import MountainCarContinuous, MountainCarContinuousParams
from polyfed.environments.pendulum import Pendulum, PendulumParams, PendulumState
from polyfed.environments.perturbed import Perturbed
from polyfed.environments.probes import CONTINUOUS_PROBES, PROBES, ContinuousProbe, Probe, ProbeParams, ProbeState
from polyfed.environments.public_states import NeutralStates, PublicStates, UniformStates
from polyfed.environments.random_mdps import RandomMDPs, random_mdps, random_mdps_around, random_mdps_common, split_envs
from polyfed.environments.recall import Recall, RecallState
from polyfed.environments.remembered import Noted, Remembered
from polyfed.environments.schedule import Change, Drift, Drifts, Schedule
from polyfed.environments.spaces import Box, Discrete, Space
from polyfed.environments.splits import Dirichlet, EqualSplit, LabelShards, Split, TestSet
from polyfed.environments.state_diversity import diversity
from polyfed.environments.state_file import FileStates
from polyfed.environments.tabular import TabularMDP, TabularMDPs, TabularParams, TabularState
from polyfed.environments.variation import Explicit, Grid, Uniform, Variation
from polyfed.environments.walker2d import Walker2d, Walker2dParams
from polyfed.environments.windy_cliffs import (
    WindyCliff,
    WindyCliffParams,
    WindyCliffs,
    windy_cliff_sets,
    windy_cliff_tests,
    windy_cliffs,
    windy_cliffs_around,
)
from polyfed.environments.world import World, quantities

SPLITS: tuple[Split, ...] = (EqualSplit(), LabelShards(), Dirichlet())
"""One of each way to split a data set among clients."""

FAMILIES: tuple[Environment, ...] = (CartPole(), Acrobot(), MountainCar(), MountainCarContinuous(), Pendulum())
"""One instance of every family with its published time limit; every contract check runs on each."""

BODIES: tuple[Environment, ...] = (HalfCheetah(), Hopper(), Walker2d(), InvertedPendulum())
"""One instance of every family that MuJoCo steps (`pip install "polyfed[mujoco]"`); as for `FAMILIES`."""

__all__ = [
    "BODIES",
    "CONTINUOUS_PROBES",
    "FAMILIES",
    "PROBES",
    "SPLITS",
    "Acrobot",
    "AcrobotParams",
    "AcrobotState",
    "Battery",
    "BatteryParams",
    "BatteryState",
    "Body",
    "BodyState",
    "Box",
    "CartPole",
    "CartPoleParams",
    "CartPoleState",
    "Catch",
    "CatchState",
    "Change",
    "ContinuousProbe",
    "Dataset",
    "Digits",
    "Dirichlet",
    "Discrete",
    "Doors",
    "DoorsState",
    "Drift",
    "Drifts",
    "EdgeCache",
    "EdgeCacheParams",
    "EdgeCacheState",
    "Environment",
    "EqualSplit",
    "Explicit",
    "FileStates",
    "Grid",
    "HalfCheetah",
    "HalfCheetahParams",
    "Hopper",
    "HopperParams",
    "IdxFolder",
    "InvertedPendulum",
    "InvertedPendulumParams",
    "LabelShards",
    "MountainCar",
    "MountainCarContinuous",
    "MountainCarContinuousParams",
    "MountainCarParams",
    "MountainCarState",
    "NeutralStates",
    "Noted",
    "Params",
    "Pendulum",
    "PendulumParams",
    "PendulumState",
    "Perturbed",
    "Probe",
    "ProbeParams",
    "ProbeState",
    "PublicStates",
    "Quantity",
    "RandomMDPs",
    "Recall",
    "RecallState",
    "Remembered",
    "Samples",
    "Schedule",
    "Shard",
    "Space",
    "Split",
    "Step",
    "TabularMDP",
    "TabularMDPs",
    "TabularParams",
    "TabularState",
    "TestSet",
    "Uniform",
    "UniformStates",
    "Variation",
    "Walker2d",
    "Walker2dParams",
    "WindyCliff",
    "WindyCliffParams",
    "WindyCliffs",
    "World",
    "diversity",
    "quantities",
    "quantity",
    "random_mdps",
    "random_mdps_around",
    "random_mdps_common",
    "split_envs",
    "windy_cliff_sets",
    "windy_cliff_tests",
    "windy_cliffs",
    "windy_cliffs_around",
]
