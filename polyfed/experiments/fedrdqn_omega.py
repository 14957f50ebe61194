"""How wary should a robust learner be? FedRDQN with omega from 0 to 0.7 on ten cart-poles whose poles differ.

Omega is the share of the worst successor; at 0 this is DQNAvg. Learner and tests are those of `fedrdqn-cartpole`. How
much the worlds really differ is `--variation.rho`.
"""

import dataclasses

from polyfed.experiment import Variant
from polyfed.experiments.fedrdqn_cartpole import EXPERIMENT as CARTPOLE

OMEGAS = (0.1, 0.3, 0.5, 0.7)  # beside 0.2, the experiment's own, and 0, which is dqnavg
VARIANTS = tuple(
    Variant(f"fedrdqn_{omega:g}".replace("0.", "0"), numbers=(("agent.worst_case.omega", omega),)) for omega in OMEGAS
)

EXPERIMENT = dataclasses.replace(
    CARTPOLE,
    name="fedrdqn-omega",
    num_clients=10,
    variants=VARIANTS,
    compare=("dqnavg", *(variant.method for variant in VARIANTS)),
)
