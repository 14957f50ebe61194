"""Cart-poles whose physics differs by up to 50 %: FedRDQN against DQNAvg, judged in average and worst case.

After Hwang and Hong (2025): five clients, one hidden layer of 128 units, batches of 16 from a replay of 1,000, a merge
every 100 steps of online, target and expectile networks, which everything else survives; as in their code, every seed
draws a fleet of its own. Step size, discount and target updates are those of Jin et al. (2022), on whom they build.
Exploration and budget are ours. Nothing was tuned. Which quantity varies is `--variation.groups`. `fedrdqn_released` is
the form of the authors' code, see `WorstCase`.
"""

from polyfed.agents import DQN, HardUpdate, LinearDecay, Survival, WorstCase
from polyfed.environments import CartPole, Perturbed, Uniform
from polyfed.experiment import Evaluation, Experiment, Variant
from polyfed.recipes import fedrdqn

QUANTITIES = ("gravity", "mass_cart", "mass_pole", "half_length", "force")
TEST = Perturbed(QUANTITIES, rho=0.5, points=11, num_joint=20)

EXPERIMENT = fedrdqn(
    Experiment(
        name="fedrdqn-cartpole",
        environment=CartPole(),
        variation=Uniform(("half_length",), rho=0.5, each_seed=True),
        num_clients=5,
        agent=DQN(
            hidden=(128,),
            batch_size=16,
            replay_capacity=1000,
            learning_starts=100,
            learning_rate=1e-3,
            discount=0.9,
            target_update=HardUpdate(period=10),
            exploration=LinearDecay(start=1.0, end=0.05, steps=5000),
            survival=Survival.everything(),
            shared=("online", "target"),
            worst_case=WorstCase(omega=0.2),
        ),
        num_rounds=400,
        local_steps=100,
        variants=(Variant("fedrdqn_released", numbers=(("agent.worst_case.masked", False),)),),
        compare=("fedrdqn_released", "dqnavg", "local_only", "pooled"),
        evaluation=Evaluation(every=40, own=False, episodes=10, held_out=TEST, num_held_out=TEST.num_worlds),
    )
)
