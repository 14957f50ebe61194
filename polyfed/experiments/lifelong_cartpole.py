"""Four cart-poles: one pole switches, one grows, one client joins late; FedAvg against learning alone.

Half-lengths are 0.25, 0.5, 0.75 and 1.0 m. Client 3 joins in round 31 and starts from the global model; in round 51 the
pole of client 0 becomes 1.0 m at once, and from then on that of client 1 grows to 1.0 m in 20 equal steps. Client 2
stays as it is. The learner and its settings are those of `cartpole-poles`; nothing was chosen on these worlds.
"""

from polyfed.environments import Drift, Drifts, Explicit
from polyfed.experiment import Evaluation, Experiment
from polyfed.experiments.cartpole_poles import EXPERIMENT as POLES
from polyfed.recipes import fedavg

EXPERIMENT = fedavg(
    Experiment(
        name="lifelong-cartpole",
        environment=POLES.environment,
        variation=Explicit({"half_length": (0.25, 0.5, 0.75, 1.0)}),
        num_clients=4,
        agent=POLES.agent,
        num_rounds=100,
        local_steps=200,
        schedule=Drifts(
            (
                Drift(to={"half_length": 1.0}, first=51, clients=(0,)),
                Drift(to={"half_length": 1.0}, first=51, rounds=20, clients=(1,)),
            )
        ),
        joins=(1, 1, 1, 31),
        compare=("local_only",),
        evaluation=Evaluation(every=5, episodes=10),
    )
)
