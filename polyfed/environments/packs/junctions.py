"""A signalled road junction in SUMO: four that come with sumo-rl, two of them real (Alegre 2019; Ault and Sharon 2021).

This file is the door to `sumo_rl`, whose signal, lanes and networks these are. The package waits a second
for the simulator at every episode, and tells the terminal; here it is asked again after 10 ms.

References: alegre2019sumorl, ault2021resco, lopez2018sumo.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete

SECONDS = 5  # of the simulation in a step
YELLOW, LEAST_GREEN = 2, 5  # s
STARTING = 30.0  # s that the simulator may take to come up
MOST_PHASES, MOST_LANES = 4, 8  # of all junctions here


class Plan(NamedTuple):
    """A junction of the package: its files, when its traffic begins, and what its signal can show and see."""

    network: str
    routes: str
    begin: int  # s
    phases: int  # greens that can be chosen
    lanes: int  # that lead in


JUNCTIONS: tuple[Plan, ...] = (
    Plan("single-intersection/single-intersection", "single-intersection/single-intersection", 0, 2, 4),
    Plan("2way-single-intersection/single-intersection", "2way-single-intersection/single-intersection-vhvh", 0, 4, 8),
    Plan("RESCO/cologne1/cologne1", "RESCO/cologne1/cologne1", 25_200, 4, 8),
    Plan("RESCO/ingolstadt1/ingolstadt1", "RESCO/ingolstadt1/ingolstadt1", 57_600, 3, 7),
)
"""Two streets of one way that cross, a crossing with lanes for turning left, one of Cologne, one of Ingolstadt."""


def spread(seen: np.ndarray, plan: Plan) -> np.ndarray:
    """What a signal shows, `[phases + 1 + 2 lanes]`, at the places it has among those of all junctions; the rest is 0.

    >>> spread(np.arange(1.0, 12.0), JUNCTIONS[0]).astype(int).tolist()
    [1, 2, 0, 0, 3, 4, 5, 6, 7, 0, 0, 0, 0, 8, 9, 10, 11, 0, 0, 0, 0]
    """
    whole = np.zeros(MOST_PHASES + 1 + 2 * MOST_LANES, np.float32)
    whole[: plan.phases] = seen[: plan.phases]
    whole[MOST_PHASES] = seen[plan.phases]
    density, queue = np.split(seen[plan.phases + 1 :], 2)
    start = MOST_PHASES + 1
    whole[start : start + plan.lanes] = density
    whole[start + MOST_LANES : start + MOST_LANES + plan.lanes] = queue
    return whole


class Simulator:
    """A process of SUMO that plays one junction, one episode long."""

    def __init__(self, plan: Plan):
        import sumo

        os.environ.setdefault("SUMO_HOME", sumo.SUMO_HOME)  # which sumo_rl asks for when it is imported
        import sumo_rl

        nets = Path(sumo_rl.__file__).parent / "nets"
        files = ["-n", str(nets / f"{plan.network}.net.xml"), "-r", str(nets / f"{plan.routes}.rou.xml")]
        times = ["--begin", str(plan.begin), "--waiting-time-memory", "1000", "--time-to-teleport", "-1"]
        self._words = [*files, *times, "--max-depart-delay", "-1", "--no-warnings", "--no-step-log"]
        self._binary = str(Path(sumo.SUMO_HOME) / "bin" / "sumo")
        self._process: subprocess.Popen[bytes] | None = None
        self.link: Any = None  # what `traci` talks through

    def begin(self, seed: int) -> None:
        """The first second of an episode, in a fresh process: one that loads anew was seen to remember the last."""
        import traci
        from sumolib.miscutils import getFreeSocketPort

        self.close()
        port, until = getFreeSocketPort(), time.monotonic() + STARTING
        command = [self._binary, *self._words, "--seed", str(seed), "--remote-port", str(port)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while self.link is None:
            try:
                self.link = traci.connect(port, numRetries=0, proc=self._process)
            except (traci.TraCIException, traci.FatalTraCIError):
                if self._process.poll() is not None or time.monotonic() > until:
                    self.close()
                    raise RuntimeError("SUMO did not start") from None
                time.sleep(0.01)

    def close(self) -> None:
        """End the process."""
        if self.link is not None:
            with contextlib.suppress(Exception):  # it may be gone
                self.link.close(False)
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self.link = self._process = None


class Junction(gymnasium.Env):
    """A signal that chooses which lanes have green; a step is 5 s, an episode half an hour of traffic.

    Seen are the green that is on (one of `MOST_PHASES`), whether it may change, and for every lane that leads in how
    full it is and how much of it stands, 0 to 1 each. Junctions differ in how many greens and lanes they have: what one
    does not have is 0, and the greens that it has are in `info["action_mask"]`; another leaves the one on that is. The
    reward is minus a tenth of the number of vehicles that stand before the signal.

    With `fixed` the signal follows the programme of its network, whatever is chosen: what a learner is measured by.

    >>> env = Junction(junction=3)  # doctest: +SKIP
    >>> env.reset(seed=0)[1]["action_mask"].tolist()  # doctest: +SKIP
    [1, 1, 1, 0]
    """

    metadata = {"render_modes": []}  # noqa: RUF012  Gymnasium's own

    def __init__(self, junction: float = 0, fixed: bool = False, render_mode: str | None = None):
        """`junction` counts `JUNCTIONS` from 0."""
        self.render_mode = render_mode
        self.plan, self.fixed_ts = JUNCTIONS[int(junction)], fixed
        self._simulator = Simulator(self.plan)
        self.observation_space = Box(0.0, 1.0, (MOST_PHASES + 1 + 2 * MOST_LANES,), np.float32)
        self.action_space = Discrete(MOST_PHASES)
        self._signal: Any = None

    # What a signal of the package asks of the environment that it is in.

    @property
    def sim_step(self) -> float:
        """The second of the simulation."""
        return float(self._simulator.link.simulation.getTime())

    @property
    def observation_class(self) -> Any:
        """What it sees."""
        from sumo_rl.environment.observations import DefaultObservationFunction

        return DefaultObservationFunction

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Empty streets; a seed fixes who comes and how they drive."""
        super().reset(seed=seed)
        del options
        self._simulator.begin(int(self.np_random.integers(2**31)))
        from sumo_rl.environment.traffic_signal import TrafficSignal

        link = self._simulator.link
        (name,) = link.trafficlight.getIDList()
        times = SECONDS, YELLOW, LEAST_GREEN, 3600, self.plan.begin
        self._signal = TrafficSignal(self, name, *times, "queue", link)
        return self._seen(), self._info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Five seconds."""
        link, signal = self._simulator.link, self._signal
        if not self.fixed_ts:
            signal.set_next_phase(int(action) if int(action) < self.plan.phases else signal.green_phase)
        for _ in range(SECONDS):
            link.simulationStep()
            if not self.fixed_ts:
                signal.update()
        return self._seen(), -signal.get_total_queued() / 10.0, False, False, self._info

    def close(self) -> None:
        """End its simulator."""
        self._simulator.close()

    def __del__(self) -> None:
        """As `close`; nothing where it was never made."""
        if "_simulator" in self.__dict__:
            self._simulator.close()

    @property
    def _info(self) -> dict[str, Any]:
        return {"action_mask": (np.arange(MOST_PHASES) < self.plan.phases).astype(np.int8)}

    def _seen(self) -> np.ndarray:
        if self.fixed_ts:
            self._signal.num_green_phases = self.plan.phases  # of a programme it counts other phases
        return spread(self._signal.compute_observation(), self.plan)
