"""Local learners."""

from polyfed.agents.agent import Agent
from polyfed.agents.classifier import Classifier
from polyfed.agents.ddpg import DDPG
from polyfed.agents.dqn import DQN
from polyfed.agents.embedding import Embedding
from polyfed.agents.exploration import ExponentialDecay, LinearDecay
from polyfed.agents.federated_planning import Planned, plan
from polyfed.agents.local_terms import Proximal
from polyfed.agents.noise import GaussianNoise, OrnsteinUhlenbeck, TargetSmoothing
from polyfed.agents.policy_averaging import PAvg
from polyfed.agents.q_averaging import QAvg
from polyfed.agents.q_learning import QLearning, known_neighbours
from polyfed.agents.step_sizes import Constant, Plateau, RobbinsMonro
from polyfed.agents.survival import Survival
from polyfed.agents.target import HardUpdate, SoftUpdate
from polyfed.agents.worst_case import WorstCase

AGENTS = (DQN(), Classifier(), DDPG(), QLearning())
"""One of each; the contract checks run over all."""

__all__ = [
    "AGENTS",
    "DDPG",
    "DQN",
    "Agent",
    "Classifier",
    "Constant",
    "Embedding",
    "ExponentialDecay",
    "GaussianNoise",
    "HardUpdate",
    "LinearDecay",
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
    "WorstCase",
    "known_neighbours",
    "plan",
]
