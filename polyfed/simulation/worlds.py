"""The worlds of an experiment: where clients live in every round, and where policies are judged."""

from __future__ import annotations

import math
from typing import Any

import jax
import numpy as np

from polyfed.environments.course import Course
from polyfed.environments.schedule import check_schedule, each_station
from polyfed.environments.variation import Worlds, every_quantity, params_of
from polyfed.experiment import Experiment


def draws_each_seed(experiment: Experiment) -> bool:
    """Whether every seed has a fleet of its own, see `Uniform`."""
    return getattr(experiment.variation, "each_seed", False)


def seeds_of_fleets(experiment: Experiment, seeds: tuple[int, ...]) -> tuple[int, ...]:
    """The seeds whose fleets differ: the first, or all where every seed has a fleet of its own."""
    return seeds if draws_each_seed(experiment) else seeds[:1]


def course(experiment: Experiment, seed: int) -> Course:
    """The worlds in which the clients of a seed train, round by round, leaves `[C, ...]`."""
    environment, num_clients, schedule = experiment.environment, experiment.num_clients, experiment.schedule
    variation: Any = experiment.variation
    if draws_each_seed(experiment):
        variation = variation.of_seed(seed)
    if not schedule.stations:
        return Course(variation.params(environment, num_clients))
    check_schedule(schedule, environment, variation, num_clients, experiment.num_rounds)
    stations = each_station(schedule, environment, variation, num_clients)
    return Course.through({r: params_of(worlds, environment, num_clients) for r, worlds in stations.items()})


def stood_in(course: Course, joins: np.ndarray) -> Course:
    """The worlds of an agent for all: for a client that has not joined, one that is there from the first stands in.

    Args:
      course: Leaves `[C, ...]`.
      joins: `[C]`, the first round in which each client takes part.

    >>> import jax.numpy as jnp
    >>> lived = stood_in(Course(jnp.float32([0.5, 2.0])), np.array([1, 6]))
    >>> lived.at(5).tolist(), lived.at(6).tolist()
    ([0.5, 0.5], [0.5, 2.0])
    """
    late, everyone = joins > 1, np.arange(len(joins))
    if not late.any():
        return course
    members = everyone[~late]
    stand_in = members[everyone % len(members)]
    rounds = {*course.rounds, *(joins[late] - 1).tolist(), *joins[late].tolist()}
    who = {round_: np.where(late & (joins > round_), stand_in, everyone) for round_ in sorted(rounds)}
    return Course.through({r: jax.tree.map(lambda x, own=own: x[own], course.at(r)) for r, own in who.items()})


def fleet(experiment: Experiment, seed: int) -> Any:
    """The worlds of the clients of a seed when the run is over, leaves `[C, ...]`."""
    return course(experiment, seed).at(experiment.num_rounds)


def evaluation_worlds(experiment: Experiment, trained: Any) -> Any:
    """The worlds in which policies are judged, leaves `[M, ...]`: the clients', then the held-out ones.

    Args:
      experiment: Says where policies are judged.
      trained: The fleet, leaves `[C, ...]`.
    """
    evaluation, environment = experiment.evaluation, experiment.environment
    judged = environment.judged(trained)
    if not evaluation.num_held_out:
        return judged
    return environment.join(judged, evaluation.held_out.params(environment, evaluation.num_held_out))


def fleet_values(experiment: Experiment, seed: int) -> dict[str, list[float]]:
    """By quantity, what varies between the worlds of `fleet`, `[C]`.

    >>> from polyfed.experiments import load
    >>> fleet_values(load("cartpole-poles"), 0)
    {'half_length': [0.25, 0.5, 1.0]}
    """
    variation: Any = experiment.variation
    if draws_each_seed(experiment):
        variation = variation.of_seed(seed)
    return {name: [float(value) for value in row] for name, row in _in_the_end(experiment, variation).items()}


def _in_the_end(experiment: Experiment, variation: Any) -> Worlds:
    """By quantity, what varies or has moved when the run is over, `[C]`."""
    environment, num_clients = experiment.environment, experiment.num_clients
    clients: Worlds = variation.worlds(environment, num_clients)
    if not (names := experiment.schedule.names):
        return clients
    last = experiment.schedule.worlds(every_quantity(variation, environment, num_clients), experiment.num_rounds)
    return {name: last[name] for name in dict.fromkeys([*clients, *names])}


def world_values(experiment: Experiment) -> tuple[dict[str, list[float]], dict[str, str]]:
    """What differs between the environments of the evaluation when the run is over, and the units.

    Returns:
      `({"half_length": [0.25, 0.5, 1.0, ...]}, {"half_length": "m"})`, clients first, then held-out; NaN for clients
      where every seed has a fleet of its own.
    """
    environment, evaluation = experiment.environment, experiment.evaluation
    known, num_clients = environment.quantities(), experiment.num_clients
    clients: Any = _in_the_end(experiment, experiment.variation)
    if draws_each_seed(experiment):
        clients = {name: np.full(num_clients, math.nan) for name in clients}
    held_out = evaluation.held_out.worlds(environment, evaluation.num_held_out) if evaluation.num_held_out else {}
    values = {}
    for name in dict.fromkeys([*clients, *held_out]):
        nominal = float(known[name]["default"])
        trained = [float(x) for x in clients.get(name, [nominal] * num_clients)]
        values[name] = trained + [float(x) for x in held_out.get(name, [nominal] * evaluation.num_held_out)]
    return values, {name: known[name]["unit"] for name in values}
