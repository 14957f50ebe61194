"""Every part that an experiment can be made of, by its place in it: the choices of the command line and of records."""

from __future__ import annotations

from polyfed.agents import A2C, DDPG, DQN, PPO, REINFORCE, SAC, Classifier, Mixed, QLearning
from polyfed.aggregation import (
    AlignedMean,
    CentredClipping,
    Consensus,
    CoordinateMedian,
    FedPGFilter,
    GeometricMedian,
    Krum,
    LocalOnly,
    NestedMean,
    NormBounding,
    ServerAdam,
    ServerMomentum,
    ServerSGD,
    ServerYogi,
    Switch,
    TrimmedMean,
    WassersteinBarycenter,
    WeightedMean,
)
from polyfed.aggregation.shared_walk import SharedWalk
from polyfed.environments import (
    Acrobot,
    Battery,
    CartPole,
    Dataset,
    Dirichlet,
    Drift,
    Drifts,
    EdgeCache,
    EqualSplit,
    Explicit,
    Grid,
    HalfCheetah,
    Hopper,
    InvertedPendulum,
    LabelShards,
    MountainCar,
    MountainCarContinuous,
    Pendulum,
    Perturbed,
    RandomMDPs,
    TabularMDP,
    TestSet,
    Uniform,
    Walker2d,
    WindyCliff,
    WindyCliffs,
)
from polyfed.environments.gymnasium_world import Gymnasium
from polyfed.exchange import (
    CentralNoise,
    ClipNorm,
    DelayMessages,
    HalfPrecision,
    Hostile,
    Int8,
    LocalNoise,
    LoseMessages,
    Nothing,
    Parameters,
    PartialParameters,
    PartialWork,
    PoisonedPredictions,
    Predictions,
    Quorum,
    SecureSum,
    TopK,
    VanishAndReturn,
)
from polyfed.exchange.server_walk import ServerStates

Classic = CartPole | Acrobot | MountainCar | MountainCarContinuous | Pendulum
Bodies = HalfCheetah | Hopper | Walker2d | InvertedPendulum
Tabular = TabularMDP | WindyCliff
AnyEnvironment = Classic | Bodies | Tabular | EdgeCache | Battery | Gymnasium | Dataset
AnyVariation = Explicit | Grid | Uniform | RandomMDPs | WindyCliffs | EqualSplit | LabelShards | Dirichlet
AnyHeldOut = Explicit | Grid | Uniform | Perturbed | TestSet
AnySchedule = Drift | Drifts
AnyAgent = DQN | DDPG | QLearning | Classifier | REINFORCE | A2C | PPO | SAC | Mixed
AnyPayload = Parameters | PartialParameters | Predictions | Nothing | ServerStates
Robust = CoordinateMedian | TrimmedMean | GeometricMedian | Krum | CentredClipping | NormBounding | FedPGFilter
Fusion = WeightedMean | WassersteinBarycenter | LocalOnly | AlignedMean | NestedMean | Switch
AnyRule = Fusion | Robust | Consensus | SharedWalk
AnyServerOptimizer = ServerSGD | ServerMomentum | ServerAdam | ServerYogi
Changing = ClipNorm | HalfPrecision | Int8 | TopK | SecureSum | CentralNoise | LocalNoise
Fault = LoseMessages | DelayMessages | VanishAndReturn | PartialWork | Quorum | Hostile | PoisonedPredictions
AnyTransform = Changing | Fault
