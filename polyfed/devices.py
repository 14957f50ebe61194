"""Every core of the machine as a device, set up before JAX starts and without being asked."""

from __future__ import annotations

import os
import sys


def num_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def num_devices() -> int:
    """CPU devices that are wished for: `POLYFED_DEVICES` in the environment, or one per core.

    Raises:
      ValueError: The environment names no whole number above 0.
    """
    wish = os.environ.get("POLYFED_DEVICES", "")
    if not wish:
        return num_cores()
    if not wish.isdecimal() or int(wish) < 1:
        raise ValueError(
            f"POLYFED_DEVICES = {wish!r} is no number of devices: give a whole number from 1, or unset it."
        )
    return int(wish)


def use_every_core() -> None:
    """Ask JAX for one CPU device per core, each running its share of the clients in one thread.

    Only settings that are not there yet are made, and only before JAX has been imported. `POLYFED_DEVICES` in the
    environment asks for another number (the command line refuses one that cannot be; here it is passed over).
    Accelerators, where there are any, are used instead of the CPU's devices.
    """
    if "jax" in sys.modules:
        return
    try:
        devices = str(num_devices())
    except ValueError:
        devices = str(num_cores())
    flags = os.environ.get("XLA_FLAGS", "")
    if "xla_force_host_platform_device_count" not in flags:
        os.environ.setdefault("JAX_NUM_CPU_DEVICES", devices)
    if "xla_cpu_multi_thread_eigen" not in flags:  # a device is one core: no second pool of threads under it
        os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false".strip()
