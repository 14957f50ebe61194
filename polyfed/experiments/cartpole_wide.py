"""Ten cart-poles whose pole, masses, gravity and motor all differ by up to 50 %, with five more held out.

The relative changes are drawn as in the code that accompanies FedRQ (Hwang and Hong 2025): `x ~ U(-0.5, 0.5)` for each
quantity and client. Seeds of the draws and settings of the learner are ours.
"""

from polyfed.agents import DQN, LinearDecay
from polyfed.environments import CartPole, Uniform
from polyfed.experiment import Evaluation, Experiment
from polyfed.recipes import fedavg

QUANTITIES = ("half_length", "mass_pole", "mass_cart", "gravity", "force")

EXPERIMENT = fedavg(
    Experiment(
        name="cartpole-wide",
        environment=CartPole(),
        variation=Uniform(QUANTITIES, rho=0.5, seed=0),
        num_clients=10,
        agent=DQN(
            hidden=(64, 64),
            double=True,
            n_step=3,
            batch_size=32,
            learning_rate=5e-4,
            exploration=LinearDecay(start=1.0, end=0.05, steps=3000),
        ),
        num_rounds=100,
        local_steps=200,
        compare=("fedwb", "fedprox", "local_only", "pooled"),
        evaluation=Evaluation(every=10, episodes=5, held_out=Uniform(QUANTITIES, rho=0.5, seed=1), num_held_out=5),
    )
)
