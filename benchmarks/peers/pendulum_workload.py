"""Work W2: DDPG in Pendulum, five clients of different mass, what every peer of that work performs.

Timing and the command line are those of W1 in `workload`; this file holds the constants and the worlds.
"""

from __future__ import annotations

from typing import Any

HIDDEN = (64, 64)  # units of actor and critic, ReLU
LEARNING_RATE = 1e-3  # Adam, both
TARGET_RATE = 0.005  # Polyak, every gradient step
NOISE = 0.1  # Gaussian, in halves of the action range
MASS_RANGE = (0.5, 1.5)  # kg, first and last client


def masses(clients: int) -> list[float]:
    """The rod of every client, evenly spaced (kg)."""
    low, high = MASS_RANGE
    return [low + (high - low) * i / max(clients - 1, 1) for i in range(clients)]


def make_pendulum(mass: float) -> Any:
    """Gymnasium's Pendulum-v1 with another mass."""
    import gymnasium

    world = gymnasium.make("Pendulum-v1")
    world.unwrapped.m = mass
    return world
