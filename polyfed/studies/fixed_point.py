"""Study: whether FedRQ reaches the robust fixed point, how fast, and whether QAvg does.

The fixed point of Hwang and Hong (2025) is computed by robust value iteration around the mean environment, with common
neighbour sets. Distances are in the maximum norm, tables in float64. Environments, heterogeneity and budgets are ours;
the Robbins-Monro step size is `min(1, 2 / ((1 - discount)(t + E)))`.

References: hwang2025fedrq, jin2022qavg, robbins1951stochastic.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from polyfed.agents.federated_planning import plan
from polyfed.agents.q_averaging import QAvg
from polyfed.agents.step_sizes import Constant, RobbinsMonro
from polyfed.checks import in_range, whole_in_range
from polyfed.environments import planning
from polyfed.environments.random_mdps import random_mdps_common
from polyfed.environments.tabular import TabularMDPs
from polyfed.studies.draws import side_by_side
from polyfed.studies.merge_periods import check_periods
from polyfed.study import Curves, Findings, Line, Study, Table, Value, Watch

REACHED = 1e-6  # distance at which the fixed point counts as reached
POINTS = 40  # of a curve


class FixedPoint(Study):
    """Whether FedRQ reaches the robust fixed point, and at what rate.

    >>> FixedPoint(name="small", instances=2, planned_steps=64, sampled_steps=64, periods=(1, 8)).check()
    """

    omega: float = 0.2  # share of the worst neighbour, above 0, to 1
    kappa: float = 0.2  # how far the agents' environments differ, 0 to 1
    instances: int = eqx.field(default=4, static=True)  # per seed, 2 to 10^5
    num_agents: int = eqx.field(default=5, static=True)  # agents, 1 to 1000
    periods: tuple[int, ...] = eqx.field(default=(1, 8, 64), static=True)  # local steps between merges, from 1
    counts: tuple[int, ...] = eqx.field(default=(1, 2, 4, 8, 16, 32), static=True)  # agents, for the speed-up
    planned_steps: int = eqx.field(default=12800, static=True)  # local steps with known transitions
    sampled_steps: int = eqx.field(default=12800, static=True)  # local steps with one drawn successor each
    learning_rate: float = 0.05  # of the constant step, above 0, to 1

    def check(self) -> None:
        """Raise `ValueError` in one sentence if a field is out of range."""
        in_range("omega", self.omega, 1e-6, 1.0)
        in_range("kappa", self.kappa, 0.0, 1.0)
        in_range("learning_rate", self.learning_rate, 1e-6, 1.0)
        whole_in_range("instances", self.instances, 2, 10**5, "instances per seed")
        whole_in_range("num_agents", self.num_agents, 1, 1000, "agents")
        for name in ("periods", "counts"):
            for one in getattr(self, name):
                whole_in_range(name, one, 1, 10**6)
        for name in ("planned_steps", "sampled_steps"):
            whole_in_range(name, getattr(self, name), 1, 10**7, "local steps")
            check_periods(self.periods, getattr(self, name))
        if not self.counts:
            raise ValueError("counts is empty, so there is no number of agents to try: give e.g. 1 2 4 8.")

    def answer(self, seeds: tuple[int, ...], watch: Watch) -> Findings:
        """Compute everything in float64."""
        with jax.enable_x64(True):
            planned = self._planned(seeds, watch)
            sampled = self._sampled(seeds, watch)
            speed = self._speed_up(seeds, watch)
        return _findings(self, seeds, planned, sampled, speed)

    def worlds(self, seeds: tuple[int, ...], num_agents: int, kappa: float) -> TabularMDPs:
        """Instances of all seeds with common neighbour sets."""
        return side_by_side(
            lambda seed: random_mdps_common(
                jax.random.key(seed), self.instances, num_agents, kappa=kappa, dtype=jnp.float64
            ),
            jnp.asarray(seeds),
        )

    def _planned(self, seeds: tuple[int, ...], watch: Watch) -> dict[str, np.ndarray]:
        """Distances `[N, T]` by arm, transitions known."""
        mdps = self.worlds(seeds, self.num_agents, self.kappa)
        robust, plain = fixed_point(mdps, self.omega), fixed_point(mdps, 0.0)
        found: dict[str, np.ndarray] = {}
        short = min(self.planned_steps, 640)
        once: list[tuple[str, Any, int, Any, int]] = [
            ("FedRQ, α = 1, E = 1", QAvg(omega=self.omega, step_size=Constant(1.0)), 1, robust, short),
            ("QAvg to the robust fixed point", QAvg(step_size=Constant(1.0)), 1, robust, short),
            ("QAvg to its own", QAvg(step_size=Constant(1.0)), 1, plain, short),
        ]
        for period in self.periods:
            rate, label = RobbinsMonro.paper(mdps.discount, period), f"E = {period}"
            robust_way = QAvg(omega=self.omega, step_size=rate)
            once.append((f"FedRQ, Robbins–Monro, {label}", robust_way, period, robust, self.planned_steps))
            kept = QAvg(omega=self.omega, step_size=Constant(self.learning_rate))
            once.append((f"FedRQ, constant, {label}", kept, period, robust, self.planned_steps))
        for i, (name, way, period, reference, steps) in enumerate(once):
            run = plan(way, mdps, local_steps=period, num_steps=steps, reference=reference, curves=True)
            found[name] = np.asarray(run.curves["distance"])
            watch(f"known transitions: {name}", 0.4 * (i + 1) / len(once))
        return found

    def _sampled(self, seeds: tuple[int, ...], watch: Watch) -> dict[str, np.ndarray]:
        """Distances `[N, T]` by arm, successors drawn."""
        mdps = self.worlds(seeds, self.num_agents, self.kappa)
        reference = fixed_point(mdps, self.omega)
        found: dict[str, np.ndarray] = {}
        for i, period in enumerate(self.periods):
            for name, rate in (
                ("constant", Constant(self.learning_rate)),
                ("Robbins–Monro", RobbinsMonro.paper(mdps.discount, period)),
            ):
                way = QAvg(omega=self.omega, step_size=rate, sampled=True)
                run = plan(
                    way, mdps, local_steps=period, num_steps=self.sampled_steps, reference=reference, curves=True,
                    key=jax.random.key(seeds[0]),
                )  # fmt: skip
                found[f"{name}, E = {period}"] = np.asarray(run.curves["distance"])
            watch(f"drawn successors: E = {period}", 0.4 + 0.3 * (i + 1) / len(self.periods))
        return found

    def _speed_up(self, seeds: tuple[int, ...], watch: Watch) -> dict[str, np.ndarray]:
        """The late distance `[N, counts]`, agents alike, so that nothing but noise is left to average."""
        found: dict[str, list[np.ndarray]] = {}
        for i, num in enumerate(self.counts):
            mdps = self.worlds(seeds, num, 0.0)
            reference = fixed_point(mdps, self.omega)
            for name, rate in (
                ("constant", Constant(self.learning_rate)),
                ("Robbins–Monro", RobbinsMonro.paper(mdps.discount, 1)),
            ):
                way = QAvg(omega=self.omega, step_size=rate, sampled=True)
                steps = min(self.sampled_steps, 3200)
                run = plan(
                    way, mdps, local_steps=1, num_steps=steps, reference=reference, curves=True,
                    key=jax.random.key(seeds[0]),
                )  # fmt: skip
                found.setdefault(name, []).append(late(np.asarray(run.curves["distance"])))
            watch(f"drawn successors: {num} agent{chr(115) * (num > 1)}", 0.7 + 0.3 * (i + 1) / len(self.counts))
        return {name: np.stack(rows, axis=1) for name, rows in found.items()}


def fixed_point(mdps: TabularMDPs, omega: float, neighbours: Any = None) -> jax.Array:
    """The robust optimal tables around the mean environments, `[N, S, A]`; neighbours `[N, S, S]`, or the union.

    >>> mdps = random_mdps_common(jax.random.key(0), 2, 3)
    >>> fixed_point(mdps, 0.2).shape
    (2, 5, 5)
    """
    moves = jnp.moveaxis(mdps.transitions, 0, -1)
    rewards = jnp.moveaxis(mdps.rewards[:, 0], 0, -1)
    sets = planning.neighbour_sets(moves) if neighbours is None else jnp.moveaxis(neighbours, 0, -1)
    mean = jnp.mean(moves, axis=0)
    tolerance = 1e-13 if mean.dtype == jnp.float64 else 1e-6
    return jnp.moveaxis(_iterated(mean, rewards, sets, omega, (float(mdps.discount), tolerance)), -1, 0)


@partial(jax.jit, static_argnums=4)
def _iterated(mean: Any, rewards: Any, sets: Any, omega: Any, how: tuple[float, float]) -> jax.Array:
    discount, tolerance = how
    return planning.robust_value_iteration(mean, rewards, discount, omega=omega, neighbours=sets, tolerance=tolerance)


def late(distance: np.ndarray) -> np.ndarray:
    """Mean over the last quarter of the rounds, `[N, T]` to `[N]`; what is NaN between rounds is left out.

    >>> late(np.array([[4.0, 3.0, 2.0, 1.0]])).tolist()
    [1.0]
    """
    known = distance[:, ~np.isnan(distance[0])]
    return known[:, -max(1, known.shape[1] // 4) :].mean(axis=1)


def thinned(distance: np.ndarray, points: int = POINTS) -> tuple[np.ndarray, np.ndarray]:
    """Steps, about evenly spaced on a logarithmic axis, and the distances `[N, points]` at them.

    >>> thinned(np.array([[4.0, np.nan, 2.0, 1.0]]))[0].tolist()
    [1, 3, 4]
    """
    (known,) = np.nonzero(~np.isnan(distance[0]))
    wanted = np.unique(np.geomspace(1, len(known), points).round().astype(int)) - 1
    return known[wanted] + 1, distance[:, known[wanted]]


def slope(x: Any, samples: np.ndarray) -> Value:
    """The exponent `b` of `y ~ x^b`, by least squares in logarithms per instance, with its interval over instances.

    >>> slope([1, 2, 4], np.array([[1.0, 0.5, 0.25], [2.0, 1.0, 0.5]])).value
    -1.0
    """
    x = np.log(np.asarray(x, float))
    centred = x - x.mean()
    return Value.interval(np.log(np.maximum(samples, 1e-16)) @ centred / np.sum(centred**2))


def _findings(
    study: FixedPoint, seeds: tuple[int, ...], planned: dict[str, np.ndarray], sampled: dict[str, np.ndarray],
    speed: dict[str, np.ndarray],
) -> Findings:  # fmt: skip
    known, drawn, many = "Known transitions", "Drawn successors", "Number of agents"
    tables = [_ends(known, planned), _ends(drawn, sampled)]
    curves = [
        _figure("known", known, {k: v for k, v in planned.items() if "α = 1" in k or "QAvg" in k},
                "Agents that know their transitions, merged after each full backup."),
        _figure("known-periods", known, {k: v for k, v in planned.items() if "constant" in k or "Monro" in k},
                "FedRQ with smaller steps: a constant one, and one that shrinks."),
        _figure("sampled", drawn, sampled, "FedRQ, one successor drawn for every state and action at a step."),
    ]  # fmt: skip
    if len(study.counts) > 1:
        lines = [Line.geometric(name, study.counts, rows) for name, rows in speed.items()]
        curves.append(
            Curves("agents", "Late distance to the robust fixed point", "agents, all alike", tuple(lines),
                   "Mean distance over the last quarter of the steps, E = 1.", log_x=True, log_y=True, section=many)
        )  # fmt: skip
        head = ("Step size", *(f"{num} agents" if num > 1 else "1 agent" for num in study.counts), "exponent")
        rows: list[tuple[str | Value, ...]] = [
            (name, *map(Value.interval, found.T), slope(study.counts, found)) for name, found in speed.items()
        ]
        note = (
            "Late distance by number of agents, all alike, and b in distance ~ agents^b; −1/2 is the noise of a mean."
        )
        tables.append(Table("Noise by number of agents", head, tuple(rows), note, section=many))
    num = len(seeds) * study.instances
    facts = (("instances", str(num)), ("ω, κ", f"{study.omega:g}, {study.kappa:g}"))
    return Findings(_verdict(study, planned, sampled, speed), tuple(tables), tuple(curves), facts, NOTES)


def _ends(title: str, found: dict[str, np.ndarray]) -> Table:
    rows = []
    for name, distance in found.items():
        steps, values = thinned(distance)
        half = [i for i in range(len(steps)) if steps[i] >= steps[-1] / 10]
        last = Value.interval(values[:, -1])
        exponent: Value | str = slope(steps[half], values[:, half]) if values[:, -1].min() > 1e-12 else "–"
        rows.append((name, Value.interval(late(distance)), last, Value(float(values[:, -1].max())), exponent))
    head = ("Arm", "late distance", "at the end", "worst instance", "exponent")
    note = (
        "Maximum norm, mean over instances. Late: mean over the last quarter of the rounds. Exponent: b in "
        "distance ~ t^b over the last nine tenths of the steps; 0 is a floor."
    )
    return Table(title, head, tuple(rows), note, section=title)


def _figure(name: str, section: str, found: dict[str, np.ndarray], note: str) -> Curves:
    lines = tuple(Line.geometric(label, *thinned(distance)) for label, distance in found.items())
    title = "Distance to the fixed point"
    return Curves(name, title, "local steps", lines, note, log_x=True, log_y=True, section=section)


def _verdict(
    study: FixedPoint, planned: dict[str, np.ndarray], sampled: dict[str, np.ndarray], speed: dict[str, np.ndarray]
) -> tuple[str, ...]:
    fedrq = planned["FedRQ, α = 1, E = 1"]
    worst = np.max(fedrq, axis=0)
    steps = int(np.argmax(worst <= REACHED)) + 1 if np.any(worst <= REACHED) else 0
    said = (
        f"With known transitions FedRQ comes within {REACHED:g} of the robust fixed point on all instances after "
        f"{steps} steps"
        if steps
        else f"With known transitions FedRQ did not come within {REACHED:g} of the robust fixed point"
    )
    own, far = planned["QAvg to its own"], planned["QAvg to the robust fixed point"]
    first = (
        f"{said}; QAvg ends {_say(Value.interval(far[:, -1]))} away from it, and {own[:, -1].max():.1g} from its own."
    )
    second = [
        f"E = {period}: {planned[f'FedRQ, Robbins–Monro, E = {period}'][:, -1].max():.1g} with Robbins–Monro steps and "
        f"{planned[f'FedRQ, constant, E = {period}'][:, -1].max():.1g} with constant ones"
        for period in study.periods
    ]
    third = [
        f"E = {period}: {_say(Value.interval(late(sampled[f'Robbins–Monro, E = {period}'])))} with Robbins–Monro and "
        f"{_say(Value.interval(late(sampled[f'constant, E = {period}'])))} with constant steps"
        for period in study.periods
    ]
    sentences = [
        first,
        f"Known transitions, worst instance after {study.planned_steps} steps, {'; '.join(second)}.",
        f"Drawn successors, late distance, {'; '.join(third)}.",
    ]
    if len(study.counts) > 1:
        rates = [f"{_say(slope(study.counts, rows))} with {name} steps" for name, rows in speed.items()]
        sentences.append(f"The late distance goes with the number of agents to the power of {', '.join(rates)}.")
    return tuple(sentences)


def _say(value: Value) -> str:
    if not math.isfinite(value.value):
        return "–"
    bounds = "" if value.low is None else f" [{value.low:.2g}, {value.high:.2g}]"
    return f"{value.value:.2g}{bounds}".replace("-", "−")


NOTES = (
    "The fixed point is that of Hwang and Hong (2025): Q = r + γ((1 − ω) P̄ max Q + ω min over N_s of max Q), P̄ the "
    "mean of the agents’ transitions, N_s common to all. It is computed by robust value iteration to 1e−13.",
    "Instances are ours: 5 states, 5 actions, γ = 0.9, supports of density one half that are common to the actions and "
    "the agents, P_k = (1 − κ) P_0 + κ U_k.",
    "A constant step with E > 1 has another fixed point: agents that plan for themselves between merges pull the mean "
    "away, the more so the larger the step. Robbins–Monro steps take that away with time, like 1/t at best.",
    "“Drawn successors” is a generative model: one successor for every state and action at each step. The learner that "
    "walks through a world is another, QLearning.",
)
