"""Study: what a policy learned from environments around a centre is worth in the centre, as they move away from it.

The series is that of the released code of Jin et al. (2022): the centre `P_0` is one of five training environments, the
others are `(1 - kappa) P_0 + kappa U_k`. QAvg, SoftPAvg and ProjPAvg run with that code's settings; FedRQ (Hwang and
Hong 2025) beside them, with its own QAvg of `omega = 0`, is ours: expectations known, Robbins-Monro steps.

References: jin2022qavg, hwang2025fedrq.
"""

from __future__ import annotations

import equinox as eqx
import numpy as np

from polyfed.agents.federated_planning import plan
from polyfed.agents.policy_averaging import PAvg
from polyfed.agents.q_averaging import QAvg
from polyfed.agents.step_sizes import RobbinsMonro
from polyfed.checks import in_range, whole_in_range
from polyfed.environments.tabular import TabularMDPs
from polyfed.studies import released
from polyfed.studies.merge_periods import check_choices, check_periods
from polyfed.studies.released import METHODS, NEVER, SCRIPTS_AROUND, WORLDS, period_name
from polyfed.study import Curves, Findings, Line, Study, Table, Value, Watch

FEDRQ = "fedrq"
LEAST = 0.01  # of a value, in verdicts: less is called level

Centres = dict[tuple[str, str, int], np.ndarray]  # by world, method, period: [levels of kappa, instances]


class TowardsTheCentre(Study):
    """How the value on the centre environment falls as the agents' environments move apart.

    >>> TowardsTheCentre(name="small", kappas=(0.0, 1.0)).check()
    """

    methods: tuple[str, ...] = eqx.field(default=(*METHODS, FEDRQ), static=True)  # qavg, soft_pavg, proj_pavg, fedrq
    omegas: tuple[float, ...] = eqx.field(default=(0.0, 0.2, 0.5), static=True)  # of FedRQ, 0 to 1; at 0 it is QAvg
    worlds: tuple[str, ...] = eqx.field(default=("random_mdps", "windy_cliffs"), static=True)  # these two
    random_instances: int = eqx.field(default=20, static=True)  # RandomMDPs per seed, 2 to 10^6
    windy_instances: int = eqx.field(default=6, static=True)  # WindyCliffs per seed, 2 to 10^6
    periods: tuple[int, ...] = eqx.field(
        default=(1, 4, 32, NEVER), static=True
    )  # local steps between merges, 0 = never
    kappas: tuple[float, ...] = eqx.field(default=(0.0, 0.2, 0.4, 0.6, 0.8, 1.0), static=True)  # heterogeneity, 0 to 1
    fedrq_steps: int = eqx.field(default=640, static=True)  # local steps of FedRQ, 1 to 10^6; ours

    def check(self) -> None:
        """Raise `ValueError` in one sentence if a field is out of range."""
        check_choices("methods", self.methods, {**METHODS, FEDRQ: "FedRQ"})
        check_choices("worlds", self.worlds, WORLDS)
        whole_in_range("random_instances", self.random_instances, 2, 10**6, "instances per seed")
        whole_in_range("windy_instances", self.windy_instances, 2, 10**6, "instances per seed")
        whole_in_range("fedrq_steps", self.fedrq_steps, 1, 10**6, "local steps")
        for name in ("kappas", "omegas"):
            in_range(name, getattr(self, name), 0.0, 1.0)
        if FEDRQ in self.methods:
            check_periods(self.periods, self.fedrq_steps)
        for name in self.methods:
            for world in self.worlds if name in METHODS else ():
                check_periods(self.periods, SCRIPTS_AROUND[name, world].num_steps)

    def arms(self) -> dict[str, tuple[str, float]]:
        """Labels of what is compared, with method and omega."""
        found = {METHODS[name]: (name, 0.0) for name in self.methods if name in METHODS}
        if FEDRQ in self.methods:
            labels = [f"FedRQ, ω = {omega:g}" if omega else "QAvg, damped (ω = 0)" for omega in self.omegas]
            found |= {label: (FEDRQ, omega) for label, omega in zip(labels, self.omegas, strict=True)}
        return found

    def answer(self, seeds: tuple[int, ...], watch: Watch) -> Findings:
        """Run every method at every distance on the instances of all seeds."""
        found: Centres = {}
        arms, total = self.arms(), len(self.worlds) * len(self.arms()) * len(self.periods)
        for world in self.worlds:
            num = self.random_instances if world == released.RANDOM else self.windy_instances
            mdps = released.draw_around(world, seeds, num, self.kappas)  # all levels side by side
            shift = released.shift(world, mdps)
            for label, (name, omega) in arms.items():
                for period in self.periods:
                    values = self._centre(name, omega, period, world, mdps) - shift
                    found[world, label, period] = values.reshape(len(self.kappas), -1)
                    watch(f"{label} on {WORLDS[world]}, E = {period_name(period)}", len(found) / total)
        tables = tuple(_table(self, world, label, found) for world in self.worlds for label in arms)
        curves = tuple(_curves(self, world, period, found) for world in self.worlds for period in self.periods)
        facts = tuple(
            (f"{WORLDS[w]}, instances", str(found[w, next(iter(arms)), self.periods[0]].shape[1])) for w in self.worlds
        )
        return Findings(_verdict(self, found), tables, curves, facts, NOTES)

    def _centre(self, name: str, omega: float, period: int, world: str, mdps: TabularMDPs) -> np.ndarray:
        """The value on the centre, `[N]`."""
        way: QAvg | PAvg
        if name == FEDRQ:
            rate, num_steps = RobbinsMonro.paper(mdps.discount, max(period, 1)), self.fedrq_steps
            way = QAvg("q_damped", omega=omega, step_size=rate)
        else:
            script = SCRIPTS_AROUND[name, world]
            way, num_steps = released.method(name, script), script.num_steps
        planned = plan(way, mdps, local_steps=period or None, num_steps=num_steps)
        return np.asarray(planned.centre, float)


def _table(study: TowardsTheCentre, world: str, label: str, found: Centres) -> Table:
    rows: list[tuple[str | Value, ...]] = [
        (f"E = {period_name(period)}", *map(Value.mean, found[world, label, period])) for period in study.periods
    ]
    head = ("Value on the centre", *(f"κ = {kappa:g}" for kappa in study.kappas))
    note = "Mean over instances ± standard error; the instances are the same in all columns and for all methods."
    return Table(f"{label} on {WORLDS[world]}", head, tuple(rows), note, section=f"Values on {WORLDS[world]}")


def _curves(study: TowardsTheCentre, world: str, period: int, found: Centres) -> Curves:
    lines = tuple(
        Line.over(label, study.kappas, (found[world, label, period] - found[world, label, period][:1]).T)
        for label in study.arms()
    )
    return Curves(
        f"{world.replace('_', '-')}-e-{period_name(period).lower()}",
        f"Value on the centre minus that at κ = {study.kappas[0]:g}",
        f"heterogeneity κ; {WORLDS[world]}, E = {period_name(period)}",
        lines,
        section=f"Values on {WORLDS[world]}",
    )


def _verdict(study: TowardsTheCentre, found: Centres) -> tuple[str, ...]:
    """Which decline, what never merging costs, and what a worst case is worth in the centre."""
    declines = [Value.interval(rows[0] - rows[-1]) for rows in found.values()]
    sure = sum(one.low is not None and one.low > 0 for one in declines)
    grid = f"κ = {study.kappas[0]:g} to {study.kappas[-1]:g}"
    said = [f"From {grid} the value on the centre falls in {sure} of {len(found)} cases for sure."]
    rises = [
        f"{label} on {WORLDS[world]}, E = {period_name(period)}, κ = {study.kappas[i + 1]:g}"
        for (world, label, period), rows in found.items()
        for i in range(len(rows) - 1)
        if (Value.interval(rows[i + 1] - rows[i]).low or 0) > LEAST
    ]
    said.append(
        f"From one level to the next it rises by more than {LEAST:g} for sure "
        + (f"at {_some(rises)}." if rises else "nowhere.")
    )
    said += _never_merging(study, found)
    for world in study.worlds:
        said += _robust_against_plain(study, world, found)
    return tuple(said)


def _never_merging(study: TowardsTheCentre, found: Centres) -> list[str]:
    """The average of agents that never met, minus that of agents that did, where environments are farthest apart."""
    merged = next((period for period in study.periods if period != NEVER), None)
    if NEVER not in study.periods or merged is None:
        return []
    apart = lambda *case: found[(*case, NEVER)][-1] - found[(*case, merged)][-1]  # noqa: E731
    clauses = [
        f"{label} on {WORLDS[world]} {_signed(Value.interval(apart(world, label)))}"
        for world in study.worlds
        for label, (name, _) in study.arms().items()
        if name != FEDRQ
    ]
    if not clauses:
        return []
    return [f"At κ = {study.kappas[-1]:g}, averaging agents that never met, minus E = {merged}: {'; '.join(clauses)}."]


def _robust_against_plain(study: TowardsTheCentre, world: str, found: Centres) -> list[str]:
    """FedRQ minus its own QAvg on the same instances, at the first period."""
    plain = "QAvg, damped (ω = 0)"
    robust = [label for label, (name, omega) in study.arms().items() if name == FEDRQ and omega > 0]
    if plain not in study.arms() or not robust:
        return []
    period, clauses = study.periods[0], []
    for label in robust:
        apart = [Value.interval(row) for row in found[world, label, period] - found[world, plain, period]]
        ends = f"{_signed(apart[0])} at κ = {study.kappas[0]:g} and {_signed(apart[-1])} at κ = {study.kappas[-1]:g}"
        clauses.append(f"{label} {ends}")
    return [f"Against QAvg with the same steps, on the centre of {WORLDS[world]}, E = {period}: {'; '.join(clauses)}."]


def _signed(value: Value) -> str:
    bounds = "" if value.low is None else f" [{value.low:.2g}, {value.high:.2g}]"
    return f"{value.value:+.2g}{bounds}".replace("-", "−")


def _some(items: list[str], limit: int = 4) -> str:
    more = f" and {len(items) - limit} more" if len(items) > limit else ""
    return "; ".join(items[:limit]) + more


NOTES = (
    "The series, and the settings of QAvg, SoftPAvg and ProjPAvg, follow the “heter” scripts of Jin et al. (2022). The "
    "step size decays there, which acts differently for different E: compare along a row, not down a column.",
    "FedRQ, and the damped QAvg beside it, start from tables of zero and take steps of 2 / ((1 − γ)(t + E)), at most "
    "1; that they stand in this series is ours. Neighbour sets are the union of the agents’ supports, so from κ > 0 on "
    "the worst neighbour may be one that the centre never reaches: FedRQ does not maximise the value on the centre.",
)
