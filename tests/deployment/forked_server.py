"""Processes that serve: reads lines `FOLDER<tab>SOCKETS<tab>POINT`, and writes for each how its process ended.

What is imported here is imported once for all of them; they are forked before JAX has made anything.
"""

import os
import sys
import traceback

import equinox  # noqa: F401
import jax  # noqa: F401

if __name__ == "__main__":
    for line in sys.stdin:
        child = os.fork()
        if not child:
            code = 1
            try:
                from killed_server import serve

                serve(*line.rstrip("\n").split("\t"))
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
