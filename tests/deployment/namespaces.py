"""Machines that are none: network namespaces of this host, joined by a bridge that leads nowhere and is watched."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from fleets import until

SUBNET = "10.77.0"
WATCH = """
import json, os, signal, socket, struct, sys
wire, seen = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)), set()
wire.setsockopt(socket.SOL_SOCKET, 33, 2**28)  # SO_RCVBUFFORCE
if len(sys.argv) > 1:  # SO_ATTACH_FILTER: frames of IPv4 from or to one address are left out by the kernel
    import ctypes
    one = struct.unpack("!I", socket.inet_aton(sys.argv[1]))[0]
    steps = [(0x28, 0, 0, 12), (0x15, 0, 4, 0x0800), (0x20, 0, 0, 26), (0x15, 3, 0, one), (0x20, 0, 0, 30),
             (0x15, 1, 0, one), (0x06, 0, 0, 0xffff), (0x06, 0, 0, 0)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    wire.setsockopt(socket.SOL_SOCKET, 26, struct.pack("HL", len(steps), ctypes.addressof(code)))
def end(*_):
    print(json.dumps(struct.unpack("II", wire.getsockopt(263, 6, 8))[1]), flush=True)  # what was missed
    os._exit(0)
signal.signal(signal.SIGTERM, end)
print("watching", flush=True)
while True:
    frame = wire.recv(65535)
    kind, body = struct.unpack("!H", frame[12:14])[0], frame[14:]
    if kind == 0x0806:
        flow = ("arp", socket.inet_ntoa(body[14:18]), 0, socket.inet_ntoa(body[24:28]), 0)
    elif kind == 0x0800:
        at, ports = (body[0] & 15) * 4, (0, 0)
        if body[9] in (6, 17):
            ports = struct.unpack("!HH", body[at:at + 4])
        name = {6: "tcp", 17: "udp"}.get(body[9], str(body[9]))
        flow = (name, socket.inet_ntoa(body[12:16]), ports[0], socket.inet_ntoa(body[16:20]), ports[1])
    else:
        flow = (hex(kind), "", 0, "", 0)
    if flow not in seen:
        seen.add(flow)
        print(json.dumps(flow), flush=True)
"""
SCAN = """
import selectors, socket, sys
found, todo = [], iter(range(1, 65536))
selector, left = selectors.DefaultSelector(), 0
def begin():
    global left
    for port in todo:
        probe = socket.socket()
        probe.setblocking(False)
        code = probe.connect_ex((sys.argv[1], port))
        if code == 0:
            found.append(port)
        if code != 115:
            probe.close()
            continue
        selector.register(probe, selectors.EVENT_WRITE, port)
        left += 1
        if left >= 200:
            return
begin()
while left:
    for key, _ in selector.select(30.0):
        if key.fileobj.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
            found.append(key.data)
        selector.unregister(key.fileobj)
        key.fileobj.close()
        left -= 1
    begin()
print(*sorted(found))
"""


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


def may() -> str:
    """Why no namespaces can be made here; empty where they can."""
    name = f"pf{os.getpid()}-try"
    try:
        ip("netns", "add", name)
        ip("-n", name, "link", "add", "try0", "type", "bridge")
        ip("netns", "del", name)
    except FileNotFoundError:
        return "there is no `ip` here"
    except subprocess.CalledProcessError as error:
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
        return f"no right to make namespaces: {error.stderr.strip()}"
    return ""


class Lan:
    """Machines `10.77.0.1`, `10.77.0.2`, ... on one wire."""

    def __init__(self, stack: contextlib.ExitStack, machines: Sequence[str]):
        self.mark = f"pf{os.getpid()}"
        self.addresses = {name: f"{SUBNET}.{nth}" for nth, name in enumerate(machines, 1)}
        self._add(stack, "wire")
        ip("-n", self._of("wire"), "link", "add", "br0", "type", "bridge")
        ip("-n", self._of("wire"), "addr", "add", f"{SUBNET}.254/24", "dev", "br0")
        ip("-n", self._of("wire"), "link", "set", "br0", "up")
        for nth, name in enumerate(machines, 1):
            self._add(stack, name)
            ip("-n", self._of(name), "link", "add", "eth0", "type", "veth", "peer", "name", f"p{nth}")
            ip("-n", self._of(name), "link", "set", f"p{nth}", "netns", self._of("wire"))
            ip("-n", self._of("wire"), "link", "set", f"p{nth}", "master", "br0", "up")
            ip("-n", self._of(name), "addr", "add", f"{SUBNET}.{nth}/24", "dev", "eth0")
            ip("-n", self._of(name), "link", "set", "eth0", "up")
            ip("-n", self._of(name), "route", "add", "default", "via", f"{SUBNET}.254")  # to nobody, but seen

    def _of(self, name: str) -> str:
        return f"{self.mark}-{name}"

    def _add(self, stack: contextlib.ExitStack, name: str) -> None:
        full = self._of(name)
        ip("netns", "add", full)
        stack.callback(subprocess.run, ["ip", "netns", "del", full], check=False, capture_output=True)
        resolver = Path("/etc/netns", full)  # names are asked of the wire, where that is seen
        resolver.mkdir(parents=True)
        stack.callback(resolver.rmdir)
        (resolver / "resolv.conf").write_text(f"nameserver {SUBNET}.254\n")
        stack.callback((resolver / "resolv.conf").unlink)
        for where in ("all", "default"):
            quiet = f"echo 1 > /proc/sys/net/ipv6/conf/{where}/disable_ipv6"
            subprocess.run(["ip", "netns", "exec", full, "sh", "-c", quiet], check=False, capture_output=True)
        ip("-n", full, "link", "set", "lo", "up")

    def command(self, machine: str, *words: str) -> list[str]:
        """A command on a machine."""
        return ["ip", "netns", "exec", self._of(machine), *words]

    @contextlib.contextmanager
    def watched(self, log: Path, *but: str) -> Iterator[None]:
        """Write down who sends what to whom, on all of the wire; one machine may be left out."""
        with log.open("w") as file:
            words = self.command("wire", sys.executable, "-c", WATCH, *(self.addresses[name] for name in but))
            watcher = subprocess.Popen(words, stdout=file, stderr=subprocess.STDOUT)
        until(lambda: "watching" in log.read_text(), 60.0)
        try:
            yield
        finally:
            watcher.terminate()
            watcher.wait()

    def open_ports(self, seen_from: str, of: str) -> list[int]:
        """TCP ports of one machine that another can reach, of all that there are."""
        words = self.command(seen_from, sys.executable, "-c", SCAN, self.addresses[of])
        found = subprocess.run(words, capture_output=True, text=True, check=True, timeout=600)
        return [int(word) for word in found.stdout.split()]


def flows(log: Path) -> set[tuple[str, str, int, str, int]]:
    """What was seen: `(protocol, from, port, to, port)`."""
    lines = log.read_text().splitlines()
    assert lines[0] == "watching"
    assert lines[-1] == "0", "all was seen"
    return {tuple(json.loads(line)) for line in lines[1:-1]}
