"""Test worlds around the nominal one: one quantity changed at a time, over a grid, then all of them by chance.

The test of Hwang and Hong 2025 changes a physical quantity by up to ±50 %. The grid of 11 points and the average and
worst case over it are ours: what could be read of the paper does not state its grid.

References: hwang2025fedrq.
"""

from __future__ import annotations

import equinox as eqx
import numpy as np

from polyfed.checks import as_numbers, whole_in_range
from polyfed.environments.variation import Explicit, Worlds, _check_names, _check_worlds, _groups
from polyfed.environments.world import Params, World


class Perturbed(eqx.Module):
    """World `nominal * (1 + x)`: per group `x` runs over a grid in `[-rho, rho]`, then all groups are drawn jointly.

    Groups are written as in `Uniform`: a name, or names that move together. The worlds stand in this order: the grid
    of the first group, the other quantities nominal; that of the second; ...; then `num_joint` worlds with
    `x_g ~ U(-rho, rho)`, independently for each group `g`, from `numpy.random.default_rng(seed)` in the shape
    `[num_joint, groups]`. The point in the middle of every grid, `x = 0`, is the nominal world.

    `Uniform` draws in the same way. Give another seed than the clients' variation has, or the joint worlds are theirs.

    It is made for `Evaluation.held_out`; `Evaluation.num_held_out` must then be `num_worlds`.

    >>> from polyfed.environments import CartPole
    >>> test = Perturbed(["half_length", ("mass_pole", "mass_cart")], rho=0.5, points=3, num_joint=2)
    >>> test.num_worlds, test.changes.tolist()
    (8, [-0.5, 0.0, 0.5])
    >>> worlds = test.worlds(CartPole(), num_clients=8)
    >>> worlds["half_length"][:6].tolist(), worlds["mass_cart"][:6].tolist()
    ([0.25, 0.5, 0.75, 0.5, 0.5, 0.5], [1.0, 1.0, 1.0, 0.5, 1.0, 1.5])
    """

    groups: tuple[str, ...] = eqx.field(static=True, converter=_groups)  # names joined by + move together
    rho: float = eqx.field(default=0.5, static=True)  # largest relative change, between 0 and 1
    points: int = eqx.field(default=11, static=True)  # of each grid, odd, 3 or more; the middle one is nominal
    num_joint: int = eqx.field(default=10, static=True)  # worlds in which all groups are drawn
    seed: int = eqx.field(default=1, static=True)  # of the draws; another than that of the clients' worlds

    @property
    def num_worlds(self) -> int:
        """How many worlds these are: `groups * points + num_joint`."""
        return len(self.groups) * self.points + self.num_joint

    @property
    def changes(self) -> np.ndarray:
        """The grid: relative changes `x`, float64 `[points]`, symmetric about an exact 0.

        >>> Perturbed("force", points=5).changes.tolist()
        [-0.5, -0.25, 0.0, 0.25, 0.5]
        """
        middle = (self.points - 1) // 2
        return self.rho * np.arange(-middle, middle + 1) / middle

    def grid(self, group: str) -> range:
        """Which of the worlds change this group alone, in the order of `changes`.

        >>> Perturbed(["half_length", "force"]).grid("force")
        range(11, 22)
        """
        first = self.groups.index(group) * self.points
        return range(first, first + self.points)

    @property
    def joint(self) -> range:
        """Which of the worlds change all groups at once.

        >>> Perturbed(["half_length", "force"], num_joint=4).joint
        range(22, 26)
        """
        return range(self.num_worlds - self.num_joint, self.num_worlds)

    @property
    def nominal(self) -> tuple[int, ...]:
        """Which of the worlds are the nominal one: the middle of every grid.

        >>> Perturbed(["half_length", "force"]).nominal
        (5, 16)
        """
        return tuple(self.grid(group)[self.points // 2] for group in self.groups)

    @property
    def perturbations(self) -> np.ndarray:
        """Relative change of every group in every world, float64 `[num_worlds, groups]`."""
        x = np.zeros((self.num_worlds, len(self.groups)))
        for place, group in enumerate(self.groups):
            x[self.grid(group), place] = self.changes
        draws = np.random.default_rng(self.seed).uniform(-self.rho, self.rho, (self.num_joint, len(self.groups)))
        x[self.joint] = draws
        return x

    def worlds(self, environment: World, num_clients: int) -> Worlds:
        """The quantities that vary and their value in every world, float64 `[num_worlds]`."""
        del num_clients
        known, x = environment.quantities(), self.perturbations
        return {
            name: known[name]["default"] * (1 + x[:, place])
            for place, group in enumerate(self.groups)
            for name in group.split("+")
        }

    def params(self, environment: World, num_clients: int) -> Params:
        """Checked parameters of all worlds, leaves float32 `[num_worlds]`."""
        self.check(environment, num_clients)
        values = {name: row.tolist() for name, row in self.worlds(environment, num_clients).items()}
        return Explicit(values).params(environment, num_clients)

    def check(self, environment: World, num_clients: int) -> None:
        """Refuse with a `ValueError` what cannot be simulated, and another number of worlds than `num_worlds`."""
        names = [name for group in self.groups for name in group.split("+")]
        _check_names(environment, names, num_clients)
        self._check_numbers()
        if num_clients != self.num_worlds:
            raise ValueError(
                f"Perturbed makes {self.num_worlds} worlds ({len(self.groups)} x {self.points} points and "
                f"{self.num_joint} joint), but num_held_out is {num_clients}: set evaluation.num_held_out to "
                f"{self.num_worlds}, or change groups, points or num_joint."
            )
        for name in names:
            if environment.quantities()[name]["default"] == 0:
                raise ValueError(
                    f"Perturbed changes {name} in proportion to its nominal value, but that is 0, so nothing would "
                    "vary: use Explicit or Grid."
                )
        _check_worlds(environment, self.worlds(environment, num_clients), f"Lower rho = {self.rho:g}.")

    def _check_numbers(self) -> None:
        if not self.groups:
            raise ValueError(
                "Perturbed names no quantity, so every test world would be the nominal one: name some in groups."
            )
        if not 0 < _number(self.rho) < 1:
            raise ValueError(
                f"Perturbed has rho = {self.rho}, but it is the largest relative change: at 0 nothing varies, and from "
                "1 on a mass or a length could vanish. Give a rho between 0 and 1."
            )
        whole_in_range("points", self.points, 3, 10**4)
        if self.points % 2 == 0:
            raise ValueError(
                f"Perturbed has points = {self.points}, which leaves out the nominal world in the middle: give an odd "
                f"number, e.g. {self.points + 1}."
            )
        whole_in_range("num_joint", self.num_joint, 0, 10**6)
        whole_in_range("seed", self.seed, 0, 2**32 - 1)


def _number(value: object) -> float:
    try:
        return float(as_numbers(value))
    except (TypeError, ValueError):
        return float("nan")
