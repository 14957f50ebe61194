"""Sixty-four cart-poles that average under noise: what is left of the return at which epsilon?

Half-lengths of 0.25 to 0.75 m. What is noised is a policy of 114 numbers, for noise on the mean has a length of
`z S sqrt(D) / C`: many clients and few numbers are what makes it small. The arms differ in the noise multiplier; one
has the clip alone. Clip and learner were chosen on seed 100, on which the clip costs nothing.
"""

from polyfed.agents import PPO
from polyfed.environments import CartPole, Uniform
from polyfed.exchange import CentralNoise, LocalNoise
from polyfed.experiment import Evaluation, Experiment, Variant
from polyfed.recipes import fedavg

CLIP = 0.25  # Euclidean, in units of parameters

ARMS = (
    Variant("clipped", transforms=(CentralNoise(0.0, CLIP),)),
    Variant("noise_4", transforms=(CentralNoise(4.0, CLIP),)),
    Variant("noise_16", transforms=(CentralNoise(16.0, CLIP),)),
    Variant("noise_64", transforms=(CentralNoise(64.0, CLIP),)),
    Variant("local_noise_4", transforms=(LocalNoise(4.0, CLIP),)),
)

EXPERIMENT = fedavg(
    Experiment(
        name="privacy-cartpole",
        environment=CartPole(),
        variation=Uniform(("half_length",)),
        num_clients=64,
        agent=PPO(hidden=(16,), learning_rate=1e-3),
        num_rounds=20,
        local_steps=256,
        variants=ARMS,
        compare=tuple(arm.method for arm in ARMS),
        evaluation=Evaluation(every=5, episodes=2, own=False),
    )
)
