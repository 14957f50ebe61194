"""Every core of the machine as a device, set up before JAX starts and without being asked."""

from __future__ import annotations

import os
import sys


def num_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def use_every_core() -> None:
    """Ask JAX for one CPU device per core, each running its share of the clients in one thread.

    Only settings that are not there yet are made, and only before JAX has been imported. `POLYFED_DEVICES` in the
    environment asks for another number. Accelerators, where there are any, are used instead of the CPU's devices.
    """
    if "jax" in sys.modules:
        return
    devices = os.environ.get("POLYFED_DEVICES", str(num_cores()))
    flags = os.environ.get("XLA_FLAGS", "")
    if "xla_force_host_platform_device_count" not in flags:
        os.environ.setdefault("JAX_NUM_CPU_DEVICES", devices)
    if "xla_cpu_multi_thread_eigen" not in flags:  # a device is one core: no second pool of threads under it
        os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false".strip()
