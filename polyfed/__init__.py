"""Federated reinforcement learning for agents that differ."""

from polyfed.devices import use_every_core

use_every_core()

__version__ = "0.1.0"
