"""An extraction that kills its own process at a chosen file operation, where a process server can import it."""

from __future__ import annotations

import itertools
import os
import signal
import sys
from pathlib import Path

from avem.extract import ExtractOptions, extract


def run(corpus: Path, store: Path, options: ExtractOptions, after: int, tally: Path) -> None:
    """Extract; die as soon as the store's files were touched `after` times (0: live); `tally` grows by a byte each."""
    seen = itertools.count(1)
    handle = os.open(tally, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    def count(event: str, arguments: tuple[object, ...]) -> None:
        if event in ("open", "os.rename", "os.mkdir", "os.remove") and str(store) in str(arguments[0]):
            number = next(seen)
            os.write(handle, b".")
            if number == after:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    extract(corpus, store, options)
