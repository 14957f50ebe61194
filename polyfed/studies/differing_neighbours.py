"""Study: what FedRQ loses where the agents' neighbour sets differ, against its assumption that they are the same.

Assumption 1 of Hwang and Hong (2025): the one-step neighbour sets are common to all agents. Here every agent misses
each neighbour of a state with some probability. FedRQ with the union of the sets, known to all, still has the robust
fixed point of that union; FedRQ with each agent's own sets, which are all that it could learn alone, has another one.
How far apart they are, and what the policy loses, is measured exactly: transitions are known. All of it is ours.

References: hwang2025fedrq.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from polyfed.agents.federated_planning import plan
from polyfed.agents.q_averaging import QAvg
from polyfed.agents.step_sizes import Constant
from polyfed.checks import in_range, whole_in_range
from polyfed.environments import planning
from polyfed.environments.random_mdps import random_mdps_common
from polyfed.environments.tabular import TabularMDPs
from polyfed.studies.draws import side_by_side
from polyfed.studies.fixed_point import POINTS, fixed_point, slope, thinned
from polyfed.study import Curves, Findings, Line, Study, Table, Value, Watch


class Level(eqx.Module):
    """What was measured at one share of missing neighbours; every array is `[N]` but the curves `[N, T]`."""

    violated: np.ndarray  # share of the union's neighbours that an agent lacks
    distance: np.ndarray  # of the tables with own sets to the robust fixed point, maximum norm
    bound: np.ndarray  # on it
    spread: np.ndarray  # max minus min of the robust fixed point, its scale
    robust: dict[str, np.ndarray]  # worst-case value of each policy
    average: dict[str, np.ndarray]  # mean value over the agents' own environments
    known: np.ndarray  # distance with union sets, by step
    own: np.ndarray  # distance with own sets, by step


UNION, OWN, PLAIN = "FedRQ, union sets", "FedRQ, own sets", "QAvg"


class DifferingNeighbours(Study):
    """What is lost where neighbour sets differ between agents, and how fast that grows.

    >>> DifferingNeighbours(name="small", instances=2, num_steps=64).check()
    """

    omega: float = 0.2  # share of the worst neighbour, above 0, to 1
    kappa: float = 0.2  # how far the agents' environments differ besides, 0 to 1
    missing: tuple[float, ...] = eqx.field(default=(0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5), static=True)  # 0 to below 1
    instances: int = eqx.field(default=40, static=True)  # per seed, 2 to 10^5
    num_agents: int = eqx.field(default=5, static=True)  # agents, 2 to 1000
    num_steps: int = eqx.field(default=320, static=True)  # local steps, each followed by a merge, 1 to 10^6

    def check(self) -> None:
        """Raise `ValueError` in one sentence if a field is out of range."""
        in_range("omega", self.omega, 1e-6, 1.0)
        in_range("kappa", self.kappa, 0.0, 1.0)
        in_range("missing", self.missing, 0.0, 0.99)
        if len(set(self.missing)) < len(self.missing):
            raise ValueError(f"missing = {self.missing} names one share twice: give different ones, e.g. 0 0.1 0.3.")
        whole_in_range("instances", self.instances, 2, 10**5, "instances per seed")
        whole_in_range("num_agents", self.num_agents, 2, 1000, "agents")
        whole_in_range("num_steps", self.num_steps, 1, 10**6, "local steps")

    def answer(self, seeds: tuple[int, ...], watch: Watch) -> Findings:
        """Measure every share on the same instances, in float64."""
        with jax.enable_x64(True):
            mdps = self.worlds(seeds)
            everything = self._measured(mdps, watch)  # all shares side by side
        num = len(seeds) * self.instances
        levels = {
            share: jax.tree.map(lambda x, i=i: x[i * num : (i + 1) * num], everything)
            for i, share in enumerate(self.missing)
        }
        watch("values", 1.0)
        return _findings(self, levels)

    def worlds(self, seeds: tuple[int, ...]) -> TabularMDPs:
        """Instances of all shares and seeds, in this order; the same for every share but for what is missing."""

        def draw(seed: jax.Array, missing: jax.Array) -> TabularMDPs:
            key = jax.random.key(seed)
            how: dict[str, Any] = {"kappa": self.kappa, "missing": missing, "dtype": jnp.float64}
            return random_mdps_common(key, self.instances, self.num_agents, **how)

        which = jnp.asarray([seed for _ in self.missing for seed in seeds])
        return side_by_side(draw, which, jnp.repeat(jnp.asarray(self.missing, jnp.float32), len(seeds)))

    def _measured(self, mdps: TabularMDPs, watch: Watch) -> Level:
        own_sets = jnp.any(mdps.transitions > 0, axis=3)  # [N, K, S, S]
        union = jnp.any(own_sets, axis=1)
        reference, plain = fixed_point(mdps, self.omega, union), fixed_point(mdps, 0.0)
        runs = {}
        for name, sets in ((UNION, union[:, None]), (OWN, own_sets)):
            runs[name] = plan(
                QAvg(omega=self.omega, step_size=Constant(1.0)), mdps, local_steps=1, num_steps=self.num_steps,
                neighbours=sets, reference=reference, curves=True,
            )  # fmt: skip
            watch(name, 0.4 * len(runs))
        tables = {UNION: runs[UNION].message, OWN: runs[OWN].message, PLAIN: plain}
        judge = lambda name: worst_case_and_average(tables[name], mdps, self.omega, union)  # noqa: E731
        judged = {name: judge(name) for name in tables}
        values = np.asarray(jnp.max(reference, axis=2))
        return Level(
            violated=1 - np.asarray(jnp.mean(jnp.sum(own_sets, axis=(2, 3)) / jnp.sum(union, (1, 2))[:, None], axis=1)),
            distance=np.asarray(runs[OWN].curves["distance"])[:, -1],
            bound=distance_bound(np.asarray(reference), np.asarray(own_sets), self.omega, mdps.discount),
            spread=values.max(1) - values.min(1),
            robust={name: both[0] for name, both in judged.items()},
            average={name: both[1] for name, both in judged.items()},
            known=np.asarray(runs[UNION].curves["distance"]),
            own=np.asarray(runs[OWN].curves["distance"]),
        )


def worst_case_and_average(q: Any, mdps: TabularMDPs, omega: float, neighbours: Any) -> tuple[np.ndarray, np.ndarray]:
    """What the greedy policy of a table `[N, S, A]` is worth in the worst case and, on average, in the agents' worlds.

    The first is `E_{d_0} V` of `V = r_pi + discount ((1 - omega) P_pi V + omega min_{N_s} V)`, `P` the mean; both
    are `[N]`.

    >>> mdps = random_mdps_common(jax.random.key(0), 2, 3)
    >>> union = jnp.any(mdps.transitions > 0, axis=(1, 3))
    >>> worst, average = worst_case_and_average(fixed_point(mdps, 0.2), mdps, 0.2, union)
    >>> bool((worst < average).all())
    True
    """
    moves = jnp.moveaxis(mdps.transitions, 0, -1)
    rewards, sets = jnp.moveaxis(mdps.rewards[:, 0], 0, -1), jnp.moveaxis(neighbours, 0, -1)
    policy = planning.greedy(jnp.moveaxis(jnp.asarray(q), 0, -1))
    mean, start = jnp.mean(moves, axis=0), mdps.start[:, None]

    def sweep(values: jax.Array, _: None) -> tuple[jax.Array, None]:
        table = planning.robust_backup(values, mean, rewards, mdps.discount, omega=omega, neighbours=sets)
        return jnp.sum(policy * table, axis=1), None

    sweeps = int(np.ceil(np.log(1e-13) / np.log(mdps.discount)))
    values, _ = jax.lax.scan(sweep, jnp.zeros_like(rewards[:, 0]), None, length=sweeps)
    average = jnp.mean(planning.objective(policy, moves, rewards, start, mdps.discount), axis=0)
    return np.asarray(jnp.sum(start * values, axis=0)), np.asarray(average)


def distance_bound(reference: np.ndarray, own_sets: np.ndarray, omega: float, discount: float) -> np.ndarray:
    """`discount omega / (1 - discount) max_s mean_k (min_{N_s^k} V* - min_{N_s} V*)`, `[N]`; ours.

    Both backups are contractions of modulus `discount`, so the distance of their fixed points is at most that of the
    two backups of one of them, over `1 - discount`.

    >>> sets = np.array([[[[True, True], [True, True]], [[True, False], [True, True]]]])
    >>> distance_bound(np.array([[[2.0], [1.0]]]), sets, 0.2, 0.5).round(3).tolist()
    [0.1]
    """
    values = reference.max(axis=2)[:, None, None]  # [N, 1, 1, S]
    own = np.where(own_sets, values, np.inf).min(axis=3)  # [N, K, S]
    union = np.where(own_sets.any(axis=1, keepdims=True), values, np.inf).min(axis=3)
    return discount * omega / (1 - discount) * (own - union).mean(axis=1).max(axis=1)


def _findings(study: DifferingNeighbours, levels: dict[float, Level]) -> Findings:
    shares, x = list(levels.values()), [float(level.violated.mean()) for level in levels.values()]
    apart, worth = "Distance", "Worth"
    rows = [
        (f"{share:g}", Value.interval(one.violated), Value.interval(one.distance), Value.interval(one.bound),
         Value.interval(one.distance / one.spread), Value.interval(one.known[:, -1]))
        for share, one in levels.items()
    ]  # fmt: skip
    head = ("Missing", "lacking", "own sets, distance", "bound", "over the spread", "union sets, distance")
    note = (
        "Missing: chance that an agent never sees a neighbour. Lacking: share of the union’s neighbours that an agent "
        "has not, in fact. Distance: maximum norm to the robust fixed point of the union. Spread: its best state’s "
        "value minus its worst’s."
    )
    table = Table("How far from the robust fixed point", head, tuple(rows), note, section=apart)
    curves = [
        Curves("distance", "Distance to the robust fixed point", "share of the union’s neighbours that an agent lacks",
               (Line.over("own sets", x, np.stack([one.distance for one in shares], 1)),
                Line.over("bound", x, np.stack([one.bound for one in shares], 1)),
                Line.over("union sets", x, np.stack([one.known[:, -1] for one in shares], 1))), section=apart),
        Curves("steps", "Distance to the robust fixed point", "local steps, merged after each", _steps(levels),
               "With union sets the distance goes to rounding; with own sets it stops.", log_x=True, log_y=True,
               section=apart),
    ]  # fmt: skip
    losses = {name: [one.robust[name] - one.robust[UNION] for one in shares] for name in (OWN, PLAIN)}
    gains = {name: [one.average[name] - one.average[UNION] for one in shares] for name in (OWN, PLAIN)}
    for key, title, found in (
        ("worst", "Worst-case value minus that with union sets", losses),
        ("average", "Mean value in the agents’ worlds minus that with union sets", gains),
    ):
        lines = tuple(Line.over(name, x, np.stack(rows, axis=1)) for name, rows in found.items())
        curves.append(Curves(key, title, "share of the union’s neighbours that an agent lacks", lines, section=worth))
    facts = (("instances", str(len(shares[0].distance))), ("ω, κ", f"{study.omega:g}, {study.kappa:g}"))
    return Findings(_verdict(levels), (table, _worth(levels)), tuple(curves), facts, NOTES)


def _steps(levels: dict[float, Level]) -> tuple[Line, ...]:
    last = max(levels)
    lines = [Line.geometric(f"union sets, {last:g} missing", *thinned(levels[last].known, POINTS))]
    shown = [share for share in levels if share > 0][:: max(1, len(levels) // 3)]
    return (*lines, *(Line.geometric(f"own sets, {s:g} missing", *thinned(levels[s].own, POINTS)) for s in shown))


def _worth(levels: dict[float, Level]) -> Table:
    rows = [
        (f"{share:g}", Value.interval(one.robust[UNION]), Value.interval(one.robust[OWN] - one.robust[UNION]),
         Value.interval(one.robust[PLAIN] - one.robust[UNION]), Value.interval(one.average[OWN] - one.average[UNION]),
         Value.interval(one.average[PLAIN] - one.average[UNION]))
        for share, one in levels.items()
    ]  # fmt: skip
    head = (
        "Missing",
        "worst case, union",
        "own − union",
        "QAvg − union",
        "average, own − union",
        "average, QAvg − union",
    )
    note = (
        "Values of the greedy policies. Worst case: over the covering set around the mean with union sets. Average: in "
        "the agents’ own environments. Differences are on the same instances."
    )
    return Table("What the policies are worth", head, tuple(rows), note, section="Worth")


def _verdict(levels: dict[float, Level]) -> tuple[str, ...]:
    share, last = max(levels), levels[max(levels)]
    worst = max(float(one.known[:, -1].max()) for one in levels.values())
    distance, lacking = Value.interval(last.distance), float(last.violated.mean())
    said = [
        f"With the union of the sets known, FedRQ ends {worst:.1g} from the robust fixed point at worst. "
        f"With own sets FedRQ ends {_say(distance)} away where agents lack {100 * lacking:.0f} % of the neighbours, "
        f"{100 * float(np.mean(last.distance / last.spread)):.0f} % of the spread of its values."
    ]
    violated = [one for one in levels.values() if one.violated.mean() > 0]
    if len(violated) > 1:
        x = [float(one.violated.mean()) for one in violated]
        means = np.array([[float(one.distance.mean()) for one in violated]])
        said.append(f"The mean distance grows like the lacking share to the power of {slope(x, means).value:.2f}.")
    own, plain = (Value.interval(last.robust[name] - last.robust[UNION]) for name in (OWN, PLAIN))
    said.append(
        f"In the worst case the policy with own sets is worth {_say(own)} against the one with union sets, and that of "
        f"QAvg {_say(plain)}, at {share:g} missing."
    )
    return tuple(said)


def _say(value: Value) -> str:
    bounds = "" if value.low is None else f" [{value.low:.2g}, {value.high:.2g}]"
    return f"{value.value:.2g}{bounds}".replace("-", "−")


NOTES = (
    "Common neighbour sets are Assumption 1 of FedRQ (Hwang and Hong 2025). How it is violated here, and every "
    "measure of that, is ours: 5 states, 5 actions, γ = 0.9, supports common to actions; an agent misses each "
    "neighbour with the given probability, one always stays, and its probabilities are normalised again.",
    "With what is missing the agents’ transitions change too, and so does the mean; the fixed point is that of the "
    "same instance at the same share, so distances are due to the sets alone.",
    "Own sets are the best that an agent can learn from its own experience; sets learned from few samples are smaller.",
    "The bound is γω / (1 − γ) times the largest mean difference of the two minima; both backups are contractions.",
)
