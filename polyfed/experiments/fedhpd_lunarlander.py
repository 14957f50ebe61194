"""Ten lunar landers of different networks learn from what all would do on public states, in Gymnasium's world.

After Jiang et al. (2025): ten REINFORCE agents in equal worlds, whose networks, activations and step sizes are those of
their released code. A round is d = 5 episodes of every agent and an event of distillation: five times over 10,000
public states in four parts. So 600 rounds are their 3,000 episodes. Their seeds are 20, 25, 30, 35 and 40.

Ours: the world is Gymnasium's LunarLander-v3, theirs is v2; starts are drawn anew for every episode. It is stepped on
the host, so the published budget is a run of hours: `--num-rounds 120` is a fifth of it. Needs `polyfed[box2d]`.
"""

from polyfed.agents import REINFORCE, Distillation, Group, Mixed
from polyfed.agents.virtual_agent import VirtualAgentStates
from polyfed.environments import Explicit
from polyfed.environments.gymnasium_world import Gymnasium
from polyfed.exchange import Predictions
from polyfed.experiment import Evaluation, Experiment
from polyfed.recipes import fedhpd

MAKES = (  # hidden units, step size, activation: as released
    ((128, 128, 256), 5e-4, "relu"),
    ((64, 64), 1e-3, "relu"),
    ((128, 128), 4e-4, "tanh"),
    ((128, 256), 6e-4, "relu"),
    ((256, 256), 3e-4, "tanh"),
    ((512,), 4e-4, "relu"),
    ((64, 128, 64), 5e-4, "tanh"),
    ((32, 32), 1e-3, "relu"),
    ((512, 512), 2e-4, "tanh"),
    ((1024,), 1e-4, "relu"),
)

PUBLISHED = VirtualAgentStates(
    num=10_000,
    clusters=10,
    components=3,
    hidden=(256, 256),
    activation="tanh",
    learning_rate=4e-4,
    first=2000,
    last=4000,
)

EXPERIMENT = fedhpd(
    Experiment(
        name="fedhpd-lunarlander",
        environment=Gymnasium("LunarLander-v3"),
        variation=Explicit(),
        num_clients=len(MAKES),
        agent=Mixed(
            tuple(
                Group(REINFORCE(hidden=hidden, learning_rate=rate, activation=activation), name=f"agent-{i}")
                for i, (hidden, rate, activation) in enumerate(MAKES, start=1)
            )
        ),
        payload=Predictions(PUBLISHED, Distillation(chunks=4)),
        num_rounds=600,
        local_steps=5,
        compare=("local_only",),
        evaluation=Evaluation(every=60, episodes=2),
    )
)
