"""Federated reinforcement learning for agents that differ."""

__version__ = "0.1.0"
