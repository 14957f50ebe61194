"""Who is not let in by Flower's server link behind our port, and which apps its sites would run."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("flwr")

from polyfed.deployment import keys, serve
from polyfed.deployment.app_folder import Settings, write_app
from polyfed.deployment.join import UnreachableError, join
from polyfed.deployment.processes import free_port
from polyfed.deployment.resident import Resident
from polyfed.errors import BusyError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

FETCH = """
import sys
from pathlib import Path
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from flwr.supernode.cli.flower_supernode import _try_obtain_trusted_entities
from flwr.supernode.fleet_http_connection import http_request_response
from flwr.supernode.start_client_internal import _verify_fab
address, folder, run = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
private = load_ssh_private_key((folder / "client.key").read_bytes(), None)
with http_request_response(address, False, str(folder / "ca.pem"), (private, private.public_key())) as connection:
    _, _, _, get_run, get_fab, *_ = connection
    fab = get_fab(get_run(run).fab_hash, run)
    license = fab.verifications.get("valid_license", "")
    print("trusted" if license and _verify_fab(fab, _try_obtain_trusted_entities(folder / "trusted.yaml")) else "not")
"""


@pytest.fixture(scope="module")
def linked(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A server link that knows Ann's key, behind its port, and no app in it; the folder, the address, Flower's home."""
    folder, port = tmp_path_factory.mktemp("linked"), free_port()
    keys.make(folder / "keys", ["ann"], ["127.0.0.1"])
    (folder / "run").mkdir()
    own = folder / "keys" / "server"
    settings = Settings(str(folder / "run"), ("ann",), str(own / "clients"), patience_s=5.0)
    address = serve.Address("127.0.0.1", port, own)
    with serve.linked(address, settings, print) as (home, _):
        yield folder, f"127.0.0.1:{port}", home, address, settings


def test_a_key_that_was_not_registered_is_not_let_in(linked: Any, tmp_path: Path) -> None:
    folder, address, *_ = linked
    keys.make(tmp_path / "other", ["eve"], ["127.0.0.1"])
    eve = tmp_path / "eve"
    shutil.copytree(folder / "keys" / "ann", eve)
    (eve / "client.key").write_bytes((tmp_path / "other" / "eve" / "client.key").read_bytes())
    said = list[str]()
    with pytest.raises(UnreachableError, match="does not let 'eve' in") as caught:
        join(address, Resident("eve"), tmp_path / "site", eve, 1, said.append)
    assert caught.value.exit_code == 3


def test_a_second_server_on_the_folder_is_refused(linked: Any) -> None:
    *_, address, settings = linked
    second = serve.Address(address.host, free_port(), address.keys)
    with pytest.raises(BusyError, match="is served by another process") as caught:
        serve.serve(second, settings, print)
    assert caught.value.exit_code == 7


def test_a_second_server_on_the_port_is_refused(linked: Any, tmp_path: Path) -> None:
    import dataclasses

    *_, address, settings = linked
    with pytest.raises(ValueError, match="it may be taken"):
        serve.serve(address, dataclasses.replace(settings, folder=str(tmp_path)), print)


def test_sites_would_run_the_app_that_was_signed_and_none_that_a_server_makes_up(linked: Any, tmp_path: Path) -> None:
    folder, address, home, *_ = linked

    def fetched(app: Path) -> str:
        words = [sys.executable, "-c", FETCH, address, str(folder / "keys" / "ann"), serve.start(home, app)]
        found = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300)
        assert found.returncode == 0, found.stderr
        return found.stdout.split()[-1]

    assert fetched(home / "app") == "trusted"
    write_app(tmp_path / "evil")
    (tmp_path / "evil" / "polyfed_app" / "client.py").write_text("import os\n\nos.system('true')\napp = None\n")
    assert fetched(tmp_path / "evil") == "not"
