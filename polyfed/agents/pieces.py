"""Many instances of a small problem, in pieces that stay in the cache, one on every device at a time."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

CACHE_BYTES = 2**20  # of what one device works on at a time


def in_pieces(program: Any, given: Any, common: Any, nbytes: int) -> Any:
    """Run a program over pieces of the instances, one on every device at a time, and join what it gives.

    Args:
      program: A `functools.partial` of a module's function; `program(given, common)` gives leaves `[n, ...]`.
      given: Leaves `[N, ...]`, of which it gets `n`.
      common: Leaves that every piece has in common.
      nbytes: What one instance takes, so that a piece stays in the cache.

    Returns:
      Leaves `[N, ...]`.

    >>> import functools
    >>> double = functools.partial(lambda given, common, *, by: by * given + common, by=2.0)
    >>> in_pieces(double, jnp.arange(3.0), jnp.ones(()), nbytes=4).tolist()
    [1.0, 3.0, 5.0]
    """
    num, devices = jax.tree.leaves(given)[0].shape[0], jax.local_devices()
    most = max(16, CACHE_BYTES // nbytes // 16 * 16)
    count = math.ceil(num / most / len(devices)) if num > len(devices) else 1
    used = min(num, len(devices))
    size = math.ceil(num / (count * used))
    shards = _sharded(program, used)
    pieces = []
    for i in range(count):
        rows = np.minimum(np.arange(i * size * used, (i + 1) * size * used), num - 1)
        pieces.append(shards(jax.tree.map(lambda x, rows=rows: x[rows], given), common))
    return jax.tree.map(lambda *x: jnp.asarray(np.concatenate([np.asarray(p) for p in x])[:num]), *pieces)


_PROGRAMS: dict[Any, Any] = {}


def _sharded(program: Any, num_devices: int) -> Any:
    """The program with instances over devices, compiled once per form."""
    known = (program.func, tuple(program.keywords.items()), num_devices)
    if known not in _PROGRAMS:
        mesh = Mesh(np.asarray(jax.local_devices()[:num_devices]), ("instances",))
        over = PartitionSpec("instances")
        split = jax.shard_map(program, mesh=mesh, in_specs=(over, PartitionSpec()), out_specs=over, check_vma=False)
        _PROGRAMS[known] = jax.jit(split)
    return _PROGRAMS[known]
