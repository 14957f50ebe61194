"""What the released code of QAvg and PAvg runs (Jin et al. 2022): worlds, methods, settings, and measured anchors.

Settings are those of the authors' scripts. The anchors are not theirs, whose tables could not be read: they were
measured with an independent re-implementation of that code, on other instances.

References: jin2022qavg.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from polyfed.agents.policy_averaging import PAvg
from polyfed.agents.q_averaging import QAvg
from polyfed.agents.step_sizes import Constant, Plateau
from polyfed.environments.random_mdps import random_mdps, random_mdps_around, split_envs
from polyfed.environments.tabular import TabularMDPs
from polyfed.environments.windy_cliffs import windy_cliff_sets, windy_cliff_tests, windy_cliffs_around
from polyfed.studies.draws import side_by_side

RANDOM, WINDY = "random_mdps", "windy_cliffs"
WORLDS = {RANDOM: "RandomMDPs", WINDY: "WindyCliffs"}
METHODS = {"qavg": "QAvg", "soft_pavg": "SoftPAvg", "proj_pavg": "ProjPAvg"}
NEVER = 0  # how "never merged", E = Inf, is written


@dataclasses.dataclass(frozen=True)
class Script:
    """One script of the authors: step size, its decay on a plateau, local steps in all.

    >>> SCRIPTS["qavg", "random_mdps"].num_steps
    128
    """

    learning_rate: float
    decay: float
    num_steps: int


SCRIPTS = {
    ("qavg", RANDOM): Script(1e-2, 0.5, 128),
    ("qavg", WINDY): Script(1e-3, 0.1, 640),
    ("soft_pavg", RANDOM): Script(5e-2, 0.8, 2048),
    ("soft_pavg", WINDY): Script(1e-1, 0.4, 192),
    ("proj_pavg", RANDOM): Script(1e-2, 0.9, 2048),
    ("proj_pavg", WINDY): Script(1e-2, 0.9, 1024),
}
SCRIPTS_AROUND = {  # "heter": environments around a centre, more or less far
    ("qavg", RANDOM): Script(1e-2, 0.95, 128),
    ("qavg", WINDY): Script(1e-3, 0.1, 640),
    ("soft_pavg", RANDOM): Script(5e-2, 0.9, 512),
    ("soft_pavg", WINDY): Script(1e-1, 0.4, 192),
    ("proj_pavg", RANDOM): Script(1e-2, 0.9, 960),
    ("proj_pavg", WINDY): Script(1e-2, 0.5, 64),
}

PERIODS = (1, 2, 4, 8, 16, 32, NEVER)  # local steps between merges
_TRAIN_TEST = {  # by period
    ("qavg", RANDOM): "3.397/3.288 3.397/3.288 3.397/3.288 3.397/3.288 3.398/3.288 3.401/3.290 3.400/3.260",
    ("soft_pavg", RANDOM): "3.477/3.204 3.519/3.240 3.538/3.260 3.549/3.265 3.554/3.261 3.551/3.258 3.459/3.214",
    ("proj_pavg", RANDOM): "3.079/2.794 3.283/2.967 3.439/3.098 3.511/3.157 3.556/3.200 3.581/3.234 2.488/2.272",
    ("qavg", WINDY): "126.6/127.2 126.6/127.2 126.6/127.2 126.6/127.2 126.6/127.2 126.7/126.5 125.6/122.7",
    ("soft_pavg", WINDY): "120.9/123.7 122.2/126.1 122.4/125.0 122.4/125.1 122.4/125.1 122.4/125.1 120.0/122.9",
    ("proj_pavg", WINDY): "117.9/122.3 117.8/121.8 117.9/121.5 117.9/121.5 116.9/120.4 112.5/114.3 80.4/82.2",
}
ANCHOR_ERROR = {  # standard error of each number in a row, from as many instances
    ("qavg", RANDOM): (0.015, 2000),
    ("soft_pavg", RANDOM): (0.08, 60),
    ("proj_pavg", RANDOM): (0.08, 60),
    ("qavg", WINDY): (1.4, 200),
    ("soft_pavg", WINDY): (3.0, 40),
    ("proj_pavg", WINDY): (6.0, 30),
}


def anchor(method: str, world: str, period: int) -> tuple[float, float]:
    """The measured train and test value; NaN for a period that was not measured.

    >>> anchor("qavg", "random_mdps", 32)
    (3.401, 3.29)
    """
    if period not in PERIODS:
        return math.nan, math.nan
    train, test = _TRAIN_TEST[method, world].split()[PERIODS.index(period)].split("/")
    return float(train), float(test)


def method(name: str, script: Script, decays: bool = True) -> QAvg | PAvg:
    """A method as the released code runs it, or with its step size kept throughout.

    >>> method("proj_pavg", SCRIPTS["proj_pavg", "windy_cliffs"], decays=False).step_size
    Constant(learning_rate=0.01)
    """
    rate: Any = Plateau(script.learning_rate, script.decay) if decays else Constant(script.learning_rate)
    if name == "qavg":
        return QAvg("v_damped_full_backup", step_size=rate)
    if name == "soft_pavg":
        return PAvg("softmax_npg", "logits", step_size=rate)
    return PAvg("projected", "probabilities", step_size=rate)


def draw(world: str, seeds: tuple[int, ...], num_instances: int) -> tuple[TabularMDPs, TabularMDPs]:
    """Instances of five environments to train in, and those to test in: twenty per instance, or ten common ones.

    >>> train, test = draw("random_mdps", seeds=(0, 1), num_instances=3)
    >>> train.transitions.shape[:2], test.transitions.shape[:2]
    ((6, 5), (6, 20))
    """
    if world == RANDOM:
        drawn = side_by_side(lambda seed: random_mdps(jax.random.key(seed), num_instances, 25), jnp.asarray(seeds))
        return split_envs(drawn, 5)
    train = side_by_side(lambda seed: windy_cliff_sets(jax.random.key(seed), num_instances), jnp.asarray(seeds))
    return train, windy_cliff_tests()


def draw_around(world: str, seeds: tuple[int, ...], num_instances: int, kappas: tuple[float, ...]) -> TabularMDPs:
    """Instances of a centre and four environments at a distance, for every `kappa` the same ones, in this order.

    >>> draw_around("windy_cliffs", seeds=(0,), num_instances=3, kappas=(0.0, 0.5)).transitions.shape[:2]
    (6, 5)
    """
    around = random_mdps_around if world == RANDOM else windy_cliffs_around
    which = jnp.asarray([seed for _ in kappas for seed in seeds])
    far = jnp.repeat(jnp.asarray(kappas, jnp.float32), len(seeds))
    return side_by_side(lambda seed, kappa: around(jax.random.key(seed), num_instances, kappa), which, far)


def shift(world: str, mdps: TabularMDPs) -> float:
    """What is subtracted from values: `0.5 / (1 - discount)` in RandomMDPs, nothing in WindyCliffs.

    >>> shift("windy_cliffs", draw("windy_cliffs", (0,), 1)[0])
    0.0
    """
    return mdps.shift if world == RANDOM else 0.0


def period_name(period: int) -> str:
    """`E` as it is written.

    >>> period_name(0), period_name(8)
    ('Inf', '8')
    """
    return "Inf" if period == NEVER else str(period)
