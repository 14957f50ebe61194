"""What an experiment refuses before anything compiles, each in one sentence."""

import dataclasses
from typing import ClassVar

import pytest

from polyfed.agents import DQN, REINFORCE, Distillation, Group, Mixed, Survival
from polyfed.agents.foreign import Made
from polyfed.aggregation import (
    Consensus,
    LocalOnly,
    ServerAdam,
    ServerMomentum,
    ServerSGD,
    WassersteinBarycenter,
    WeightedMean,
)
from polyfed.environments import CartPole, Dataset, Digits, Drift, Explicit, Grid, Pendulum, Perturbed, Uniform
from polyfed.environments.public_states import UniformStates
from polyfed.errors import MissingExtraError
from polyfed.exchange import (
    ClipNorm,
    DelayMessages,
    HalfPrecision,
    LoseMessages,
    Nothing,
    Parameters,
    PartialWork,
    Predictions,
    Quorum,
    SecureSum,
    Transform,
    VanishAndReturn,
)
from polyfed.experiment import Evaluation
from polyfed.experiments import load, titles
from polyfed.leaves import stacked
from polyfed.recipes import arms
from polyfed.simulation.simulate import check_seeds

BASE = load("cartpole-poles")


class SumOnly(Transform):
    """A secure sum, as far as the experiment can see."""

    sum_only: ClassVar[bool] = True
    keeps_norm: ClassVar[bool] = True


def changed(**fields):
    """The base experiment with fields replaced; `agent__x` and `evaluation__x` reach inside."""
    inside = {"agent": {}, "evaluation": {}}
    for name in [name for name in fields if "__" in name]:
        part, _, field = name.partition("__")
        inside[part][field] = fields.pop(name)
    parts = {part: dataclasses.replace(getattr(BASE, part), **new) for part, new in inside.items()}
    return dataclasses.replace(BASE, **(parts | fields))


SIBLINGS = {  # experiments whose check takes seconds, and which differ by little from one that is looked at every time
    "mnist-agent-count", "mnist-dirichlet", "mnist-hybrid", "mnist-solvers", "mnist-ten-agents", "mnist-widths",
    "fedhpd-a2c", "fedhpd-aggregation", "fedhpd-lunarlander", "fedhpd-sample-cost", "fedrddpg-hopper",
}  # fmt: skip


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in SIBLINGS else ()) for name in titles()]
)
def test_named_experiments_pass_and_bear_their_names(name):
    experiment = load(name)
    assert experiment.name == name
    if isinstance(experiment.environment, Dataset):  # whose files not every machine has
        experiment = dataclasses.replace(experiment, environment=Dataset(Digits()))
    try:
        for arm in arms(experiment).values():
            arm.check()
    except MissingExtraError as missing:
        pytest.skip(str(missing))


@pytest.mark.parametrize(
    "fields",
    [
        {"transforms": (HalfPrecision(), ClipNorm(), LoseMessages())},
        {"transforms": (ClipNorm(2.0), ClipNorm(1.0))},
        {"transforms": (SumOnly(),), "rule": WeightedMean(), "evaluation__own": False},
        {
            "transforms": (ClipNorm(), SumOnly()),
            "rule": WeightedMean(),
            "server_optimizer": ServerAdam(),
            "evaluation__own": False,
        },
        {"transforms": (LoseMessages(), DelayMessages(), VanishAndReturn(), PartialWork(), Quorum(3), ClipNorm())},
        {"rule": LocalOnly()},
        {"agent__learning_rate": (1e-3, 1e-4, 1e-5)},
        {"agent__max_grad_norm": None},
        {"num_envs": 4, "agent__replay_capacity": 400},
        {"evaluation__every": 100},
        {"evaluation__num_held_out": 0},
        {"num_rounds": 1, "evaluation__every": 1, "local_steps": 1},
        {"agent__survival": Survival.nothing(), "agent__learning_starts": 200},
        {"agent__n_step": 3, "agent__learning_starts": 3, "agent__replay_capacity": 3},
        {"name": "a", "method": "mine_2"},
    ],
    ids=str,
)
def test_what_fits_passes(fields):
    changed(**fields).check()


REFUSALS = [
    # counts
    ({"num_clients": 0}, "num_clients = 0 is out of range: give a number from 1 to 1e+06."),
    ({"num_clients": 2.5}, "num_clients = 2.5 is not one whole number: give one from 1 to 1e+06."),
    ({"num_rounds": 0}, "num_rounds = 0 is out of range: give a number from 1 to 1e+09."),
    ({"num_rounds": (2, 3)}, "num_rounds = (2, 3) is not one whole number: give one from 1 to 1e+09."),
    ({"local_steps": -5}, "local_steps = -5 is out of range: give a number from 1 to 1e+09."),
    (
        {"environment": CartPole(max_steps=0)},
        "environment.max_steps = 0 steps is out of range: give a number from 1 to 1e+09 steps.",
    ),
    ({"num_envs": 0}, "num_envs = 0 is out of range: give a number from 1 to 1e+06."),
    (
        {"evaluation__every": 101},
        "evaluation.every = 101 rounds is out of range: give a number from 1 to 100 rounds.",
    ),
    ({"evaluation__every": 0}, "evaluation.every = 0 rounds is out of range: give a number from 1 to 100 rounds."),
    ({"evaluation__episodes": 0}, "evaluation.episodes = 0 is out of range: give a number from 1 to 1e+06."),
    ({"evaluation__seed": -1}, "evaluation.seed = -1 is out of range: give a number from 0 to 4.29497e+09."),
    (
        {"evaluation__seed": 2**32},
        "evaluation.seed = 4.29497e+09 is out of range: give a number from 0 to 4.29497e+09.",
    ),
    ({"evaluation__num_held_out": -1}, "evaluation.num_held_out = -1 is out of range: give a number from 0 to 1e+06."),
    (
        {"evaluation__held_out": Perturbed(("force",), num_joint=0), "evaluation__num_held_out": 0},
        "evaluation.held_out is a Perturbed, but evaluation.num_held_out is 0, so nothing would be tested: "
        "set it to 11.",
    ),
    # names
    (
        {"name": "../elsewhere"},
        "name = '../elsewhere' cannot name a folder: use lower case and digits, words joined by '-'.",
    ),
    ({"name": ""}, "name = '' cannot name a folder: use lower case and digits, words joined by '-'."),
    (
        {"method": "Fed Avg"},
        "method = 'Fed Avg' cannot name a folder: use lower case and digits, words joined by '_'.",
    ),
    # lengths
    (
        {"num_clients": 4},
        "Explicit gives 3 values of half_length to 4 clients, but every client needs its own. "
        "Give 4 values, or set the number of clients to 3.",
    ),
    (
        {"agent__learning_rate": (1e-3, 1e-4)},
        "agent.learning_rate has 2 values for 3 clients, but every client needs its own: "
        "give one number for all, or 3.",
    ),
    (
        {"transforms": (HalfPrecision(), ClipNorm(max_norm=(1.0, 2.0, 3.0)))},
        "transforms[1].max_norm has 3 values, but all clients have it in common: give one number.",
    ),
    (
        {"server_optimizer": ServerSGD(learning_rate=(1.0, 0.5, 0.1))},
        "server_optimizer.learning_rate has 3 values, but all clients have it in common: give one number.",
    ),
    (
        {"evaluation__num_held_out": 3},
        "Explicit gives 2 values of half_length to 3 clients, but every client needs its own. "
        "Give 3 values, or set the number of clients to 2.",
    ),
    (
        {"num_envs": 3},
        "agent.replay_capacity = 10000 cannot be shared evenly by 3 environments: make it a multiple of 3.",
    ),
    (
        {"pooled": True},
        "agent.replay_capacity = 10000 cannot be shared evenly by 3 environments: make it a multiple of 3.",
    ),
    (
        {"num_envs": 5, "agent__replay_capacity": 10, "agent__n_step": 3},
        "agent.replay_capacity = 10 leaves each of 5 environments 2 steps, fewer than agent.n_step = 3: "
        "give at least 15.",
    ),
    (
        {"agent__survival": Survival.nothing(), "agent__learning_starts": (200, 201, 500), "local_steps": 200},
        "agent.learning_starts = 201 is more than local_steps = 200, but the replay is emptied every round, so nothing "
        "would ever be learned: start earlier, take more local steps, or let agent.survival.replay be kept.",
    ),
    (
        {"pooled": True, "agent__replay_capacity": 30_000, "agent__learning_rate": (1e-3, 1e-4, 1e-5)},
        "pooled trains one agent in the worlds of all clients, but agent.learning_rate has a number for each of "
        "them: give one number, or drop pooled from compare.",
    ),
    # environment and learner
    (
        {"environment": Pendulum(), "variation": Explicit()},
        "DQN chooses among a finite set of actions, but Pendulum takes continuous ones: "
        "use DDPG, or an environment with discrete actions, such as CartPole, Acrobot or MountainCar.",
    ),
    ({"agent__discount": 1.1}, "agent.discount = 1.1 is out of range: give a number from 0 to 1."),
    (
        {"variation": Explicit({"half_lenght": (1, 2, 3)})},
        "CartPole has no quantity 'half_lenght': did you mean 'half_length'? It has gravity, mass_cart, mass_pole, "
        "half_length, force, time_step, angle_limit, position_limit, reset_bound, reward.",
    ),
    (
        {"variation": Explicit({"half_length": (0.5, -1.0, 0.5)})},
        "half_length = -1 m at client 1 cannot be simulated by CartPole: it must lie in [0.001, 100] m. "
        "Change it in Explicit.",
    ),
    (
        {"variation": Grid({"half_length": (0.5, 1.0)})},
        "Grid makes 2 worlds (2 half_length) for 3 clients, but every client needs its own. "
        "Change the levels, or set the number of clients to 2.",
    ),
    (
        {"variation": Uniform([])},
        "Uniform names no quantity, so nothing would vary. Name some in groups, or use Explicit().",
    ),
    # rule and transforms
    (
        {"transforms": (SumOnly(),), "rule": WassersteinBarycenter()},
        "SumOnly reveals only the sum of the messages, but WassersteinBarycenter needs them one by one: "
        "use WeightedMean, or drop SumOnly.",
    ),
    (
        {"transforms": (ClipNorm(),), "rule": LocalOnly()},
        "LocalOnly sends no message, so ClipNorm would never act: drop ClipNorm, or use a rule that exchanges.",
    ),
    (
        {"transforms": (ClipNorm(),), "pooled": True, "agent__replay_capacity": 30_000},
        "A pooled agent sends no message, so ClipNorm would never act: drop ClipNorm, or do not pool.",
    ),
    (
        {"transforms": (ClipNorm(), HalfPrecision())},
        "HalfPrecision after ClipNorm may enlarge a message that was clipped, so the bound would no longer hold: "
        "put HalfPrecision before ClipNorm.",
    ),
    (
        {"transforms": (LoseMessages(), ClipNorm(), LoseMessages(), HalfPrecision())},
        "HalfPrecision after ClipNorm may enlarge a message that was clipped, so the bound would no longer hold: "
        "put HalfPrecision before ClipNorm.",
    ),
    (
        {"transforms": (ClipNorm(), DelayMessages())},
        "DelayMessages after ClipNorm may enlarge a message that was clipped, so the bound would no longer hold: "
        "put DelayMessages before ClipNorm.",
    ),
    (
        {"transforms": (Quorum(4),)},
        "A quorum of 4 is never met by 3 clients: lower transforms.least to 3 or less.",
    ),
    (
        {"transforms": (SecureSum(),), "rule": WeightedMean()},
        "SecureSum keeps from the server what each client has learned, but evaluation.own would judge it there: give "
        "evaluation.own = False, or drop SecureSum.",
    ),
    (
        {"rule": LocalOnly(), "server_optimizer": ServerMomentum()},
        "LocalOnly sends no message, so ServerMomentum would only change what a client has learned by itself: "
        "use ServerSGD(learning_rate=1), or use a rule that exchanges.",
    ),
    (
        {"rule": LocalOnly(), "server_optimizer": ServerSGD(learning_rate=0.5)},
        "LocalOnly sends no message, so ServerSGD would only change what a client has learned by itself: "
        "use ServerSGD(learning_rate=1), or use a rule that exchanges.",
    ),
    (
        {"pooled": True, "agent__replay_capacity": 30_000, "server_optimizer": ServerAdam()},
        "A pooled agent sends no message, so ServerAdam would only change what a client has learned by itself: "
        "use ServerSGD(learning_rate=1), or do not pool.",
    ),
    ({"transforms": (ClipNorm(0.0),)}, "transforms.max_norm = 0 is out of range: give a number from 1e-12 to 1e+12."),
    ({"transforms": (LoseMessages(1.5),)}, "transforms.probability = 1.5 is out of range: give a number from 0 to 1."),
    (
        {"rule": WassersteinBarycenter(power=3)},
        "WassersteinBarycenter has no power 3, so it cannot fuse. Use 2 or 1.",
    ),
    (
        {"server_optimizer": ServerSGD(learning_rate=0.0)},
        "ServerSGD got learning_rate=0.0, with which the broadcast cannot follow the merge. Give a number above 0.",
    ),
]


# fleets, and what clients send


def predicting(num=8, **distillation):
    """Fields of an experiment whose clients send predictions."""
    payload = Predictions(UniformStates(num=num), Distillation(**distillation))
    return {"payload": payload, "rule": Consensus(), "common_start": False}


def fleet(*agents, **fields):
    """Fields of an experiment whose clients are made differently; the first group is what is left of three clients."""
    first = Group(agents[0], 4 - len(agents))
    return {"agent": Mixed((first, *map(Group, agents[1:]))), "common_start": False, **fields}


GUEST = Made(lambda environment, params, seed: None)
UNLIKE = fleet(DQN(hidden=(4,)), DQN(hidden=(8,)))
ALONE = {"rule": LocalOnly(), "payload": Nothing()}

FITS = [
    predicting(),
    predicting(strength=(1.0, 0.5, 0.0), boltzmann=(1.0, 2.0, 3.0), payload="probabilities"),
    predicting(refresh="event") | {"transforms": (LoseMessages(),)},
    predicting(chunks=1) | {"transforms": (LoseMessages(), HalfPrecision())},
    predicting(refresh="event") | {"transforms": (LoseMessages(), SecureSum())},
    predicting(refresh="event") | {"transforms": (DelayMessages(),)},
    predicting() | {"rule": Consensus("trimmed_mean", trim=1)},
    UNLIKE | ALONE,
    UNLIKE | predicting(),
    fleet(DQN(), REINFORCE()) | predicting(payload="probabilities"),
    fleet(DQN(), GUEST) | predicting(),
    fleet(DQN(), GUEST) | ALONE,
    fleet(GUEST, GUEST) | predicting(),
]


@pytest.mark.parametrize("fields", FITS, ids=range(len(FITS)))
def test_fleets_that_fit_pass(fields):
    changed(**fields).check()


REFUSALS += [
    (
        UNLIKE | ALONE | {"common_start": True},
        "common_start = True would begin with one set of parameters for all, but the agents of this fleet are made "
        "differently: give common_start=False.",
    ),
    (
        predicting() | {"common_start": True},
        "common_start = True would begin with one set of parameters for all, but clients that send predictions show "
        "nobody their parameters: give common_start=False.",
    ),
    (
        UNLIKE,
        "The clients of agent.groups[0].agent and of agent.groups[1].agent send messages of different shapes, which "
        "nothing can merge: let them send Predictions of one kind, as fedhpd does, or nothing.",
    ),
    (
        fleet(DQN(), REINFORCE()) | predicting(),
        "The clients of agent.groups[0].agent and of agent.groups[1].agent send messages of different shapes, which "
        "nothing can merge: let them send Predictions of one kind, as fedhpd does, or nothing.",
    ),
    (
        predicting() | {"rule": WeightedMean()},
        "WeightedMean cannot merge what clients send, which are predictions: use Consensus.",
    ),
    (
        {"rule": Consensus()},
        "Consensus cannot merge what clients send, which are parameters: use WeightedMean, or the payload Predictions.",
    ),
    (
        {"payload": Nothing()},
        "payload = Nothing and rule = WassersteinBarycenter disagree on whether clients send anything: use Nothing "
        "with LocalOnly, or another of both.",
    ),
    (
        predicting() | {"rule": LocalOnly()},
        "payload = Predictions and rule = LocalOnly disagree on whether clients send anything: use Nothing with "
        "LocalOnly, or another of both.",
    ),
    (
        UNLIKE | ALONE | {"pooled": True},
        "pooled trains one agent in the worlds of all clients, but the agents of this fleet are made differently: drop "
        "pooled from compare.",
    ),
    (
        fleet(DQN(), GUEST),
        "agent.groups[1].agent was made elsewhere and shows nobody its parameters: let clients send Predictions, as "
        "fedhpd does, or nothing.",
    ),
    (
        {"agent": Mixed((Group(DQN(), 4),)), "common_start": False},
        "agent.groups have 4 clients, but num_clients = 3: make them equal.",
    ),
    (
        fleet(DQN(), DQN(learning_rate=(1e-3, 1e-4))) | ALONE,
        "agent.groups[1].agent.learning_rate has 2 values for 1 clients, but every client needs its own: give one "
        "number for all, or 1.",
    ),
    (
        UNLIKE | predicting(strength=(1.0, 0.5, 0.0)),
        "payload.distillation.strength has 3 values, but all clients have it in common: give one number.",
    ),
    (
        predicting(strength=(1.0, 0.5)),
        "payload.distillation.strength has 2 values for 3 clients, but every client needs its own: give one number for "
        "all, or 3.",
    ),
    (
        predicting() | {"rule": Consensus("trimmed_mean", trim=2)},
        "A mean without the 2 lowest and the 2 highest of 3 clients has nothing left: use a trim of 1 or less, or "
        'kind="median".',
    ),
    (
        predicting(num=9),
        "9 public states cannot be cut into distillation.chunks = 2 equal parts: change one of the two.",
    ),
    (
        predicting(num=0),
        "public_states.num = 0 states is out of range: give a number from 1 to 1e+07 states.",
    ),
    (
        predicting(form="joint", refresh="event"),
        'distillation.form = "joint" adds to the loss of a policy, but DQN learns values: use form = "steps".',
    ),
    (
        predicting() | {"transforms": (HalfPrecision(), LoseMessages())},
        "LoseMessages may lose every message of an exchange, after which clients would take the consensus on one part "
        'of the public states for that on the next: use distillation.refresh = "event", or drop LoseMessages.',
    ),
    (
        predicting() | {"transforms": (DelayMessages(),)},
        "DelayMessages counts rounds, but clients exchange messages 10 times in one, of which a late one would answer "
        'another: use distillation.refresh = "event", or drop DelayMessages.',
    ),
    (
        predicting(refresh="event") | {"transforms": (SecureSum(),), "rule": Consensus("median")},
        "SecureSum reveals only the sum of the messages, but Consensus needs them one by one: use "
        'Consensus("mean"), or drop SecureSum.',
    ),
]


REFUSALS += [
    (
        {"schedule": Drift({"half_lenght": 1.0})},
        "CartPole has no quantity 'half_lenght': did you mean 'half_length'? It has gravity, mass_cart, mass_pole, "
        "half_length, force, time_step, angle_limit, position_limit, reset_bound, reward.",
    ),
    (
        {"schedule": Drift({"force": 5.0}, first=101)},
        "schedule.first = 101 rounds is out of range: give a number from 1 to 100 rounds.",
    ),
    ({"joins": (1, 1, 101)}, "joins[2] = 101 is out of range: give a number from 1 to 100."),
    ({"joins": (2, 2, 2)}, "joins = (2, 2, 2) leaves nobody for round 1: let at least one client join in it."),
    (
        predicting() | {"joins": (1, 1, 5)},
        "A client that joins late does not know whose turn among the parts of the public states it is: use "
        'distillation.refresh = "event", or leave joins out.',
    ),
    (
        fleet(DQN(), GUEST) | predicting() | {"schedule": Drift({"force": 5.0})},
        "agent.groups[1].agent was made elsewhere and is given its world once, so Drift would not reach it: leave the "
        "schedule out, or use a learner of ours.",
    ),
]


@pytest.mark.parametrize(("fields", "sentence"), REFUSALS, ids=lambda x: " ".join(x) if isinstance(x, dict) else None)
def test_refuses_in_a_sentence(fields, sentence):
    with pytest.raises(ValueError, match=r"\.$") as refusal:
        changed(**fields).check()
    assert str(refusal.value) == sentence


@pytest.mark.parametrize(
    ("seeds", "sentence"),
    [
        ((), "No seed was given"),
        ((1, 2, 1), r"names one seed twice"),
        ((-1,), r"seed = -1 is out of range: give integers from 0 to 4294967295\."),
        ((0, 2**32), r"seed = 4294967296 is out of range"),
    ],
)
def test_refuses_seeds(seeds, sentence):
    check_seeds((0, 1, 2**32 - 1))
    with pytest.raises(ValueError, match=sentence):
        check_seeds(seeds)


def test_what_passes_can_be_laid_out_for_every_client():
    """What `check` lets through, `stacked` can do: no length is found out only then."""
    for fields, _ in [*((f, None) for f in ({"agent__learning_rate": (1e-3, 1e-4, 1e-5)}, {}))]:
        experiment = changed(**fields)
        experiment.check()
        assert stacked(experiment.agent, experiment.num_agents).learning_rate.shape == (3,)


def test_agents_and_worlds_are_counted():
    assert (BASE.num_agents, BASE.worlds_per_agent) == (3, 1)
    several = dataclasses.replace(BASE, num_envs=4)
    assert (several.num_agents, several.worlds_per_agent) == (3, 4)
    together = dataclasses.replace(several, pooled=True)
    assert (together.num_agents, together.worlds_per_agent) == (1, 12)


def test_defaults_are_federated_averaging():
    from polyfed.experiment import Experiment

    experiment = Experiment(name="x", environment=CartPole(), variation=Explicit(), num_clients=2)
    experiment.check()
    assert (experiment.rule, experiment.server_optimizer, experiment.method) == (WeightedMean(), ServerSGD(), "fedavg")
    assert experiment.agent == DQN()
    assert experiment.payload == Parameters()
    assert experiment.evaluation == Evaluation()
