"""Ten cart-poles of which two or three lie: every robust rule against every attack, beside plain averaging.

Half-lengths of 0.3 to 0.9 m, twice; hostile are the first clients, so that every world has an honest one. The budget
was chosen so that averaging learns when nobody lies, `radius` as the median length of an honest update there, and
`sigma` so that honest messages lie in the filter's ball, all on seeds 10 to 14, before any attack was run.
"""

from polyfed.agents import PPO
from polyfed.environments import CartPole, Explicit
from polyfed.experiment import Evaluation, Experiment
from polyfed.studies.hostile_clients import HostileClients

STUDY = HostileClients(
    name="byzantine-cartpole",
    experiment=Experiment(
        name="byzantine-cartpole",
        environment=CartPole(),
        variation=Explicit(),
        num_clients=10,
        agent=PPO(hidden=(32, 32), learning_rate=5e-4, epochs=6),
        num_rounds=14,
        local_steps=1024,
        evaluation=Evaluation(every=14, episodes=4),
    ),
)
