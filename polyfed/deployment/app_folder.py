"""The app that Flower runs: two lines of Python that name polyfed, and what the server side must know."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from polyfed.deployment.terms import Terms
from polyfed.exchange.gate import Bounds

PYPROJECT = """[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "polyfed-app"
version = "1.0.0"
description = "polyfed, deployed"
license = "Apache-2.0"
dependencies = []  # polyfed is installed at every site already; nothing is fetched

[tool.hatch.build.targets.wheel]
packages = ["polyfed_app"]

[tool.flwr.app]
publisher = "polyfed"

[tool.flwr.app.components]
serverapp = "polyfed_app.server:app"
clientapp = "polyfed_app.client:app"

[tool.flwr.app.config]
{config}
"""


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the server side of a deployment must know."""

    folder: str  # the run folder
    names: tuple[str, ...]  # of the clients, in their order
    keys: str = ""  # folder of their public keys; empty: nodes have none
    terms: Terms = Terms()
    patience_s: float = 600.0  # until all sites must be connected
    force: bool = False  # go on with other versions, or on another machine

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Settings:
        """From the app's configuration.

        >>> settings = Settings("runs/x", ("ann", "bob"), terms=Terms(quorum=2))
        >>> Settings.of(settings.config()) == settings
        True
        """
        given = {f.name: config[f.name] for f in dataclasses.fields(Terms) if f.name != "bounds"}
        bounds = Bounds(float(config["ratio"]), float(config["distance"]))
        names = tuple(str(config["names"]).split(","))
        rest = {name: config[name] for name in ("folder", "keys", "patience_s", "force")}
        return cls(names=names, terms=Terms(**given, bounds=bounds), **rest)

    def config(self) -> dict[str, Any]:
        """As one table of text, numbers and truth values."""
        terms = {f.name: getattr(self.terms, f.name) for f in dataclasses.fields(Terms) if f.name != "bounds"}
        rest = {name: getattr(self, name) for name in ("folder", "keys", "patience_s", "force")}
        bounds = {"ratio": self.terms.bounds.ratio, "distance": self.terms.bounds.distance}
        return {**rest, "names": ",".join(self.names), **terms, **bounds}

    def public_keys(self) -> dict[str, bytes]:
        """The public key of each client, PEM."""
        if not self.keys:
            return {}
        from polyfed.deployment.keys import pem_of

        return {name: pem_of(Path(self.keys, f"{name}.pub")) for name in self.names}

    def identities(self) -> dict[str, bytes]:
        """The public keys with which clients sign in secure sums, by name; none where `polyfed keys` made none."""
        from polyfed.deployment.identities import read_known

        return read_known(Path(self.keys).parent) if self.keys else {}


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value) if isinstance(value, str) else repr(value)


BLANK = Settings("", ())


def write_settings(path: Path, settings: Settings) -> None:
    """Write the settings of a run of the app of `BLANK`, for `flwr run FOLDER --run-config PATH`."""
    path.write_text("".join(f"{name} = {_toml(value)}\n" for name, value in settings.config().items()))


def write_app(folder: Path, settings: Settings = BLANK) -> None:
    """Make the app's folder, for `flwr run FOLDER`; without settings it is the same for all runs, and can be signed.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> write_app(folder, Settings("runs/x", ("ann", "bob")))
    >>> sorted(path.name for path in folder.iterdir())
    ['polyfed_app', 'pyproject.toml']
    """
    config = "\n".join(f"{name} = {_toml(value)}" for name, value in settings.config().items())
    package = folder / "polyfed_app"
    package.mkdir(parents=True, exist_ok=True)
    (folder / "pyproject.toml").write_text(PYPROJECT.format(config=config))
    (package / "__init__.py").write_text('"""polyfed as an app of Flower."""\n')
    for side in ("server", "client"):
        module = f"flower_{side}"  # Flower wants an assignment
        text = f'"""The {side}\'s side."""\n\nfrom polyfed.deployment import {module}\n\napp = {module}.app\n'
        (package / f"{side}.py").write_text(text)
