"""Peer: Stable-Baselines3's DDPG on W2, client after client, actor and critic averaged from outside."""

from __future__ import annotations

import numpy as np
import torch
from pendulum_workload import HIDDEN, LEARNING_RATE, NOISE, TARGET_RATE, make_pendulum, masses
from stable_baselines3 import DDPG
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.noise import NormalActionNoise
from workload import (
    DISCOUNT,
    LEARNING_STARTS,
    MERGE_EVERY,
    REPLAY_CAPACITY,
    Work,
    parse_arguments,
    print_line,
    time_peer,
)


def make_model(mass: float, batch: int, seed: int) -> DDPG:
    """A model of W2 in its own Pendulum."""
    model = DDPG(
        "MlpPolicy",
        make_pendulum(mass),
        learning_rate=LEARNING_RATE,
        buffer_size=REPLAY_CAPACITY,
        learning_starts=LEARNING_STARTS,
        batch_size=batch,
        tau=TARGET_RATE,
        gamma=DISCOUNT,
        train_freq=1,
        gradient_steps=1,
        action_noise=NormalActionNoise(np.zeros(1), np.full(1, NOISE)),
        policy_kwargs={"net_arch": list(HIDDEN)},
        seed=seed,
        device="cpu",
    )
    model.set_logger(Logger(folder=None, output_formats=[]))
    return model


class Federation:
    """Models trained one after another, their actors and critics averaged after each round."""

    def __init__(self, work: Work):
        self.models = [make_model(m, work.batch, work.seed + i) for i, m in enumerate(masses(work.clients))]
        first = self.models[0]
        for model in self.models:
            model.policy.load_state_dict(first.policy.state_dict())

    @property
    def gradient_steps(self) -> int:
        """Over all clients, as the models count them."""
        return sum(model._n_updates for model in self.models)

    def round(self) -> None:
        """Every client trains, then all start from the mean of their actors and critics."""
        for model in self.models:
            model.learn(MERGE_EVERY, reset_num_timesteps=False)
        for part in ("actor", "critic"):
            states = [getattr(model, part).state_dict() for model in self.models]
            mean = {name: torch.stack([state[name] for state in states]).mean(dim=0) for name in states[0]}
            for model in self.models:
                getattr(model, part).load_state_dict(mean)


if __name__ == "__main__":
    packages = ("stable-baselines3", "torch", "gymnasium", "numpy")
    work = parse_arguments(__doc__)
    print_line(time_peer("sb3_ddpg", Federation, work, packages=packages, set_threads=torch.set_num_threads))
