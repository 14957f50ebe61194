"""Local learners."""

from polyfed.agents.a2c import A2C
from polyfed.agents.agent import Agent
from polyfed.agents.classifier import Classifier
from polyfed.agents.ddpg import DDPG
from polyfed.agents.distillation import Distillation, Distilled
from polyfed.agents.dqn import DQN
from polyfed.agents.embedding import Embedding
from polyfed.agents.exploration import ExponentialDecay, LinearDecay
from polyfed.agents.federated_planning import Planned, plan
from polyfed.agents.foreign import Foreign, ForeignAgent, Made, guarded
from polyfed.agents.local_terms import Proximal
from polyfed.agents.mixed import Group, Mixed
from polyfed.agents.noise import GaussianNoise, OrnsteinUhlenbeck, TargetSmoothing
from polyfed.agents.observation_statistics import ObservationStatistics
from polyfed.agents.policy_averaging import PAvg
from polyfed.agents.ppo import PPO
from polyfed.agents.q_averaging import QAvg
from polyfed.agents.q_learning import QLearning, known_neighbours
from polyfed.agents.reinforce import REINFORCE
from polyfed.agents.sac import SAC
from polyfed.agents.step_sizes import Constant, Plateau, RobbinsMonro
from polyfed.agents.survival import Survival
from polyfed.agents.target import HardUpdate, SoftUpdate
from polyfed.agents.virtual_agent import VirtualAgentStates
from polyfed.agents.worst_case import WorstCase

AGENTS = (DQN(), Classifier(), DDPG(), QLearning(), REINFORCE(), A2C(), PPO(), SAC())
"""One of each; the contract checks run over all."""

__all__ = [
    "A2C",
    "AGENTS",
    "DDPG",
    "DQN",
    "PPO",
    "REINFORCE",
    "SAC",
    "Agent",
    "Classifier",
    "Constant",
    "Distillation",
    "Distilled",
    "Embedding",
    "ExponentialDecay",
    "Foreign",
    "ForeignAgent",
    "GaussianNoise",
    "Group",
    "HardUpdate",
    "LinearDecay",
    "Made",
    "Mixed",
    "ObservationStatistics",
    "OrnsteinUhlenbeck",
    "PAvg",
    "Planned",
    "Plateau",
    "Proximal",
    "QAvg",
    "QLearning",
    "RobbinsMonro",
    "SoftUpdate",
    "Survival",
    "TargetSmoothing",
    "VirtualAgentStates",
    "WorstCase",
    "guarded",
    "known_neighbours",
    "plan",
]
