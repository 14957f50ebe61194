"""Ten cart-pole agents of different networks that learn by A2C from what all would do on public states.

The networks, step sizes, worlds and public states of `fedhpd-cartpole`, but another learner: FedHPD does not ask how an
agent learns. An actor-critic counts steps, not episodes: a round is 1,024 of them, 64 rollouts of 16, and an event of
distillation, so 200 rounds are 204,800 steps. All that is not in `fedhpd-cartpole` is ours.
"""

import dataclasses

from polyfed.agents import A2C, Group, Mixed
from polyfed.experiment import Evaluation
from polyfed.experiments.fedhpd_cartpole import EXPERIMENT as CARTPOLE
from polyfed.experiments.fedhpd_cartpole import MAKES

EXPERIMENT = dataclasses.replace(
    CARTPOLE,
    name="fedhpd-a2c",
    agent=Mixed(
        tuple(
            Group(A2C(hidden=hidden, learning_rate=rate, activation=activation), name=f"agent-{i}")
            for i, (hidden, rate, activation) in enumerate(MAKES, start=1)
        )
    ),
    num_rounds=200,
    local_steps=1024,
    variants=(),
    compare=("local_only",),
    evaluation=Evaluation(every=100, episodes=2),
)
