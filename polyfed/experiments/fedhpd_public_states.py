"""Ten cart-pole agents of different networks: which public states must they talk about?

The fleet and worlds of `fedhpd-cartpole`, whose 5,000 states of a virtual agent, as many from each of five clusters,
are the published ones (`fedhpd`). One cluster instead of five is theirs too. A tenth of the states, states that
somebody meets who acts at random, and states uniform between the bounds are ours.
"""

import dataclasses

from polyfed.agents import Distillation
from polyfed.agents.virtual_agent import VirtualAgentStates
from polyfed.environments import NeutralStates, UniformStates
from polyfed.exchange import Predictions
from polyfed.experiment import Evaluation, Variant
from polyfed.experiments.fedhpd_cartpole import EXPERIMENT as CARTPOLE

EXPERIMENT = dataclasses.replace(
    CARTPOLE,
    name="fedhpd-public-states",
    variants=(
        Variant("fedhpd_one_cluster", payload=Predictions(VirtualAgentStates(clusters=1), Distillation())),
        Variant("fedhpd_few", payload=Predictions(VirtualAgentStates(num=500), Distillation())),
        Variant("fedhpd_neutral", payload=Predictions(NeutralStates(), Distillation())),
        Variant("fedhpd_uniform", payload=Predictions(UniformStates(), Distillation())),
    ),
    compare=("fedhpd_one_cluster", "fedhpd_few", "fedhpd_neutral", "fedhpd_uniform", "local_only"),
    evaluation=Evaluation(every=100, episodes=2),
)
