"""Local learners."""

from polyfed.agents.agent import Agent
from polyfed.agents.classifier import Classifier
from polyfed.agents.dqn import DQN
from polyfed.agents.exploration import ExponentialDecay, LinearDecay
from polyfed.agents.local_terms import Proximal
from polyfed.agents.survival import Survival
from polyfed.agents.target import HardUpdate, SoftUpdate

AGENTS = (DQN(), Classifier())
"""One of each; the contract checks run over all."""

__all__ = [
    "AGENTS",
    "DQN",
    "Agent",
    "Classifier",
    "ExponentialDecay",
    "HardUpdate",
    "LinearDecay",
    "Proximal",
    "SoftUpdate",
    "Survival",
]
