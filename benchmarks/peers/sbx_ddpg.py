"""Peer: SBX's DDPG (Stable-Baselines3 in JAX) on W2, client after client, actor and critic averaged from outside."""

from __future__ import annotations

import numpy as np
from pendulum_workload import HIDDEN, LEARNING_RATE, NOISE, TARGET_RATE, make_pendulum, masses
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


def make_model(mass: float, batch: int, seed: int):
    """A model of W2 in its own Pendulum."""
    import sbx
    from stable_baselines3.common.logger import Logger
    from stable_baselines3.common.noise import NormalActionNoise

    model = sbx.DDPG(
        "MlpPolicy",
        make_pendulum(mass),
        learning_rate=LEARNING_RATE,
        qf_learning_rate=LEARNING_RATE,
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
    )
    model.set_logger(Logger(folder=None, output_formats=[]))
    return model


class Federation:
    """Models trained one after another, their actors and critics averaged after each round."""

    def __init__(self, work: Work):
        import jax

        self.models = [make_model(m, work.batch, work.seed + i) for i, m in enumerate(masses(work.clients))]
        self.mean = jax.jit(lambda trees: jax.tree.map(lambda *leaves: sum(leaves) / len(leaves), *trees))
        for part in ("actor_state", "qf_state"):
            first = getattr(self.models[0].policy, part).params
            for model in self.models:
                state = getattr(model.policy, part)
                setattr(model.policy, part, state.replace(params=first, target_params=first))

    @property
    def gradient_steps(self) -> int:
        """Over all clients, as the models count them."""
        return sum(model._n_updates for model in self.models)

    def round(self) -> None:
        """Every client trains, then all start from the mean of their actors and critics."""
        import jax

        for model in self.models:
            model.learn(MERGE_EVERY, reset_num_timesteps=False)
        for part in ("actor_state", "qf_state"):
            mean = self.mean([getattr(model.policy, part).params for model in self.models])
            for model in self.models:
                setattr(model.policy, part, getattr(model.policy, part).replace(params=mean))
            jax.block_until_ready(mean)


def main() -> None:
    """Imports first, which count neither as compilation nor as training, then runs."""
    work = parse_arguments(__doc__)
    import sbx  # noqa: F401
    import torch

    torch.set_num_threads(1)  # SBX samples its replay through torch tensors
    packages = ("sbx-rl", "jax", "flax", "optax", "stable-baselines3", "gymnasium", "numpy")
    print_line(time_peer("sbx_ddpg", Federation, work, packages=packages, compiles=True))


if __name__ == "__main__":
    main()
