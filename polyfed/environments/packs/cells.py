"""A radio cell that decides which base stations its users are connected to (mobile-env; Schneider et al. 2022).

This file is the door to `mobile_env`. As the package has it, `reset(seed=...)` changes nothing; here it does.

References: schneider2022mobileenv.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import gymnasium

STATIONS = ((110, 130), (65, 80), (120, 30))  # m; those of the package's small scenario
SIDE = 200  # m, of the square in which users walk


class Spot(NamedTuple):
    """Whole metres. Stands in for shapely's points, which the package makes anew for every distance.

    >>> Spot(0, 0).distance(Spot(3, 4))
    5.0
    """

    x: int
    y: int

    def distance(self, other: Spot) -> float:
        """In m."""
        return math.hypot(self.x - other.x, self.y - other.y)


@dataclasses.dataclass(eq=False)
class Station:
    """What the package reads of a base station.

    >>> Station(0, 110, 130, bw=9e6, frequency=2500, tx_power=30, height=50).point
    Spot(x=110, y=130)
    """

    bs_id: int
    x: float  # m
    y: float  # m
    bw: float  # Hz
    frequency: float  # MHz
    tx_power: float  # dBm
    height: float  # m

    @property
    def point(self) -> Spot:
        """Where it stands."""
        return Spot(int(self.x), int(self.y))


@dataclasses.dataclass(eq=False)
class User:
    """What the package reads and writes of a user's equipment.

    >>> User(0, velocity=1.5, snr_threshold=2e-8, noise=1e-9, height=1.5).point
    Spot(x=0, y=0)
    """

    ue_id: int
    velocity: float  # m/s
    snr_threshold: float  # 1, below which there is no connection
    noise: float  # mW
    height: float  # m
    x: float = 0.0  # m
    y: float = 0.0  # m
    stime: float = 0.0  # s, when it comes
    extime: float = 0.0  # s, when it leaves

    @property
    def point(self) -> Spot:
        """Where it is."""
        return Spot(int(self.x), int(self.y))


class RadioCell(gymnasium.Wrapper):
    """Three stations and a few users who walk to points by chance; a step is a second, an episode has 100.

    Of every user is seen to which stations it is connected, how well it receives each, and its utility; every user may
    connect to a station, disconnect from one, or do nothing. The reward is the users' mean utility of their data rate,
    -1 to 1.

    >>> env = RadioCell(num_users=2)  # doctest: +SKIP
    >>> env.observation_space.shape, env.action_space  # doctest: +SKIP
    ((14,), MultiDiscrete([4 4]))
    """

    def __init__(
        self,
        bandwidth: float = 9e6,
        power: float = 30.0,
        speed: float = 1.5,
        num_users: int = 3,
        render_mode: str | None = None,
    ):
        """Bandwidth of a station in Hz, its power in dBm, speed of users in m/s."""
        from mobile_env.core.base import MComCore
        from mobile_env.handlers.central import MComCentralHandler

        config = MComCore.default_config()
        config |= {"handler": MComCentralHandler, "width": SIDE, "height": SIDE, "reset_rng_episode": True}
        for part in ("arrival_params", "movement_params"):
            config[part] |= {"reset_rng_episode": True}
        bs, ue = config["bs"], config["ue"]
        stations = [Station(i, *at, bandwidth, bs["freq"], power, bs["height"]) for i, at in enumerate(STATIONS)]
        users = [User(i, speed, ue["snr_tr"], ue["noise"], ue["height"]) for i in range(num_users)]
        super().__init__(MComCore(stations, users, config, render_mode))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """A fresh episode: with a seed always the same, without one the next of its own."""
        core: Any = self.env.unwrapped
        number = int(core.np_random.integers(2**31)) if seed is None else seed
        for i, part in enumerate((core.arrival, core.movement)):
            part.seed = number + i
        return core.reset(seed=number, options=options)
