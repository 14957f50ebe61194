"""Study: what is left of a federation in which some clients lie, by rule and by attack.

Every rule meets every attack on the same worlds and seeds; what it is worth is a share of what plain averaging reaches
when nobody lies. An attack counts only where plain averaging falls to `broken` of that or less.

References: fan2021fedpgbr, blanchard2017krum, baruch2019alie, xie2020ipm.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import equinox as eqx
import numpy as np

from polyfed.aggregation import (
    CentredClipping,
    CoordinateMedian,
    FedPGFilter,
    GeometricMedian,
    Krum,
    NormBounding,
    TrimmedMean,
    WeightedMean,
)
from polyfed.checks import in_range, whole_in_range
from polyfed.environments import Explicit
from polyfed.exchange import Hostile
from polyfed.experiment import Experiment
from polyfed.parts import AnyRule
from polyfed.simulation.simulate import Simulation
from polyfed.study import Findings, Study, Table, Value, Watch

UNDEFENDED = "mean"
POISONED_REWARD = "reward poisoning"

Cells = dict[tuple[str, str, int], np.ndarray]  # rule, attack ("none": clean), hostile clients: returns [S]


class HostileClients(Study):
    """Every rule against every attack, hostile clients being the first of the experiment's.

    >>> from polyfed.experiments import load_study
    >>> load_study("byzantine-cartpole").hostile
    (2, 3)
    """

    experiment: Experiment  # the federation when nobody lies; its worlds are those of `quantity`
    quantity: str = eqx.field(default="half_length", static=True)  # what differs between worlds
    worlds: tuple[float, ...] = eqx.field(default=(0.3, 0.4, 0.5, 0.7, 0.9), static=True)  # of it, clients in turn
    hostile: tuple[int, ...] = eqx.field(default=(2, 3), static=True)  # clients that lie
    last: int = eqx.field(default=3, static=True)  # rounds over which the return is averaged
    broken: float = 0.2  # share of the clean return at which an attack counts, 0 to 1
    flip: float = 6.0  # times what a client learned, backwards
    scale: float = 100.0  # times what a client learned
    deviation: float = 1.0  # of the noise on every parameter
    little: float = 1.5  # standard deviations of the honest, ALIE
    inner: tuple[float, ...] = eqx.field(default=(6.0, 0.5), static=True)  # times the honest mean, backwards, IPM
    radius: float = 0.25  # of centred clipping, in units of parameters
    sigma: float = 0.5  # of the filter of FedPG-BR, in units of parameters

    def check(self) -> None:
        """Raise `ValueError` in one sentence if a field is out of range or the training cannot be made."""
        in_range("broken", self.broken, 0.0, 1.0)
        whole_in_range("last", self.last, 1, self.experiment.num_rounds, "rounds")
        for count in self.hostile:
            whole_in_range("hostile", count, 0, self.experiment.num_clients, "clients")
            plain = self.rules(count)[UNDEFENDED]
            arms = [self.arm(rule, "none", count) for rule in self.rules(count).values()]
            for arm in (*arms, *(self.arm(plain, attack, count) for attack in self.attacks(count))):
                arm.check()

    def rules(self, num_hostile: int) -> dict[str, AnyRule]:
        """The rules by name, each told how many may lie where it asks."""
        chosen = self.experiment.num_clients - num_hostile
        return {
            UNDEFENDED: WeightedMean(),
            "median": CoordinateMedian(),
            "trimmed mean": TrimmedMean(trim=num_hostile),
            "geometric median": GeometricMedian(),
            "Krum": Krum(num_hostile=num_hostile),
            "Multi-Krum": Krum(num_hostile=num_hostile, num_selected=chosen),
            "norm bounding": NormBounding(),
            "centred clipping": CentredClipping(radius=float(self.radius), iterations=3),
            "FedPG-BR filter": FedPGFilter(sigma=float(self.sigma)),
            "the same, published sigma": FedPGFilter(),
        }

    def attacks(self, num_hostile: int) -> dict[str, Hostile]:
        """What hostile clients send, by name; those with poisoned rewards send what they learned."""
        return {
            "sign flip": Hostile.sign_flip(num_hostile, float(self.flip)),
            "scaling": Hostile.scaling(num_hostile, float(self.scale)),
            "noise": Hostile.gaussian(num_hostile, float(self.deviation)),
            "constant": Hostile.constant(num_hostile),
            "ALIE": Hostile.little_is_enough(num_hostile, float(self.little)),
            **{f"IPM {scale:g}": Hostile.inner_product(num_hostile, float(scale)) for scale in self.inner},
            POISONED_REWARD: Hostile.scaling(num_hostile, 1.0),
        }

    def arm(self, rule: AnyRule, attack: str, num_hostile: int) -> Experiment:
        """The federation with a rule under an attack; "none" is no attack.

        Numbers alone differ between the attacks on a rule, so that they share one compilation.
        """
        count = self.experiment.num_clients
        poisoned = num_hostile if attack == POISONED_REWARD else 0
        worlds = {
            self.quantity: tuple(self.worlds[i % len(self.worlds)] for i in range(count)),
            "reward": tuple(-1.0 if i < poisoned else 1.0 for i in range(count)),
        }
        sent: Any = self.attacks(num_hostile).get(attack, Hostile.scaling(0, 1.0))
        return dataclasses.replace(
            self.experiment,
            variation=Explicit(worlds),
            rule=rule,
            transforms=(sent,),
            evaluation=dataclasses.replace(
                self.experiment.evaluation,
                own=False,
                held_out=Explicit({self.quantity: self.worlds}),
                num_held_out=len(self.worlds),
            ),
        )

    def answer(self, seeds: tuple[int, ...], watch: Watch) -> Findings:
        """Train every arm; clean arms once per rule, as if the least were hostile."""
        attacks = tuple(self.attacks(0))
        names = tuple(self.rules(self.hostile[0]))
        todo = [(rule, "none", self.hostile[0]) for rule in names]
        todo += [(rule, attack, count) for rule in names for count in self.hostile for attack in attacks]
        todo.sort(key=lambda cell: names.index(cell[0]))  # what shares a compilation, one after another
        found: Cells = {}
        for done, (name, attack, count) in enumerate(todo, start=1):
            found[name, attack, count] = self._returns(self.arm(self.rules(count)[name], attack, count), seeds)
            mean = found[name, attack, count].mean()
            watch(f"{name}, {attack}, {count} hostile: {mean:.0f}", done / len(todo))
        return findings(self, found, seeds)

    def _returns(self, experiment: Experiment, seeds: tuple[int, ...]) -> np.ndarray:
        """`[S]`: the global policy's mean return in the honest worlds, over the last rounds."""
        simulation = Simulation(experiment, seeds)
        federation, scores = simulation.init(), []
        for i in range(experiment.num_rounds):
            federation, _ = simulation.advance(federation, 1)
            if i >= experiment.num_rounds - self.last:
                scores.append(simulation.evaluate(federation)[:, 0, experiment.num_clients :].mean(axis=1))
        return np.asarray(np.mean(scores, axis=0))


def findings(study: HostileClients, found: Cells, seeds: tuple[int, ...]) -> Findings:
    """Tables of shares of the clean return, one per number of hostile clients, and what they say."""
    rules, attacks = tuple(study.rules(study.hostile[0])), tuple(study.attacks(0))
    clean = found[UNDEFENDED, "none", study.hostile[0]]
    share = lambda *cell: Value.interval(100 * found[cell] / clean)  # noqa: E731
    verdict, tables = [], []
    for count in study.hostile:
        rows: tuple[tuple[Any, ...], ...] = tuple(
            (rule, share(rule, "none", study.hostile[0]), *(share(rule, attack, count) for attack in attacks))
            for rule in rules
        )
        total = study.experiment.num_clients
        tables.append(
            Table(
                f"{count} of {total} clients hostile",
                ("rule", "no attack", *attacks),
                rows,
                f"Return in per cent of averaging without an attack, {len(seeds)} seeds with Student's 95 % intervals.",
            )
        )
        verdict.append(_sentence(study, rows, count))
    facts = (("clean return", f"{clean.mean():.0f} of 500"), ("seeds", ", ".join(map(str, seeds))))
    notes = (
        f"An attack counts where plain averaging falls to {100 * study.broken:g} % or less. Hostile are the first "
        "clients; each rule is told how many. Returns are those of the global policy, greedy, in honest worlds, mean "
        f"of the last {study.last} rounds.",
    )
    return Findings(tuple(verdict), tuple(tables), (), facts, notes)


def _sentence(study: HostileClients, rows: tuple[tuple[Any, ...], ...], count: int) -> str:
    """Which attacks count, which rules are best under the worst of them, and what no rule survives."""
    attacks = tuple(study.attacks(0))
    percent = {row[0]: np.asarray([cell.value for cell in row[2:]]) for row in rows}
    counts = percent[UNDEFENDED] <= 100 * study.broken
    who = f"With {count} of {study.experiment.num_clients} hostile"
    if not counts.any():
        return f"{who} no attack brings plain averaging to {100 * study.broken:g} % or less, so nothing is shown."
    named = ", ".join(attack for attack, yes in zip(attacks, counts, strict=True) if yes)
    worst = {rule: float(cells[counts].min()) for rule, cells in percent.items() if rule != UNDEFENDED}
    ranked = ", ".join(f"{rule} {worst[rule]:.0f} %" for rule in sorted(worst, key=lambda rule: -worst[rule]))
    best = np.max([cells for rule, cells in percent.items() if rule != UNDEFENDED], axis=0)
    lost = [attack for attack, cell in zip(attacks, best, strict=True) if cell < 85]
    fate = f"No rule keeps 85 % under {', '.join(lost)}" if lost else "Under each some rule keeps 85 %"
    return f"{who} averaging is broken by {named}; under the worst of these is left: {ranked}. {fate}."
