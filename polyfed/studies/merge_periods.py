"""Study: values of QAvg and PAvg by the number of local steps between merges, beside anchors and a control.

The settings are those of the released code (Jin et al. 2022). Its step size decays where the objective stands still,
which is looked at once per round: so the number of local steps `E` also decides how soon the step size is lost. The
control, which is ours, keeps the step size, on the same instances.

References: jin2022qavg.
"""

from __future__ import annotations

import math

import equinox as eqx
import numpy as np

from polyfed.agents.federated_planning import Planned, plan
from polyfed.checks import one_of, whole_in_range
from polyfed.studies import released
from polyfed.studies.released import METHODS, NEVER, SCRIPTS, WORLDS, period_name
from polyfed.study import Curves, Findings, Line, Study, Table, Value, Watch

Case = tuple[str, str]  # method, world
Runs = dict[tuple[str, str, int, bool], Planned]  # by method, world, period, whether the step size decays
ON, OFF = True, False


class MergePeriods(Study):
    """How much the number of local steps between merges matters, and whether measured anchors are met.

    >>> MergePeriods(name="small", methods=("qavg",), random_instances=4, worlds=("random_mdps",)).check()
    """

    methods: tuple[str, ...] = eqx.field(default=("qavg",), static=True)  # qavg, soft_pavg, proj_pavg
    worlds: tuple[str, ...] = eqx.field(default=("random_mdps", "windy_cliffs"), static=True)  # these two
    random_instances: int = eqx.field(default=400, static=True)  # RandomMDPs per seed, 2 to 10^6
    windy_instances: int = eqx.field(default=40, static=True)  # WindyCliffs per seed, 2 to 10^6
    periods: tuple[int, ...] = eqx.field(default=released.PERIODS, static=True)  # local steps between merges, 0 = never
    control: bool = eqx.field(default=True, static=True)  # also without decay of the step size

    def check(self) -> None:
        """Raise `ValueError` in one sentence if a field is out of range."""
        check_choices("methods", self.methods, METHODS)
        check_choices("worlds", self.worlds, WORLDS)
        whole_in_range("random_instances", self.random_instances, 2, 10**6, "instances per seed")
        whole_in_range("windy_instances", self.windy_instances, 2, 10**6, "instances per seed")
        steps = [SCRIPTS[method, world].num_steps for method in self.methods for world in self.worlds]
        check_periods(self.periods, math.gcd(*steps))

    def answer(self, seeds: tuple[int, ...], watch: Watch) -> Findings:
        """Run every method on the instances of all seeds."""
        cases = [(method, world) for world in self.worlds for method in self.methods]
        decays = (ON, OFF) if self.control else (ON,)
        runs: Runs = {}
        total = len(cases) * len(decays) * len(self.periods)
        shifts = {}
        for world in self.worlds:
            num = self.random_instances if world == released.RANDOM else self.windy_instances
            train, test = released.draw(world, seeds, num)
            shifts[world] = released.shift(world, train)
            for method, period, on in [(m, p, d) for m in self.methods for d in decays for p in self.periods]:
                script = SCRIPTS[method, world]
                runs[method, world, period, on] = plan(
                    released.method(method, script, decays=on),
                    train,
                    test=test,
                    local_steps=period or None,
                    num_steps=script.num_steps,
                )
                watch(f"{_name((method, world))}, E = {period_name(period)}{'' if on else ', no decay'}",
                      len(runs) / total)  # fmt: skip
        return _findings(self, cases, runs, shifts)


def check_choices(name: str, chosen: tuple[str, ...], known: dict[str, str]) -> None:
    """Raise `ValueError` unless some of the known were chosen, each once.

    >>> check_choices("methods", ("qavg", "qavg"), METHODS)
    Traceback (most recent call last):
    ValueError: methods = ('qavg', 'qavg') names nothing, or one thing twice: choose among qavg, soft_pavg, proj_pavg.
    """
    for one in chosen:
        one_of(name, one, known)
    if not chosen or len(set(chosen)) < len(chosen):
        raise ValueError(f"{name} = {chosen} names nothing, or one thing twice: choose among {', '.join(known)}.")


def check_periods(periods: tuple[int, ...], num_steps: int) -> None:
    """Raise `ValueError` unless every period divides the number of local steps, or is 0.

    >>> check_periods((1, 3), 128)
    Traceback (most recent call last):
    ValueError: periods has 3, which does not divide the 128 local steps of a run: give divisors of it, or 0 for never.
    """
    if not periods or len(set(periods)) < len(periods):
        raise ValueError(f"periods = {periods} names nothing, or one period twice: give e.g. 1 2 4 0, 0 for never.")
    for period in periods:
        whole_in_range("periods", period, 0, 10**6, "local steps")
        if period and num_steps % period:
            raise ValueError(
                f"periods has {period}, which does not divide the {num_steps} local steps of a run: give divisors of "
                "it, or 0 for never."
            )


def _name(case: Case) -> str:
    return f"{METHODS[case[0]]} on {WORLDS[case[1]]}"


def _findings(study: MergePeriods, cases: list[Case], runs: Runs, shifts: dict[str, float]) -> Findings:
    tables, scores = [], []
    for case in cases:
        table, own = _anchor_table(case, study.periods, runs, shifts[case[1]])
        tables.append(table)
        scores += own
    curves: list[Curves] = []
    verdict = [_met(scores)]
    merged = [period for period in study.periods if period != NEVER]
    if study.control and len(merged) > 1:
        tables.append(_control_table(cases, study.periods, runs, shifts))
        for world in study.worlds:
            curves.append(_effect(world, [case for case in cases if case[1] == world], merged, runs))
        verdict.append(_artefact(cases, merged, runs))
    size = {world: len(np.asarray(runs[study.methods[0], world, study.periods[0], ON].train)) for world in study.worlds}
    facts = tuple((f"{WORLDS[world]}, instances", f"{num}") for world, num in size.items())
    return Findings(tuple(verdict), tuple(tables), tuple(curves), facts, NOTES)


def score(ours: Value, anchor: float, error: float) -> float:
    """How many standard errors of the difference lie between a measured mean and an anchor.

    >>> score(Value(3.0, error=0.3), 2.5, 0.4)
    1.0
    """
    return (ours.value - anchor) / math.hypot(ours.error or 0.0, error)


def _anchor_table(case: Case, periods: tuple[int, ...], runs: Runs, shift: float) -> tuple[Table, list[float]]:
    """One row per period, then the local agents; and all differences in standard errors."""
    error, num = released.ANCHOR_ERROR[case]
    rows: list[tuple[str | Value, ...]] = []
    scores: list[float] = []
    for period in periods:
        row: list[str | Value] = [f"E = {period_name(period)}"]
        for measure, anchor in zip(("train", "test"), released.anchor(*case, period), strict=True):
            ours = Value.mean(np.asarray(getattr(runs[(*case, period, ON)], measure)) - shift)
            apart = score(ours, anchor, error)
            row += [ours, Value(anchor), Value(apart)]
            scores += [apart] if math.isfinite(apart) else []
        rows.append(tuple(row))
    if NEVER in periods:
        alone = runs[(*case, NEVER, ON)]
        for name, of in (("best local agent", alone.best_local), ("mean of local agents", alone.mean_local)):
            values = [Value.mean(np.asarray(of(measure)) - shift) for measure in ("train", "test")]
            rows.append((name, values[0], "", "", values[1], "", ""))
    head = ("", "Train", "anchor", "apart (s.e.)", "Test", "anchor", "apart (s.e.)")
    note = (
        f"Mean over instances ± standard error at the last local step, the step size decaying as in the released code. "
        f"Anchor: measured independently on {num} other instances, standard error {error:g}; “apart” is the difference "
        "in standard errors of both. E = Inf is never merged, but the average is evaluated."
    )
    return Table(_name(case), head, tuple(rows), note, section="Beside the anchors"), scores


def _control_table(cases: list[Case], periods: tuple[int, ...], runs: Runs, shifts: dict[str, float]) -> Table:
    rows: list[tuple[str | Value, ...]] = []
    for case in cases:
        for on in (ON, OFF):
            values = [np.asarray(runs[(*case, period, on)].train) - shifts[case[1]] for period in periods]
            rows.append((f"{_name(case)}, decay {'on' if on else 'off'}", *map(Value.mean, values)))
    head = ("Train value", *(f"E = {period_name(period)}" for period in periods))
    note = (
        "The same instances with the step size decaying, as released, and kept (ours). Compare within a row, or one "
        "row with the next: the standard errors are across instances, differences on the same instances are far surer."
    )
    return Table("Decay of the step size on and off", head, tuple(rows), note, section="What the local steps do")


def _gain(case: Case, period: int, base: int, runs: Runs, on: bool) -> np.ndarray:
    """Per instance, the train value at a period minus that at another."""
    return np.asarray(runs[(*case, period, on)].train) - np.asarray(runs[(*case, base, on)].train)


def _effect(world: str, cases: list[Case], merged: list[int], runs: Runs) -> Curves:
    lines = [
        Line.over(
            f"{METHODS[case[0]]}, decay {'on' if on else 'off'}",
            merged,
            np.stack([_gain(case, period, merged[0], runs, on) for period in merged], axis=1),
        )
        for case in cases
        for on in (ON, OFF)
    ]
    return Curves(
        f"effect-{world.replace('_', '-')}",
        f"Train value minus that at E = {merged[0]}, {WORLDS[world]}",
        "local steps between merges, E",
        tuple(lines),
        f"{WORLDS[world]}: mean over instances of the difference on the same instance, with 95 % intervals.",
        log_x=True,
        section="What the local steps do",
    )


def _met(scores: list[float]) -> str:
    if not scores:
        return "None of these periods has an anchor."
    within = sum(abs(one) <= 2 for one in scores)
    far = max(map(abs, scores))
    return (
        f"{within} of {len(scores)} values lie within two standard errors of their anchors; "
        f"the farthest is {far:.1f} standard errors away."
    )


def _artefact(cases: list[Case], merged: list[int], runs: Runs) -> str:
    """What the longest period does, with the decay and without, and what of it remains."""
    clauses, seen, kept, turned = [], 0, 0, 0
    for case in cases:
        on, off = (Value.interval(_gain(case, merged[-1], merged[0], runs, d)) for d in (ON, OFF))
        clauses.append(f"{_name(case)} {_signed(on)} with the decay and {_signed(off)} without")
        if _sign(on):
            seen += 1
            kept += _sign(off) == _sign(on) and abs(off.value) >= abs(on.value) / 2
            turned += _sign(off) == -_sign(on)
    outcome = f"{kept} of {seen} such effects remain at half their size or more once the step size is kept, "
    outcome += f"{turned} turn round: what does not remain is the schedule’s doing, not that of the local steps."
    return (
        f"Going from E = {merged[0]} to E = {merged[-1]} changes the train value on the same instances: "
        f"{'; '.join(clauses)}. " + (outcome if seen else "No effect of E is seen with the decay.")
    )


def _sign(value: Value) -> int:
    """Of an effect whose interval excludes zero and that is more than rounding; else 0."""
    if value.low is None or value.high is None or value.low <= 0 <= value.high or abs(value.value) < 1e-4:
        return 0
    return 1 if value.value > 0 else -1


def _signed(value: Value) -> str:
    bounds = "" if value.low is None else f" [{value.low:.2g}, {value.high:.2g}]"
    return f"{value.value:+.2g}{bounds}".replace("-", "−")


NOTES = (
    "Worlds, methods and settings follow the released code of Jin et al. (2022), which plans with known transitions; "
    "no trajectory is sampled. RandomMDPs: 5 states, 5 actions, discount 0.9, values minus 0.5 / (1 − discount). "
    "WindyCliffs: 4 × 4, discount 0.95.",
    "The anchors are not the authors’ figures, which could not be read: they were measured with an independent "
    "re-implementation, on other instances.",
    "The decay is looked at once per round, and once per step for E = Inf. A round of few steps rarely improves the "
    "objective by the 0.1 % that is asked for, so small E, and Inf, lose their step size first. What of a dependence "
    "on E does not remain with the step size kept, is no law of local steps.",
    "Averages of agents that were never merged (E = Inf) differ from all others in more than the schedule.",
)
