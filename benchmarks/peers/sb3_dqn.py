"""Peer: Stable-Baselines3's DQN, client after client, averaged from outside.

Each round calls `learn(100, reset_num_timesteps=False)` on every model. Its own choices stay: smooth-L1 loss, gradient
clipping at norm 10, a Monitor around the environment. Its logger writes nowhere.
"""

from __future__ import annotations

import torch
from stable_baselines3 import DQN
from stable_baselines3.common.logger import Logger
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


def make_model(half_length: float, batch: int, seed: int) -> DQN:
    """A model of W1 in its own CartPole."""
    model = DQN(
        "MlpPolicy",
        make_cartpole(half_length),
        learning_rate=LEARNING_RATE,
        buffer_size=REPLAY_CAPACITY,
        learning_starts=LEARNING_STARTS,
        batch_size=batch,
        gamma=DISCOUNT,
        train_freq=1,
        gradient_steps=1,
        target_update_interval=TARGET_EVERY,
        exploration_fraction=1.0,
        exploration_initial_eps=EPSILON,
        exploration_final_eps=EPSILON,
        policy_kwargs={"net_arch": list(SIZES[1:-1])},
        seed=seed,
        device="cpu",
    )
    model.set_logger(Logger(folder=None, output_formats=[]))
    return model


class Federation:
    """Models trained one after another, their online networks averaged after each round."""

    def __init__(self, work: Work):
        lengths = half_lengths(work.clients)
        self.models = [make_model(length, work.batch, work.seed + i) for i, length in enumerate(lengths)]
        for model in self.models:
            model.q_net.load_state_dict(self.models[0].q_net.state_dict())
            model.q_net_target.load_state_dict(self.models[0].q_net.state_dict())

    @property
    def gradient_steps(self) -> int:
        """Over all clients, as the models count them."""
        return sum(model._n_updates for model in self.models)

    def round(self) -> None:
        """Every client trains, then all start from the mean of their online parameters."""
        for model in self.models:
            model.learn(MERGE_EVERY, reset_num_timesteps=False)
        states = [model.q_net.state_dict() for model in self.models]
        mean = {name: torch.stack([state[name] for state in states]).mean(dim=0) for name in states[0]}
        for model in self.models:
            model.q_net.load_state_dict(mean)


if __name__ == "__main__":
    packages = ("stable-baselines3", "torch", "gymnasium", "numpy")
    work = parse_arguments(__doc__)
    print_line(time_peer("sb3_dqn", Federation, work, packages=packages, set_threads=torch.set_num_threads))
