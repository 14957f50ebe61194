"""Five half-cheetahs with thighs ±50 % as long: FedRDDPG against DDPGAvg and learning alone.

FedRDDPG and changes of ±50 % are of Hwang and Hong (2025); the half-lengths of the thighs are what Jin et al. (2022)
vary. Five clients, batches of 64, hidden layers of 400 and 300 ReLUs, Adam at 1e-3, noise of 0.1, targets that follow
by 0.005, a merge of all five networks every 100 steps, and omega = 0.2 are published or of the authors' code. Each seed
has a fleet of its own, and the nominal body is judged beside the clients', as there.

The published budget is a million steps per client: `--num-rounds 10000 --agent.replay-capacity 100000
--agent.learning-starts 10000`. What stands here is a hundredth of it, ours: 10,000 steps per client, of which the first
1,000 act at random. It shows that it works and what it costs, not who is better.
"""

from polyfed.agents import SoftUpdate, Survival, WorstCase
from polyfed.agents.ddpg import DDPG
from polyfed.agents.noise import GaussianNoise
from polyfed.environments import Explicit, HalfCheetah, Uniform
from polyfed.experiment import Evaluation, Experiment
from polyfed.recipes import fedrddpg

EXPERIMENT = fedrddpg(
    Experiment(
        name="fedrddpg-halfcheetah",
        environment=HalfCheetah(),
        variation=Uniform(("back_thigh_half_length+front_thigh_half_length",), rho=0.5, each_seed=True),
        num_clients=5,
        agent=DDPG(
            hidden=(400, 300),
            actor_learning_rate=1e-3,
            critic_learning_rate=1e-3,
            discount=0.99,
            batch_size=64,
            replay_capacity=10_000,
            learning_starts=1_000,
            target_update=SoftUpdate(0.005),
            noise=GaussianNoise(0.1),
            survival=Survival.everything(),
            shared=("actor", "critic", "actor_target", "critic_target"),
            worst_case=WorstCase(omega=0.2, tau=0.01),
        ),
        num_rounds=100,
        local_steps=100,
        compare=("ddpgavg", "local_only"),
        evaluation=Evaluation(every=25, episodes=5, held_out=Explicit(), num_held_out=1),
    )
)
