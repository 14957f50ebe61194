"""How the clients' worlds differ: lists, grids and random draws around the nominal physics, as data."""

from __future__ import annotations

import dataclasses
import difflib
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from polyfed.environments.environment import Environment, Params
from polyfed.environments.world import World

Values = tuple[tuple[str, tuple[float, ...]], ...]
Given = Mapping[str, float | Sequence[float]] | Iterable[tuple[str, float | Sequence[float]]]
Worlds = dict[str, np.ndarray]  # quantity -> its value at every client, float64 [C]


def _values(values: Given) -> Values:
    pairs = values.items() if isinstance(values, Mapping) else values
    return tuple((str(name), tuple(float(x) for x in np.atleast_1d(levels))) for name, levels in pairs)


def _groups(groups: str | Iterable[str | Iterable[str]]) -> tuple[str, ...]:
    groups = (groups,) if isinstance(groups, str) else groups
    return tuple(group if isinstance(group, str) else "+".join(group) for group in groups)


class Explicit(eqx.Module):
    """Every client's value is written down; without values, all live in the nominal world.

    `values` maps a quantity to one value per client; a dictionary is stored as pairs, in its order.

    >>> from polyfed.environments import CartPole
    >>> variation = Explicit({"half_length": (0.25, 0.5, 1.0)})
    >>> variation
    Explicit(values=(('half_length', (0.25, 0.5, 1.0)),))
    >>> params = variation.params(CartPole(), num_clients=3)
    >>> params.half_length, params.force
    (Array([0.25, 0.5 , 1.  ], dtype=float32), Array([10., 10., 10.], dtype=float32))
    """

    values: Values = eqx.field(static=True)

    def __init__(self, values: Given = ()):
        self.values = _values(values)

    def worlds(self, environment: World, num_clients: int) -> Worlds:
        """The quantities that vary and each client's value, float64 `[C]`."""
        del environment, num_clients
        return {name: np.asarray(given) for name, given in self.values}

    def params(self, environment: World, num_clients: int) -> Params:
        """Checked parameters of all clients, leaves float32 `[C]`."""
        return _stacked(self, environment, num_clients)

    def check(self, environment: World, num_clients: int) -> None:
        """Refuse with a `ValueError` what cannot be simulated."""
        _check_names(environment, [name for name, _ in self.values], num_clients)
        for name, given in self.values:
            if len(given) != num_clients:
                raise ValueError(
                    f"Explicit gives {len(given)} values of {name} to {num_clients} clients, but every client needs "
                    f"its own. Give {num_clients} values, or set the number of clients to {len(given)}."
                )
        _check_worlds(environment, self.worlds(environment, num_clients), "Change it in Explicit.")


class Grid(eqx.Module):
    """Every combination of the given levels, one client each.

    Clients are ordered like nested loops: the last quantity changes fastest.

    >>> from polyfed.environments import CartPole
    >>> grid = Grid({"half_length": (0.25, 0.5), "force": (5.0, 10.0, 20.0)})
    >>> worlds = grid.worlds(CartPole(), num_clients=6)
    >>> worlds["half_length"].tolist()
    [0.25, 0.25, 0.25, 0.5, 0.5, 0.5]
    >>> worlds["force"].tolist()
    [5.0, 10.0, 20.0, 5.0, 10.0, 20.0]
    """

    values: Values = eqx.field(static=True)

    def __init__(self, values: Given = ()):
        self.values = _values(values)

    def worlds(self, environment: World, num_clients: int) -> Worlds:
        """The quantities that vary and each client's value, float64 `[C]`."""
        del environment, num_clients
        rows = np.asarray(list(itertools.product(*(levels for _, levels in self.values))))
        return {name: rows[:, i] for i, (name, _) in enumerate(self.values)}

    def params(self, environment: World, num_clients: int) -> Params:
        """Checked parameters of all clients, leaves float32 `[C]`."""
        return _stacked(self, environment, num_clients)

    def check(self, environment: World, num_clients: int) -> None:
        """Refuse with a `ValueError` what cannot be simulated."""
        _check_names(environment, [name for name, _ in self.values], num_clients)
        size = math.prod(len(levels) for _, levels in self.values)
        if size != num_clients:
            product = " x ".join(f"{len(levels)} {name}" for name, levels in self.values) or "an empty product"
            raise ValueError(
                f"Grid makes {size} worlds ({product}) for {num_clients} clients, but every client needs its own. "
                f"Change the levels, or set the number of clients to {max(size, 1)}."
            )
        _check_worlds(environment, self.worlds(environment, num_clients), "Change it in Grid.")


class Uniform(eqx.Module):
    """Client `i` gets `nominal * (1 + x_i)` with `x_i ~ U(-rho, rho)`, drawn once per group of quantities.

    A group is a name, or names that move together and share `x_i`: `("mass_pole", "mass_cart")`, which is stored as
    `"mass_pole+mass_cart"`. The draws come from `numpy.random.default_rng(seed)` in the shape `[C, groups]`, so the
    first clients keep their worlds when more join. With `each_seed` every seed of a run has a fleet of its own, as in
    the code of Hwang and Hong (2025); `worlds` and `params` are those of one fleet.

    >>> from polyfed.environments import CartPole
    >>> variation = Uniform(["half_length", ("mass_pole", "mass_cart")], rho=0.5, seed=1)
    >>> variation.groups
    ('half_length', 'mass_pole+mass_cart')
    >>> worlds = variation.worlds(CartPole(), num_clients=4)
    >>> worlds["half_length"].round(2).tolist(), (worlds["mass_pole"] / worlds["mass_cart"]).round(6).tolist()
    ([0.51, 0.32, 0.41, 0.66], [0.1, 0.1, 0.1, 0.1])
    """

    groups: tuple[str, ...] = eqx.field(static=True, converter=_groups)  # names joined by + move together
    rho: float = eqx.field(default=0.5, static=True)  # largest relative change, in [0, 1)
    seed: int = eqx.field(default=0, static=True)  # of the draws
    each_seed: bool = eqx.field(default=False, static=True)  # every seed of a run draws worlds of its own

    def of_seed(self, seed: int) -> Uniform:
        """The draw that belongs to a seed of a run, where every seed has worlds of its own.

        >>> own = Uniform(["half_length"], each_seed=True)
        >>> own.of_seed(3) == own.of_seed(3), own.of_seed(3) == own.of_seed(4), own.of_seed(3).each_seed
        (True, False, False)
        """
        if not self.each_seed:
            return self
        drawn = int(np.random.SeedSequence((self.seed, seed)).generate_state(1)[0])
        return dataclasses.replace(self, seed=drawn, each_seed=False)

    def worlds(self, environment: World, num_clients: int) -> Worlds:
        """The quantities that vary and each client's value, float64 `[C]`."""
        known = environment.quantities()
        x = np.random.default_rng(self.seed).uniform(-self.rho, self.rho, (num_clients, len(self.groups)))
        return {
            name: known[name]["default"] * (1 + x[:, i])
            for i, group in enumerate(self.groups)
            for name in group.split("+")
        }

    def params(self, environment: World, num_clients: int) -> Params:
        """Checked parameters of all clients, leaves float32 `[C]`."""
        return _stacked(self, environment, num_clients)

    def check(self, environment: World, num_clients: int) -> None:
        """Refuse with a `ValueError` what cannot be simulated."""
        names = [name for group in self.groups for name in group.split("+")]
        _check_names(environment, names, num_clients)
        if not names:
            raise ValueError(
                "Uniform names no quantity, so nothing would vary. Name some in groups, or use Explicit()."
            )
        if not 0 <= self.rho < 1:
            raise ValueError(
                f"Uniform has rho = {self.rho:g}, but it is the largest relative change, and from 1 on a mass or a "
                "length could vanish. Give a rho in [0, 1)."
            )
        if self.seed < 0:
            raise ValueError(f"Uniform has seed = {self.seed}, but NumPy takes no negative seeds. Give 0 or more.")
        for name in names:
            if environment.quantities()[name]["default"] == 0:
                raise ValueError(
                    f"Uniform changes {name} in proportion to its nominal value, but that is 0, so nothing would vary. "
                    "Use Explicit or Grid."
                )
        _check_worlds(environment, self.worlds(environment, num_clients), f"Lower rho = {self.rho:g}.")


Variation = Explicit | Grid | Uniform


def every_quantity(variation: Variation, environment: World, num_clients: int) -> Worlds:
    """All quantities of every client, float64 `[C]`: as the variation has them, else nominal.

    >>> from polyfed.environments import CartPole
    >>> every_quantity(Explicit({"force": (5.0, 6.0)}), CartPole(), num_clients=2)["gravity"].tolist()
    [9.8, 9.8]
    """
    nominal = {name: spec["default"] for name, spec in environment.quantities().items()}
    worlds = {**nominal, **variation.worlds(environment, num_clients)}
    return {name: np.broadcast_to(np.asarray(x, float), num_clients) for name, x in worlds.items()}


def params_of(worlds: Worlds, environment: World, num_clients: int) -> Params:
    """Parameters that hold all these quantities, leaves float32 `[C]`.

    >>> from polyfed.environments import CartPole
    >>> worlds = every_quantity(Explicit(), CartPole(), num_clients=2)
    >>> params_of(worlds, CartPole(), num_clients=2).force
    Array([10., 10.], dtype=float32)
    """
    leaves = {name: jnp.asarray(row, jnp.float32) for name, row in worlds.items()}
    return environment.made(leaves, (num_clients,))


def _stacked(variation: Variation, environment: World, num_clients: int) -> Params:
    variation.check(environment, num_clients)
    return params_of(every_quantity(variation, environment, num_clients), environment, num_clients)


def _check_names(environment: World, names: Sequence[str], num_clients: int) -> None:
    family, known = type(environment).__name__, list(environment.quantities())
    if isinstance(environment, World) and not isinstance(environment, Environment):
        raise ValueError(
            f"Explicit, Grid and Uniform vary physics, but {family} has none: use EqualSplit, LabelShards or "
            "Dirichlet, and TestSet for what is held out."
        )
    if num_clients < 1:
        raise ValueError(f"{family} was asked for {num_clients} worlds, but somebody must live. Ask for 1 or more.")
    for i, name in enumerate(names):
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean '{close[0]}'? It has" if close else "choose among"
            raise ValueError(f"{family} has no quantity '{name}': {hint} {', '.join(known)}.")
        if name in names[:i]:
            raise ValueError(f"'{name}' is named twice, but one world has one {name}. Name it once, in one group.")


def _check_worlds(environment: World, worlds: Worlds, remedy: str) -> None:
    """Raise `ValueError` in one sentence unless every quantity is in its range, and every world can be lived in."""
    _check_ranges(environment, worlds, remedy)
    environment.check_worlds(worlds)


def _check_ranges(environment: World, worlds: Worlds, remedy: str) -> None:
    for name, values in worlds.items():
        spec = environment.quantities()[name]
        unit = "" if spec["unit"] == "1" else f" {spec['unit']}"
        for client, value in enumerate(values):
            if not (math.isfinite(value) and spec["low"] <= value <= spec["high"]):
                raise ValueError(
                    f"{name} = {value:g}{unit} at client {client} cannot be simulated by {type(environment).__name__}: "
                    f"it must lie in [{spec['low']:g}, {spec['high']:g}]{unit}. {remedy}"
                )
