"""A decoding worker: `python -m avem.extract.worker FD` reads tasks from a socket and answers each, until it closes.

Workers are plain subprocesses rather than `multiprocessing` ones: they import neither the parent's main module nor
torch, so they start in a fifth of a second, and scripts need no main guard.
"""

from __future__ import annotations

import gc
import signal
import sys
from multiprocessing.connection import Connection

from avem.extract.decode_task import decode_clip


def serve(connection: Connection) -> None:
    """Answer `DecodeTask`s with `DecodedClip`s until the other end closes."""
    while True:
        try:
            task = connection.recv()
            connection.send(decode_clip(task))
        except (EOFError, ConnectionError):
            return


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle; its end closes this one
    gc.freeze()
    serve(Connection(int(sys.argv[1])))
