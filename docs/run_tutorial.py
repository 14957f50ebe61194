"""Runs every `console` block of the documentation as a user would type it, and the examples of the README.

Each page has a folder and a shell of its own; its commands run in order, and the first that fails ends the page. A
`python` block whose first line is a comment with a file's name is that file, and lies in the page's folder.

    python docs/run_tutorial.py            all pages
    python docs/run_tutorial.py tutorials  the pages whose path contains this word
"""

from __future__ import annotations

import contextlib
import doctest
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

DOCS = Path(__file__).parent.resolve()
TIMEOUT = 600  # s, of a page
BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"^```python\n# (\w+\.py)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[str]:
    r"""The commands of a page: the lines of its `console` blocks that begin with `$ `, and go on after a `\`."""
    blocks = (block.replace("\\\n", "") for block in BLOCK.findall(page.read_text(encoding="utf-8")))
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]


def environment() -> dict[str, str]:
    """This process's environment, with the commands of its Python on the path and compiled programs kept."""
    found = dict(os.environ)
    found["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), found.get("PATH", os.defpath)])
    found.setdefault("JAX_COMPILATION_CACHE_DIR", str(DOCS / "_build" / "compiled"))
    found.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    return found


def run_page(page: Path) -> bool:
    """Run a page's commands in one shell; says how long they took."""
    said = [f"printf '$ %s\\n' {shlex.quote(command)}\n{command}" for command in commands(page)]
    script = "\n".join(["set -o errexit -o nounset", *said])
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        for name, text in FILE.findall(page.read_text(encoding="utf-8")):
            Path(folder, name).write_text(text, encoding="utf-8")
        shell = subprocess.Popen(["bash", "-c", script], cwd=folder, env=environment(), start_new_session=True)
        try:
            failed = shell.wait(timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            failed = 1
        finally:
            with contextlib.suppress(ProcessLookupError):  # whatever the page left running in the background
                os.killpg(shell.pid, signal.SIGKILL)
            shell.wait()
    took = time.monotonic() - began
    print(f"{page.relative_to(DOCS)}: {'FAILED' if failed else 'ran'} in {took:.0f} s", flush=True)
    return not failed


def run_readme(readme: Path) -> bool:
    """Run the README's examples in a temporary folder."""
    here = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        failed, tried = doctest.testfile(str(readme), module_relative=False, optionflags=doctest.ELLIPSIS)
        os.chdir(here)
    print(f"{readme.name}: {tried - failed} of {tried} examples ran", flush=True)
    return failed == 0 and tried > 0


def main(wanted: str = "") -> int:
    """Exit status: 0 if everything ran."""
    os.environ.update(environment())  # before the README's examples import JAX
    pages = [page for page in sorted(DOCS.rglob("*.md")) if "_build" not in page.parts and commands(page)]
    ran = [run_page(page) for page in pages if wanted in str(page.relative_to(DOCS))]
    if not wanted:
        ran.append(run_readme(DOCS.parent / "README.md"))
    return 0 if ran and all(ran) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
