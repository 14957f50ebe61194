"""Actors of Ray: on this machine, or on all of a cluster (the only door to ray)."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator
from typing import Any

from polyfed.devices import num_devices
from polyfed.errors import MissingExtraError, on_a_line
from polyfed.record import from_data
from polyfed.simulation.crew import ActorFailedError, ActorLostError, Crew
from polyfed.simulation.shard import Bounds, Shard

HERE = "127.0.0.1"
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
ALONE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}  # without it Ray would take an outer address for 127.0.0.1


class Host:
    """What lives in an actor: a shard, made from data."""

    def __init__(self, experiment: Any, seeds: tuple[int, ...], clients: Bounds):
        self.shard = Shard(from_data(experiment), seeds, clients)

    def call(self, method: str, *arguments: Any) -> Any:
        """What the shard answers."""
        return getattr(self.shard, method)(*arguments)


class RayCrew(Crew):
    """Actors of Ray.

    Args:
      num_actors: How many live at once; 0: one per machine.
      machines: The cores of each machine.
      num_gpus: Accelerators of all machines together.
    """

    def __init__(self, num_actors: int, machines: list[int], num_gpus: int = 0):
        self.num_actors = num_actors or len(machines)
        self.cores = cores_each(self.num_actors, machines)
        self.num_gpus = num_gpus // self.num_actors

    @property
    def told(self) -> dict[str, Any]:
        """What a record says of it."""
        import ray

        return {"name": "ray", "actors": self.num_actors, "cores_each": self.cores, "ray": ray.__version__}

    def start(self, experiment: Any, seeds: tuple[int, ...], clients: Bounds) -> Any:
        """A new actor, where Ray finds room."""
        import ray

        variables = {"POLYFED_DEVICES": str(self.cores), "JAX_NUM_CPU_DEVICES": str(self.cores)}
        if not self.num_gpus:
            variables["JAX_PLATFORMS"] = "cpu"
        how = ray.remote(num_cpus=self.cores, num_gpus=self.num_gpus, max_restarts=0)
        return how(Host).options(runtime_env={"env_vars": variables}).remote(experiment, seeds, clients)

    def call(self, actor: Any, method: str, *arguments: Any) -> Any:
        """Ask an actor; what it is asked for one after another it does in that order."""
        return actor.call.remote(method, *arguments)

    def result(self, ticket: Any) -> Any:
        """Wait for what was asked for."""
        import ray
        from ray import exceptions

        try:
            return ray.get(ticket)
        except (exceptions.RayActorError, exceptions.ObjectLostError, exceptions.WorkerCrashedError) as error:
            raise ActorLostError(str(error).partition("\n")[0].rstrip(".")) from None
        except exceptions.RayTaskError as error:
            raise ActorFailedError(f"{type(error.cause).__name__}: {on_a_line(error.cause)}") from None

    def stop(self, actor: Any) -> None:
        """End its process."""
        import ray

        with contextlib.suppress(Exception):
            ray.kill(actor)

    def share(self, value: Any) -> Any:
        """Put it into Ray's object store."""
        import ray

        return ray.put(value)


def cores_each(num_actors: int, machines: list[int]) -> int:
    """Cores of an actor, so that all actors find room where machines are alike.

    >>> cores_each(2, [8]), cores_each(3, [4, 4]), cores_each(4, [2])
    (4, 2, 1)
    """
    return max(1, min(machines) // -(-num_actors // len(machines)))


@contextlib.contextmanager
def crew(num_actors: int = 0, cluster: str = "") -> Iterator[RayCrew]:
    """Ray on this machine alone, ended afterwards, or a cluster that is there.

    Args:
      num_actors: How many actors; 0: one per machine.
      cluster: Its address, HOST:PORT, or `auto` for the one that this machine belongs to; empty: this machine.

    Raises:
      MissingExtraError: Ray is not installed.
      ValueError: No cluster answers there.
    """
    os.environ.update(QUIET if cluster else {**QUIET, **ALONE})  # read when ray is imported
    try:
        import ray
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            'The engine ray needs a package that is not installed: pip install "polyfed[ray]", or leave --engine out.'
        ) from error

    own: dict[str, Any] = {"num_cpus": max(num_devices(), num_actors), "include_dashboard": False}
    where = {"address": cluster} if cluster else {"address": "local", "_node_ip_address": HERE, **own}
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)  # another program is executed there at once
            ray.init(**where, log_to_driver=False, logging_level="error")
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ValueError(f"No Ray cluster answers at {cluster or HERE}: {on_a_line(error)}") from error
    try:
        machines = _machines(cluster)
        if cluster and num_actors > sum(machines):
            raise ValueError(
                f"actors = {num_actors} need a core each, but the cluster has {sum(machines)}: ask for fewer, or add "
                "machines."
            )
        yield RayCrew(num_actors, machines, int(ray.cluster_resources().get("GPU", 0)))
    finally:
        ray.shutdown()


def _machines(cluster: str) -> list[int]:
    import ray

    if not cluster:
        return [num_devices()]
    return [int(node["Resources"].get("CPU", 0)) or 1 for node in ray.nodes() if node["Alive"]]
