"""Environment embeddings on pendulums: PerDDPGAvg against DDPGAvg in training, and adapted to unseen lengths.

After Jin et al. (2022, `jin2022qavg`), whose worlds are half-cheetahs and hoppers: nothing but weights survives a
merge. Their 320,000 frames with a merge every 40,000, and 80,000 in an unseen world, are 8,000, 1,000 and 2,000 local
steps here. Networks and rates are those of `fedrddpg-pendulum`; the worlds are ours.
"""

from polyfed.agents import DDPG, Survival
from polyfed.environments import Explicit, Pendulum
from polyfed.experiment import Evaluation, Experiment
from polyfed.studies.embedded_learners import PerDDPG
from polyfed.studies.embedding_adaptation import EmbeddingAdaptation

STUDY = EmbeddingAdaptation(
    name="perddpg-embedding",
    experiment=Experiment(
        name="perddpg-embedding",
        environment=Pendulum(),
        variation=Explicit({"length": tuple(round(0.5 + (i + 0.5) / 10, 3) for i in range(10))}),
        num_clients=10,
        agent=DDPG(hidden=(64, 64), learning_starts=64, survival=Survival.nothing()),
        num_rounds=8,
        local_steps=1000,
        evaluation=Evaluation(every=1),
    ),
    learner=PerDDPG(learning_starts=64),
    quantity="length",
    unseen=(0.5, 1.5),
    adaptation_steps=2000,
    adaptation_batch=64,
)
