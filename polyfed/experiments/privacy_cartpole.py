"""Sixty-four cart-poles that average under noise: what is left of the return at which epsilon?

Half-lengths of 0.25 to 0.75 m. What is noised is a policy of 114 numbers, for noise on the mean has a length of
`z S sqrt(D) / C`: many clients and few numbers are what makes it small. The arms differ in the noise multiplier; one
has the clip alone, and one stops when epsilon would pass 8.
"""

from polyfed.agents import PPO
from polyfed.environments import CartPole, Uniform
from polyfed.exchange import CentralNoise, LocalNoise
from polyfed.experiment import Evaluation, Experiment, Variant
from polyfed.recipes import fedavg

CLIP = 0.5  # Euclidean, in units of parameters

ARMS = (
    Variant("clipped", transforms=(CentralNoise(0.0, CLIP),)),
    Variant("noise_0_5", transforms=(CentralNoise(0.5, CLIP),)),
    Variant("noise_1", transforms=(CentralNoise(1.0, CLIP),)),
    Variant("noise_2", transforms=(CentralNoise(2.0, CLIP),)),
    Variant("noise_4", transforms=(CentralNoise(4.0, CLIP),)),
    Variant("budget_8", transforms=(CentralNoise(2.0, CLIP, epsilon=8.0),)),
    Variant("local_noise_1", transforms=(LocalNoise(1.0, CLIP),)),
)

EXPERIMENT = fedavg(
    Experiment(
        name="privacy-cartpole",
        environment=CartPole(),
        variation=Uniform(["half_length"]),
        num_clients=64,
        agent=PPO(hidden=(16,), learning_rate=1e-3),
        num_rounds=30,
        local_steps=256,
        variants=ARMS,
        compare=tuple(arm.method for arm in ARMS),
        evaluation=Evaluation(every=5, episodes=4, own=False),
    )
)
