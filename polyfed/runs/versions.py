"""On what a run was made: versions and machine, without names of hosts, users or folders."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
from pathlib import Path
from typing import Any

import jax

from polyfed import __version__
from polyfed.devices import num_cores

PACKAGES = ("jax", "jaxlib", "equinox", "optax", "numpy", "gymnasium", "safetensors")


def versions() -> dict[str, str]:
    """Versions that may change a bit of the result."""
    return {
        "polyfed": __version__,
        "python": platform.python_version(),
        **{package: importlib.metadata.version(package) for package in PACKAGES},
    }


def machine() -> dict[str, Any]:
    """The kind of machine."""
    return {
        "system": platform.system(),
        "architecture": platform.machine(),
        "processor": _processor(),
        "cores": num_cores(),
        "platform": jax.devices()[0].platform,
        "devices": [f"{device.platform}: {device.device_kind}" for device in jax.devices()],
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            fields = dict(line.split(":", 1) for line in file.read().split("\n\n")[0].splitlines() if ":" in line)
    except OSError:
        return platform.processor()
    clean = {name.strip(): value.strip() for name, value in fields.items()}
    return f"{clean.get('model name', '')} (family {clean.get('cpu family', '?')}, model {clean.get('model', '?')})"


def differences(recorded: dict[str, Any]) -> list[str]:
    """What differs between a record and this process such that bits could: `["jax 0.10.1, now 0.10.2"]`."""
    now = versions()
    changed = [
        f"{name} {old}, now {now.get(name, 'missing')}"
        for name, old in recorded["versions"].items()
        if now.get(name) != old
    ]
    here = machine()
    changed += [
        f"{name} {recorded['machine'].get(name)}, now {here[name]}"
        for name in ("architecture", "processor", "platform")
        if recorded["machine"].get(name) != here[name]
    ]
    return changed


EXTRAS = {
    "report": ("matplotlib",),
    "play": ("pygame", "PIL"),
    "tensorboard": ("tensorboard",),
    "privacy": ("dp_accounting",),
    "export": ("onnx", "onnxruntime"),
    "ray": ("ray",),
}


def survey(out: Path) -> dict[str, Any]:
    """What `polyfed check` says: versions, devices, extras, and whether run folders can be written to `out`."""
    existing = next(p for p in (out.absolute(), *out.absolute().parents) if p.exists())
    extras = {
        extra: "installed"
        if all(map(importlib.util.find_spec, modules))
        else f'missing: pip install "polyfed[{extra}]"'
        for extra, modules in EXTRAS.items()
    }
    writable = existing.is_dir() and os.access(existing, os.W_OK)
    return {**versions(), **machine(), **extras, "write access": "yes" if writable else f"no: {existing}"}
