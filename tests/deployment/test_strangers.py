"""Who is not let in by Flower's server link behind our port, and which apps its sites run."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("flwr")

from fleets import until

from polyfed.deployment import keys, serve
from polyfed.deployment.app_folder import Settings, write_app
from polyfed.deployment.join import UnreachableError, join
from polyfed.deployment.processes import free_port
from polyfed.deployment.resident import Resident
from polyfed.errors import BusyError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

SERVER = """
import time
from pathlib import Path
from flwr.app import Message, RecordDict
from flwr.serverapp import ServerApp
app = ServerApp()
@app.main()
def main(grid, context):
    while not (nodes := list(grid.get_node_ids())):
        time.sleep(0.2)
    sent = [Message(RecordDict(), dst_node_id=node, message_type="query") for node in nodes]
    replies = list(grid.send_and_receive(sent, timeout=120.0))
    Path({heard!r}).write_text("".join("refused" if reply.has_error() else "done" for reply in replies))
"""
CLIENT = """
from pathlib import Path
from flwr.app import Message, RecordDict
from flwr.clientapp import ClientApp
app = ClientApp()
@app.query()
def act(message, context):
    Path({mark!r}).touch()
    return Message(RecordDict(), reply_to=message)
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


@pytest.mark.parametrize("any_app", [False, True], ids=["as it is", "told to run anything"])
def test_an_app_that_nobody_signed_is_not_run_at_a_site(linked: Any, tmp_path: Path, any_app: bool) -> None:
    folder, address, home, *_ = linked
    mark, heard = tmp_path / "mark", tmp_path / "heard"
    write_app(tmp_path / "evil")
    for side, text in {"server": SERVER, "client": CLIENT}.items():
        (tmp_path / "evil" / "polyfed_app" / f"{side}.py").write_text(text.format(mark=str(mark), heard=str(heard)))
    resident = Resident("ann")
    words = address, resident, tmp_path / "site", folder / "keys", 3, print
    site = threading.Thread(target=join, args=words, kwargs={"any_app": any_app}, daemon=True)
    site.start()
    try:
        serve.start(home, tmp_path / "evil")
        until(heard.is_file, 240.0)
    finally:
        resident.over.set()
        site.join(timeout=60.0)
    assert (heard.read_text(), mark.is_file()) == (("done", True) if any_app else ("refused", False))
