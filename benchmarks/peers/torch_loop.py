"""Peer: DQN in PyTorch and Gymnasium in the usual one-file style, client after client.

What a person writes after the well-known one-file implementations: a vector environment of one, episode statistics,
Stable-Baselines3's replay buffer, `torch.optim.Adam` as it comes, a mean-squared temporal-difference error.
"""

from __future__ import annotations

import copy
import random

import gymnasium as gym
import numpy as np
import torch
import torch.nn.functional as F
from stable_baselines3.common.buffers import ReplayBuffer
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


class QNetwork(nn.Module):
    """One action value per action."""

    def __init__(self):
        super().__init__()
        inputs, first, second, outputs = SIZES
        self.network = nn.Sequential(
            nn.Linear(inputs, first), nn.ReLU(), nn.Linear(first, second), nn.ReLU(), nn.Linear(second, outputs)
        )

    def forward(self, observations):
        """`[B, 4]` to `[B, 2]`."""
        return self.network(observations)


def make_envs(half_length: float) -> gym.vector.SyncVectorEnv:
    """A vector environment that holds one CartPole."""

    def thunk():
        return gym.wrappers.RecordEpisodeStatistics(make_cartpole(half_length))

    return gym.vector.SyncVectorEnv([thunk], autoreset_mode=gym.vector.AutoresetMode.SAME_STEP)


class Client:
    """One site: its environment, networks, optimizer and replay buffer."""

    def __init__(self, half_length: float, batch: int, seed: int):
        self.batch = batch
        self.envs = make_envs(half_length)
        self.envs.single_action_space.seed(seed)
        self.observations, _ = self.envs.reset(seed=seed)
        self.q_network = QNetwork()
        self.target_network = copy.deepcopy(self.q_network)
        self.optimizer = torch.optim.Adam(self.q_network.parameters(), lr=LEARNING_RATE)
        self.replay = ReplayBuffer(
            REPLAY_CAPACITY,
            self.envs.single_observation_space,
            self.envs.single_action_space,
            torch.device("cpu"),
            handle_timeout_termination=False,
        )
        self.global_step = 0
        self.gradient_steps = 0

    def choose_actions(self) -> np.ndarray:
        """Epsilon-greedy; uniform until learning starts."""
        if self.global_step < LEARNING_STARTS or random.random() < EPSILON:
            return np.array([self.envs.single_action_space.sample() for _ in range(self.envs.num_envs)])
        with torch.no_grad():
            q_values = self.q_network(torch.Tensor(self.observations))
        return torch.argmax(q_values, dim=1).numpy()

    def interact(self) -> None:
        """One environment step into the replay buffer; where an episode ended, what it ended in."""
        actions = self.choose_actions()
        next_observations, rewards, terminations, truncations, infos = self.envs.step(actions)
        real_next_observations = next_observations.copy()
        for index, ended in enumerate(terminations | truncations):
            if ended:
                real_next_observations[index] = infos["final_obs"][index]
        self.replay.add(self.observations, real_next_observations, actions, rewards, terminations, [infos])
        self.observations = next_observations
        self.global_step += 1

    def update(self) -> None:
        """One gradient step on the temporal-difference error of a uniform batch."""
        data = self.replay.sample(self.batch)
        with torch.no_grad():
            target_max, _ = self.target_network(data.next_observations).max(dim=1)
            td_target = data.rewards.flatten() + DISCOUNT * target_max * (1 - data.dones.flatten())
        old_values = self.q_network(data.observations).gather(1, data.actions).squeeze()
        loss = F.mse_loss(td_target, old_values)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.gradient_steps += 1

    def train(self, steps: int) -> None:
        """`steps` environment steps, one gradient step each once learning has started."""
        for _ in range(steps):
            self.interact()
            if self.global_step > LEARNING_STARTS:
                self.update()
            if self.global_step % TARGET_EVERY == 0:
                self.target_network.load_state_dict(self.q_network.state_dict())


class Federation:
    """Clients one after another, their online networks averaged after each round."""

    def __init__(self, work: Work):
        random.seed(work.seed)
        np.random.seed(work.seed)
        torch.manual_seed(work.seed)
        lengths = half_lengths(work.clients)
        self.clients = [Client(length, work.batch, work.seed + i) for i, length in enumerate(lengths)]
        for client in self.clients:
            client.q_network.load_state_dict(self.clients[0].q_network.state_dict())
            client.target_network.load_state_dict(self.clients[0].q_network.state_dict())

    @property
    def gradient_steps(self) -> int:
        """Over all clients."""
        return sum(client.gradient_steps for client in self.clients)

    def round(self) -> None:
        """Every client trains, then all start from the mean of their online parameters."""
        for client in self.clients:
            client.train(MERGE_EVERY)
        states = [client.q_network.state_dict() for client in self.clients]
        mean = {name: torch.stack([state[name] for state in states]).mean(dim=0) for name in states[0]}
        for client in self.clients:
            client.q_network.load_state_dict(mean)


if __name__ == "__main__":
    packages = ("torch", "gymnasium", "stable-baselines3", "numpy")
    work = parse_arguments(__doc__)
    print_line(time_peer("torch_loop", Federation, work, packages=packages, set_threads=torch.set_num_threads))
