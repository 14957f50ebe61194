"""Environment embeddings on cart-poles: PerDQNAvg against DQNAvg in training, and adapted to unseen pole lengths.

After Jin et al. (2022, `jin2022qavg`): half-length `0.1 + 0.8 x`, one hidden layer of 128 units, batches of 16 from a
replay of 1,000, discount 0.9, a time limit of 200 steps, and nothing but weights survives a merge. Their 768 episodes
with a merge every 48 are 76,800 local steps with a merge every 4,800 here; the worlds of training are ours.
"""

from polyfed.agents import DQN, ExponentialDecay, HardUpdate, Survival
from polyfed.environments import CartPole, Explicit
from polyfed.experiment import Evaluation, Experiment
from polyfed.studies.embedding_adaptation import EmbeddingAdaptation

STUDY = EmbeddingAdaptation(
    name="perdqn-embedding",
    experiment=Experiment(
        name="perdqn-embedding",
        environment=CartPole(max_steps=200),
        variation=Explicit({"half_length": tuple(round(0.1 + 0.8 * (i + 0.5) / 10, 3) for i in range(10))}),
        num_clients=10,
        agent=DQN(
            hidden=(128,),
            batch_size=16,
            replay_capacity=1000,
            learning_starts=32,
            learning_rate=1e-3,
            discount=0.9,
            max_grad_norm=None,
            target_update=HardUpdate(period=10),
            exploration=ExponentialDecay(start=1.0, end=0.0, steps=100),  # 0.99 per gradient step
            survival=Survival.nothing(),
        ),
        num_rounds=16,
        local_steps=4800,
        evaluation=Evaluation(every=1),
    ),
)
