"""Ten cart-pole agents of different networks learn from what all would do on public states: FedHPD's experiment.

After Jiang et al. (2025): ten REINFORCE agents in equal worlds, whose networks, activations and step sizes are those of
their released code. A round is d = 5 episodes of every agent, an update after each, and an event of distillation: five
times over 5,000 public states in two parts, a consensus for each. So 400 rounds are 2,000 of theirs; `fedhpd_d10` and
`fedhpd_d20` distil half and a quarter as often, on the same episodes. Their seeds are 20, 25, 30, 35 and 40.
"""

from polyfed.agents import REINFORCE, Distillation, Group, Mixed
from polyfed.agents.virtual_agent import VirtualAgentStates
from polyfed.environments import CartPole, Explicit
from polyfed.exchange import Predictions
from polyfed.experiment import Evaluation, Experiment, Variant
from polyfed.recipes import fedhpd

MAKES = (  # hidden units, step size, activation: as released
    ((128,), 1e-3, "relu"),
    ((32, 32), 2e-3, "relu"),
    ((16, 16, 32), 4e-3, "tanh"),
    ((8, 8, 8), 5e-4, "relu"),
    ((32, 32, 32), 3e-3, "tanh"),
    ((8, 8), 7e-4, "relu"),
    ((64, 64), 1e-3, "tanh"),
    ((16, 16), 5e-4, "relu"),
    ((16, 32, 16), 5e-4, "tanh"),
    ((32,), 8e-4, "relu"),
)


def interval(d: int, episodes: int = 2000) -> Variant:
    """Distillation every `d` episodes."""
    numbers = (("local_steps", d), ("num_rounds", episodes // d), ("evaluation.every", 200 // d))
    return Variant(f"fedhpd_d{d}", numbers=numbers)


EXPERIMENT = fedhpd(
    Experiment(
        name="fedhpd-cartpole",
        environment=CartPole(),
        variation=Explicit(),
        num_clients=len(MAKES),
        agent=Mixed(
            tuple(
                Group(REINFORCE(hidden=hidden, learning_rate=rate, activation=activation), name=f"agent-{i}")
                for i, (hidden, rate, activation) in enumerate(MAKES, start=1)
            )
        ),
        payload=Predictions(VirtualAgentStates(), Distillation()),
        num_rounds=400,
        local_steps=5,
        variants=(interval(10), interval(20)),
        compare=("fedhpd_d10", "fedhpd_d20", "local_only"),
        evaluation=Evaluation(every=40, episodes=10),
    )
)
