"""Acrobots whose physics differs by up to 50 %: FedRDQN against DQNAvg, judged in average and worst case.

After Hwang and Hong (2025), as `fedrdqn-cartpole`. Both links' lengths move together, so do their masses, and their
centres of mass; which group varies is `--variation.groups`.
"""

import dataclasses

from polyfed.environments import Acrobot, Perturbed, Uniform
from polyfed.experiment import Evaluation
from polyfed.experiments.fedrdqn_cartpole import EXPERIMENT as CARTPOLE

GROUPS = ("gravity", "link_length_1+link_length_2", "link_mass_1+link_mass_2", "link_com_1+link_com_2")
TEST = Perturbed(GROUPS, rho=0.5, points=11, num_joint=20)

EXPERIMENT = dataclasses.replace(
    CARTPOLE,
    name="fedrdqn-acrobot",
    environment=Acrobot(),
    variation=Uniform(("link_length_1+link_length_2",), rho=0.5, each_seed=True),
    evaluation=Evaluation(every=40, own=False, episodes=5, held_out=TEST, num_held_out=TEST.num_worlds),
)
