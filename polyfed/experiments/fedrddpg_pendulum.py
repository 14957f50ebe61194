"""Pendulums of five masses and lengths: FedRDDPG against DDPGAvg, between learning alone and pooling.

The worlds follow the perturbations of Hwang and Hong (2025): mass and length, each drawn within 50 % of the nominal
one, five clients, 100 steps between merges, `[400, 300]` networks in their code. Smaller networks, no more steps than
DDPGAvg needs, and the held-out worlds are ours; the learner is `DDPG` as it comes, never tuned on the robust arm.
"""

from polyfed.agents import DDPG, Survival
from polyfed.environments import Grid, Pendulum, Uniform
from polyfed.experiment import Evaluation, Experiment
from polyfed.recipes import fedrddpg

EXPERIMENT = fedrddpg(
    Experiment(
        name="fedrddpg-pendulum",
        environment=Pendulum(),
        variation=Uniform(("mass", "length"), rho=0.5, each_seed=True),
        num_clients=5,
        agent=DDPG(
            hidden=(64, 64),
            shared=("actor", "critic", "actor_target", "critic_target"),
            survival=Survival.everything(),
        ),
        num_rounds=200,
        local_steps=100,
        compare=("ddpgavg", "local_only", "pooled"),
        evaluation=Evaluation(
            every=20, episodes=10, held_out=Grid({"mass": (0.5, 1.0, 1.5), "length": (0.5, 1.0, 1.5)}), num_held_out=9
        ),
    )
)
