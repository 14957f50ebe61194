"""Four road junctions of other greens, lanes and traffic, two of them real, that share the middle of their networks.

What a lane or a green means differs from junction to junction, so every signal keeps the first and the last layer of
its network and sends what is between them (as FedPer keeps the last); `fedavg` averages all layers instead. All numbers
are ours. Needs `polyfed[traffic]`.
"""

from polyfed.agents import DQN, LinearDecay
from polyfed.environments import Explicit
from polyfed.environments.gymnasium_world import Gymnasium
from polyfed.exchange import PartialParameters
from polyfed.experiment import Evaluation, Experiment
from polyfed.recipes import fedper

EXPERIMENT = fedper(
    Experiment(
        name="junctions",
        environment=Gymnasium("polyfed/Junction-v0", masks=True),
        variation=Explicit({"junction": (0.0, 1.0, 2.0, 3.0)}),
        num_clients=4,
        agent=DQN(
            hidden=(64, 64, 64),
            double=True,
            loss="huber",
            batch_size=64,
            learning_rate=5e-4,
            discount=0.95,
            replay_capacity=20_000,
            exploration=LinearDecay(start=1.0, end=0.05, steps=4000),
        ),
        payload=PartialParameters(kept=("layers.0.*", "head")),
        num_rounds=60,
        local_steps=180,
        compare=("local_only",),
        evaluation=Evaluation(every=20, episodes=2),
    )
)
