"""Peer: SBX's DQN (Stable-Baselines3 in JAX), client after client, averaged from outside.

Each round calls `learn(100, reset_num_timesteps=False)` on every model. Its own choices stay: Huber loss, a Monitor
around the environment, one compilation per model. Its logger writes nowhere.
"""

from __future__ import annotations

import os
import sys

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
    num_cores,
    parse_arguments,
    print_line,
    time_peer,
)


def make_model(half_length: float, batch: int, seed: int):
    """A model of W1 in its own CartPole."""
    import sbx
    from stable_baselines3.common.logger import Logger

    model = sbx.DQN(
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
    )
    model.set_logger(Logger(folder=None, output_formats=[]))
    return model


class Federation:
    """Models trained one after another, their online networks averaged after each round."""

    def __init__(self, work: Work):
        import jax

        lengths = half_lengths(work.clients)
        self.models = [make_model(length, work.batch, work.seed + i) for i, length in enumerate(lengths)]
        self.mean = jax.jit(lambda trees: jax.tree.map(lambda *leaves: sum(leaves) / len(leaves), *trees))
        first = self.models[0].policy.qf_state.params
        for model in self.models:
            model.policy.qf_state = model.policy.qf_state.replace(params=first, target_params=first)

    @property
    def gradient_steps(self) -> int:
        """Over all clients, as the models count them."""
        return sum(model._n_updates for model in self.models)

    def round(self) -> None:
        """Every client trains, then all start from the mean of their online parameters."""
        import jax

        for model in self.models:
            model.learn(MERGE_EVERY, reset_num_timesteps=False)
        mean = self.mean([model.policy.qf_state.params for model in self.models])
        for model in self.models:
            model.policy.qf_state = model.policy.qf_state.replace(params=mean)
        jax.block_until_ready(mean)


def main() -> None:
    """Fixes the threads, which XLA reads when it is first loaded, then runs."""
    work = parse_arguments(__doc__)
    if work.threads == 1:
        os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_cpu_multi_thread_eigen=false"
    elif work.threads not in (0, num_cores()):
        sys.exit(
            f"XLA runs on one core or on all {num_cores()}, not on {work.threads}: leave --threads out, or give 1."
        )
    import sbx  # noqa: F401  (imports count neither as compilation nor as training)
    import torch

    torch.set_num_threads(1)  # SBX samples its replay through torch tensors
    packages = ("sbx-rl", "jax", "flax", "optax", "stable-baselines3", "gymnasium", "numpy")
    print_line(time_peer("sbx_dqn", Federation, work, packages=packages, compiles=True))


if __name__ == "__main__":
    main()
