"""Peer: FedHPD in PyTorch and Gymnasium in the usual one-file style, agent after agent.

What a person writes after the well-known REINFORCE examples: at every step a forward pass, a `Categorical`, a sample
and its log-probability kept for the end of the episode; then returns, one loss, one step of Adam.
"""

from __future__ import annotations

import itertools
import time

import gymnasium as gym
import numpy as np
import torch
import torch.nn.functional as F
from fedhpd_workload import (
    ACTIVATIONS,
    CHUNK,
    DECAY,
    DECAY_EVERY,
    DISCOUNT,
    EPISODES,
    HIDDEN,
    LEARNING_RATES,
    NUM_STATES,
    REPETITIONS,
    STATE_MEAN,
    STATE_SCALE,
    Work,
    line,
    parse_arguments,
)
from torch import nn
from torch.distributions import Categorical
from workload import print_line


class Policy(nn.Module):
    """Logits of the two actions."""

    def __init__(self, hidden: tuple[int, ...], activation: str):
        super().__init__()
        sizes, layers = (4, *hidden), []
        for inputs, outputs in itertools.pairwise(sizes):
            layers += [nn.Linear(inputs, outputs), nn.ReLU() if activation == "relu" else nn.Tanh()]
        self.network = nn.Sequential(*layers, nn.Linear(sizes[-1], 2))

    def forward(self, states):
        """`[..., 4]` to `[..., 2]`."""
        return self.network(states)


class Agent:
    """One agent: its environment, policy, optimizer and schedule."""

    def __init__(self, hidden: tuple[int, ...], learning_rate: float, activation: str, seed: int):
        self.env = gym.make("CartPole-v1")
        self.env.reset(seed=seed)
        self.policy = Policy(hidden, activation)
        self.optimizer = torch.optim.Adam(self.policy.parameters(), lr=learning_rate)
        self.schedule = torch.optim.lr_scheduler.StepLR(self.optimizer, step_size=DECAY_EVERY, gamma=DECAY)

    def episode(self) -> int:
        """One episode and the update that follows it; the episode's length."""
        log_probabilities, rewards, over = [], [], False
        state, _ = self.env.reset()
        while not over:
            distribution = Categorical(logits=self.policy(torch.from_numpy(state)))
            action = distribution.sample()
            log_probabilities.append(distribution.log_prob(action))
            state, reward, terminated, truncated, _ = self.env.step(action.item())
            rewards.append(reward)
            over = terminated or truncated
        self.learn(torch.stack(log_probabilities), rewards)
        return len(rewards)

    def learn(self, log_probabilities: torch.Tensor, rewards: list[float]) -> None:
        """One step of REINFORCE with normalised returns, a sum over the episode."""
        returns, following = [], 0.0
        for reward in reversed(rewards):
            following = reward + DISCOUNT * following
            returns.insert(0, following)
        weights = torch.tensor(returns)
        weights = (weights - weights.mean()) / (weights.std() + 1e-5)
        loss = -(log_probabilities * weights).sum()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.schedule.step()

    def imitate(self, states: torch.Tensor, consensus: torch.Tensor) -> None:
        """One step towards the consensus, by the same optimizer."""
        loss = F.kl_div(F.log_softmax(self.policy(states), dim=-1), consensus, reduction="batchmean")
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


class Federation:
    """Agents one after another; `seconds` are those of episodes and of events so far."""

    def __init__(self, work: Work, make_agent=Agent):
        torch.manual_seed(work.seed)
        settings = zip(HIDDEN, LEARNING_RATES, ACTIVATIONS, strict=True)
        self.agents = [make_agent(*setting, work.seed) for setting in settings]
        states = np.random.default_rng(work.seed).normal(STATE_MEAN, STATE_SCALE, (NUM_STATES, 4))
        self.public = torch.tensor(states, dtype=torch.float32)
        self.reset_clock()

    def reset_clock(self) -> None:
        """Counts from here."""
        self.learning = self.distilling = 0.0
        self.steps = np.zeros(len(self.agents))

    def round(self) -> None:
        """`EPISODES` episodes of every agent, then one distillation event."""
        began = time.perf_counter()
        for _ in range(EPISODES):
            self.steps += [agent.episode() for agent in self.agents]
        played = time.perf_counter()
        self.distil()
        self.learning += played - began
        self.distilling += time.perf_counter() - played

    def distil(self) -> None:
        """The agents' mean probabilities on a chunk of public states, then a step of everybody; over and over."""
        for _ in range(REPETITIONS):
            for states in self.public.split(CHUNK):
                with torch.no_grad():
                    told = [F.softmax(agent.policy(states), dim=-1) for agent in self.agents]
                consensus = torch.stack(told).mean(dim=0)
                for agent in self.agents:
                    agent.imitate(states, consensus)


def main(peer: str, description: str, make_agent=Agent) -> None:
    """Warms up, times, prints the line."""
    work = parse_arguments(description)
    torch.set_num_threads(work.threads)
    federation = Federation(work, make_agent)
    for _ in range(work.warmup):
        federation.round()
    federation.reset_clock()
    for _ in range(work.rounds):
        federation.round()
    report = line(
        peer,
        work,
        packages=("torch", "gymnasium", "numpy"),
        learning=federation.learning,
        distilling=federation.distilling,
        episode_lengths=list(federation.steps / (work.rounds * EPISODES)),
        threads=work.threads,
    )
    print_line(report)


if __name__ == "__main__":
    main("torch_fedhpd", __doc__)
