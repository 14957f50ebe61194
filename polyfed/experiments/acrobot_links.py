"""Five Acrobots whose first link is 0.5 to 1.5 m long, with its centre of mass in the middle.

The worlds are those of Jin et al. (2022, released code): `LINK_LENGTH_1 = 0.5 + theta`, centre of mass at half of it.
The learner and the budget are ours.
"""

from polyfed.agents import DQN, LinearDecay
from polyfed.environments import Acrobot, Explicit
from polyfed.experiment import Evaluation, Experiment
from polyfed.recipes import fedavg

LENGTHS = (0.5, 0.75, 1.0, 1.25, 1.5)  # m
HELD_OUT = (0.6, 0.9, 1.4)  # m


def links(lengths: tuple[float, ...]) -> Explicit:
    """First links of these lengths."""
    return Explicit({"link_length_1": lengths, "link_com_1": tuple(x / 2 for x in lengths)})


EXPERIMENT = fedavg(
    Experiment(
        name="acrobot-links",
        environment=Acrobot(),
        variation=links(LENGTHS),
        num_clients=len(LENGTHS),
        agent=DQN(
            hidden=(64, 64),
            double=True,
            n_step=3,
            batch_size=32,
            learning_rate=5e-4,
            exploration=LinearDecay(start=1.0, end=0.05, steps=5000),
        ),
        num_rounds=100,
        local_steps=200,
        compare=("fedwb", "local_only", "pooled"),
        evaluation=Evaluation(every=10, episodes=5, held_out=links(HELD_OUT), num_held_out=len(HELD_OUT)),
    )
)
