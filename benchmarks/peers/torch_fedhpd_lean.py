"""Peer: the same FedHPD in PyTorch, hand-lean, agent after agent.

No environment wrapper but the clock; acting without a graph and without a distribution object; one forward pass over
the whole episode for the loss; a fused Adam. Distillation is that of `torch_fedhpd`.
"""

from __future__ import annotations

import math
import random

import gymnasium as gym
import numpy as np
import torch
import torch.nn.functional as F
from fedhpd_workload import DECAY, DECAY_EVERY, DISCOUNT
from torch_fedhpd import Agent as UsualAgent
from torch_fedhpd import Policy, main


class Agent:
    """One agent: its environment, policy, optimizer and schedule."""

    imitate = UsualAgent.imitate

    def __init__(self, hidden: tuple[int, ...], learning_rate: float, activation: str, seed: int):
        self.env = gym.make("CartPole-v1", disable_env_checker=True)
        self.env.reset(seed=seed)
        self.random = random.Random(seed)
        self.policy = Policy(hidden, activation)
        self.network = self.policy.network
        self.optimizer = torch.optim.Adam(self.policy.parameters(), lr=learning_rate, fused=True)
        self.schedule = torch.optim.lr_scheduler.StepLR(self.optimizer, step_size=DECAY_EVERY, gamma=DECAY)

    def episode(self) -> int:
        """One episode and the update that follows it; the episode's length."""
        states, actions, over = [], [], False
        state, _ = self.env.reset()
        with torch.inference_mode():
            while not over:
                left, right = self.network(torch.from_numpy(state)).tolist()
                odds = math.exp(left - right)  # of left
                action = int(self.random.random() * (1 + odds) < 1)
                states.append(state)
                actions.append(action)
                state, _, terminated, truncated, _ = self.env.step(action)
                over = terminated or truncated
        self.learn(torch.from_numpy(np.stack(states)), torch.tensor(actions))
        return len(actions)

    def learn(self, states: torch.Tensor, actions: torch.Tensor) -> None:
        """One step of REINFORCE with normalised returns, a sum over the episode; every reward is 1."""
        left = torch.arange(len(actions), 0, -1)
        weights = (1 - DISCOUNT**left) / (1 - DISCOUNT)
        weights = (weights - weights.mean()) / (weights.std() + 1e-5)
        loss = (F.cross_entropy(self.network(states), actions, reduction="none") * weights).sum()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.schedule.step()


if __name__ == "__main__":
    main("torch_fedhpd_lean", __doc__ or "", Agent)
