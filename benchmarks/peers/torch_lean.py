"""Peer: the same DQN in PyTorch, hand-lean, client after client.

No vector environment and no wrapper but the clock; one NumPy row per transition, gathered once per batch; a fused
Adam. What is left is what PyTorch costs per call at this size.
"""

from __future__ import annotations

import copy
import random

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from workload import (
    DISCOUNT,
    EPSILON,
    LEARNING_RATE,
    LEARNING_STARTS,
    MERGE_EVERY,
    REPLAY_CAPACITY,
    SIZES,
    TARGET_EVERY,
    Work,
    half_lengths,
    make_cartpole,
    parse_arguments,
    print_line,
    time_peer,
)

# Columns of a row of the replay: x_t, x_{t+1}, action, reward, 1 - terminated.
OBSERVATION, NEXT_OBSERVATION = slice(0, 4), slice(4, 8)
ACTION, REWARD, CONTINUES, WIDTH = 8, 9, 10, 11


def make_network() -> nn.Sequential:
    """The multi-layer perceptron of W1."""
    inputs, first, second, outputs = SIZES
    return nn.Sequential(
        nn.Linear(inputs, first), nn.ReLU(), nn.Linear(first, second), nn.ReLU(), nn.Linear(second, outputs)
    )


class Client:
    """One site: its environment, networks, optimizer and ring of transitions."""

    def __init__(self, half_length: float, batch: int, seed: int):
        self.batch = batch
        self.random = random.Random(seed)
        self.indices = np.random.default_rng(seed)
        self.env = make_cartpole(half_length, disable_env_checker=True)
        self.observation, _ = self.env.reset(seed=seed)
        self.online = make_network()
        self.target = copy.deepcopy(self.online).requires_grad_(False)
        self.optimizer = torch.optim.Adam(self.online.parameters(), lr=LEARNING_RATE, fused=True)
        self.rows = np.zeros((REPLAY_CAPACITY, WIDTH), np.float32)
        self.step = 0
        self.gradient_steps = 0

    def choose_action(self) -> int:
        """Epsilon-greedy; uniform until learning starts."""
        if self.step < LEARNING_STARTS or self.random.random() < EPSILON:
            return self.random.getrandbits(1)
        with torch.inference_mode():
            left, right = self.online(torch.from_numpy(self.observation)).tolist()
        return int(right > left)

    def interact(self) -> None:
        """One environment step, written over the oldest row."""
        action = self.choose_action()
        next_observation, reward, terminated, truncated, _ = self.env.step(action)
        row = self.rows[self.step % REPLAY_CAPACITY]
        row[OBSERVATION], row[NEXT_OBSERVATION] = self.observation, next_observation
        row[ACTION], row[REWARD], row[CONTINUES] = action, reward, not terminated
        self.observation = self.env.reset()[0] if terminated or truncated else next_observation
        self.step += 1

    def update(self) -> None:
        """One gradient step on the temporal-difference error of a uniform batch."""
        chosen = self.indices.integers(0, min(self.step, REPLAY_CAPACITY), self.batch)
        rows = torch.from_numpy(self.rows[chosen])
        with torch.no_grad():
            next_values = self.target(rows[:, NEXT_OBSERVATION]).amax(dim=1)
            targets = torch.addcmul(rows[:, REWARD], rows[:, CONTINUES], next_values, value=DISCOUNT)
            actions = rows[:, ACTION].long().unsqueeze(1)
        values = self.online(rows[:, OBSERVATION]).gather(1, actions).squeeze(1)
        self.optimizer.zero_grad(set_to_none=True)
        F.mse_loss(values, targets).backward()
        self.optimizer.step()
        self.gradient_steps += 1

    def train(self, steps: int) -> None:
        """`steps` environment steps, one gradient step each once learning has started."""
        for _ in range(steps):
            self.interact()
            if self.step > LEARNING_STARTS:
                self.update()
            if self.step % TARGET_EVERY == 0:
                copy_parameters(self.online, self.target)


@torch.no_grad()
def copy_parameters(source: nn.Module, destination: nn.Module) -> None:
    """Overwrites the destination's parameters in place."""
    for old, new in zip(destination.parameters(), source.parameters(), strict=True):
        old.copy_(new)


@torch.no_grad()
def average_parameters(networks: list[nn.Module]) -> None:
    """Overwrites every network's parameters with their mean over the networks."""
    for same in zip(*(network.parameters() for network in networks), strict=True):
        mean = torch.stack(same).mean(dim=0)
        for parameter in same:
            parameter.copy_(mean)


class Federation:
    """Clients one after another, their online networks averaged after each round."""

    def __init__(self, work: Work):
        torch.manual_seed(work.seed)
        lengths = half_lengths(work.clients)
        self.clients = [Client(length, work.batch, work.seed + i) for i, length in enumerate(lengths)]
        for client in self.clients:
            copy_parameters(self.clients[0].online, client.online)
            copy_parameters(client.online, client.target)

    @property
    def gradient_steps(self) -> int:
        """Over all clients."""
        return sum(client.gradient_steps for client in self.clients)

    def round(self) -> None:
        """Every client trains, then all start from the mean of their online parameters."""
        for client in self.clients:
            client.train(MERGE_EVERY)
        average_parameters([client.online for client in self.clients])


if __name__ == "__main__":
    packages = ("torch", "gymnasium", "numpy")
    work = parse_arguments(__doc__)
    print_line(time_peer("torch_lean", Federation, work, packages=packages, set_threads=torch.set_num_threads))
