"""Six cart-pole agents of two libraries, learners of policies and of values, that learn from what all would do.

Our REINFORCE, A2C, PPO and DQN beside PPO and DQN of Stable-Baselines3 (`pip install "polyfed[sb3]"`), in equal worlds.
After Jiang et al. (2025) they meet in probabilities of actions on public states, here of random play, with one exchange
per round. A round is 512 steps of each, of REINFORCE 4 episodes. All settings are ours; none was tuned.
"""

from polyfed.agents import A2C, DQN, PPO, REINFORCE, Distillation, Group, LinearDecay, Mixed
from polyfed.agents.foreign_sb3 import SB3
from polyfed.environments import CartPole, Explicit
from polyfed.environments.public_states import NeutralStates
from polyfed.exchange import Predictions
from polyfed.experiment import Evaluation, Experiment
from polyfed.recipes import fedhpd

DQN_OPTIONS = (
    ("buffer_size", 10_000),
    ("batch_size", 64),
    ("learning_starts", 500),
    ("train_freq", 4),
    ("target_update_interval", 250),
)

EXPERIMENT = fedhpd(
    Experiment(
        name="mixed-fleet",
        environment=CartPole(),
        variation=Explicit(),
        num_clients=6,
        agent=Mixed(
            (
                Group(REINFORCE(hidden=(128,)), local_steps=4, name="REINFORCE"),
                Group(A2C(hidden=(32, 32)), name="A2C"),
                Group(PPO(hidden=(64, 64)), name="PPO"),
                Group(DQN(hidden=(64, 64), exploration=LinearDecay(steps=5000)), name="DQN"),
                Group(SB3("PPO", hidden=(64, 64), options=(("n_steps", 256),)), name="PPO of SB3"),
                Group(
                    SB3("DQN", hidden=(64, 64), learning_rate=1e-3, options=DQN_OPTIONS, exploration_steps=5000),
                    name="DQN of SB3",
                ),
            )
        ),
        payload=Predictions(
            NeutralStates(num=500, steps=2000),
            Distillation(payload="probabilities", refresh="event", chunks=1, repetitions=2),
        ),
        num_rounds=24,
        local_steps=512,
        compare=("local_only",),
        evaluation=Evaluation(every=3, episodes=10),
    )
)
