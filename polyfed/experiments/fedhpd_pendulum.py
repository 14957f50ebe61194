"""Ten agents of different networks keep a MuJoCo pole upright, and learn from what all would do on public states.

After Jiang et al. (2025): ten REINFORCE agents with normal policies in equal inverted pendulums, whose networks, pairs
of activations and step sizes are those of their released code, as is the direction of the divergence, from an agent's
policy to the consensus. A round is d = 5 episodes of every agent and an event of distillation, so 1,200 rounds are
their 6,000 episodes. Their seeds are 20, 25, 30, 35 and 40.

Ours: starts are drawn anew for every episode; the released code seeds the world at every reset, so that all its
episodes begin in one state. The body is Gymnasium's v5, which does not pay for the step on which the pole tips over;
theirs is v2, which does. MuJoCo is called at every step, so the published budget, and before it the virtual agent's
9,900 episodes, are long runs: `--num-rounds 400 --evaluation.every 200` is a third of the budget.
"""

import dataclasses

from polyfed.agents import REINFORCE, Distillation, Group, Mixed
from polyfed.agents.virtual_agent import VirtualAgentStates
from polyfed.environments import Explicit, InvertedPendulum
from polyfed.exchange import Predictions
from polyfed.experiment import Evaluation, Experiment
from polyfed.recipes import fedhpd

MAKES = (  # hidden units, activation of each layer, step size: as released
    ((16, 32), ("tanh", "tanh"), 1e-4),
    ((32, 32), ("relu", "relu"), 1e-4),
    ((64, 128), ("tanh", "relu"), 6e-5),
    ((128, 256), ("relu", "relu"), 1e-5),
    ((32, 64), ("relu", "tanh"), 1e-4),
    ((64, 64), ("tanh", "tanh"), 8e-5),
    ((128, 128), ("relu", "relu"), 4e-5),
    ((64, 32), ("tanh", "relu"), 7e-5),
    ((256, 128), ("tanh", "tanh"), 2e-5),
    ((32, 128), ("relu", "relu"), 5e-5),
)

PUBLISHED = VirtualAgentStates(
    hidden=(16, 32), activation="tanh", learning_rate=1e-4, first=7000, last=9900, acting="sampled"
)


def learner(hidden: tuple[int, ...], activation: tuple[str, ...], rate: float) -> REINFORCE:
    """One of the published agents: AdamW, returns as they are, a scale from the network."""
    return dataclasses.replace(REINFORCE.continuous(), hidden=hidden, activation=activation, learning_rate=rate)


EXPERIMENT = fedhpd(
    Experiment(
        name="fedhpd-pendulum",
        environment=InvertedPendulum(),
        variation=Explicit(),
        num_clients=len(MAKES),
        agent=Mixed(tuple(Group(learner(*make), name=f"agent-{i}") for i, make in enumerate(MAKES, start=1))),
        payload=Predictions(PUBLISHED, Distillation(direction="reverse")),
        num_rounds=1200,
        local_steps=5,
        compare=("local_only",),
        evaluation=Evaluation(every=300, episodes=2),
    )
)
