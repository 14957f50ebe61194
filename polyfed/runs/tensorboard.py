"""TensorBoard event files beside a run (the only door to `tensorboard`)."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from polyfed.errors import MissingExtraError
from polyfed.runs.run import Progress


class TensorBoardLog:
    """Writes what every block measured, one event file per arm and seed, under `<folder>/tensorboard/`."""

    def __init__(self, folder: Path):
        try:
            from tensorboard.compat.proto import event_pb2, summary_pb2
            from tensorboard.summary.writer.event_file_writer import EventFileWriter
        except ImportError as error:
            raise MissingExtraError(
                '--log tensorboard needs a package that is not installed: pip install "polyfed[tensorboard]".'
            ) from error
        self._event, self._summary, self._writer = event_pb2.Event, summary_pb2.Summary, EventFileWriter
        self._folder = folder
        self._writers: dict[tuple[str, int], Any] = {}

    def __call__(self, progress: Progress) -> None:
        """Write a block: returns at its end, metrics of each of its rounds."""
        simulation = progress.simulation
        for s, seed in enumerate(simulation.seeds):
            writer = self._for(progress.arm, seed)
            for p, policy in enumerate(simulation.policy_names if progress.returns.size else ()):
                for m, environment in enumerate(simulation.environment_names):
                    self._scalar(writer, f"return/{policy}/{environment}", progress.returns[s, p, m], progress.round)
            for name, values in progress.metrics.items():
                first = progress.round - values.shape[0] + 1
                for r in range(values.shape[0]):
                    columns = np.atleast_1d(values[r, s])
                    for c, value in enumerate(columns):
                        tag = f"{name}/client-{c}" if values.ndim == 3 else name
                        self._scalar(writer, tag, value, first + r)
            writer.flush()

    def close(self) -> None:
        """Finish the files."""
        for writer in self._writers.values():
            writer.close()

    def _for(self, arm: str, seed: int) -> Any:
        if (arm, seed) not in self._writers:
            self._writers[arm, seed] = self._writer(str(self._folder / "tensorboard" / arm / f"seed-{seed}"))
        return self._writers[arm, seed]

    def _scalar(self, writer: Any, tag: str, value: float, step: int) -> None:
        if np.isfinite(value):
            summary = self._summary(value=[self._summary.Value(tag=tag, simple_value=float(value))])
            writer.add_event(self._event(wall_time=time.time(), step=step, summary=summary))
