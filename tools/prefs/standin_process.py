"""The stand-in server in a process of its own: `python -m avem.tools.prefs.standin_process CLIPS`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from avem.tools.corpus.scene import draw_scenes
from avem.tools.prefs.standin import StandIn


@contextmanager
def run_stand_in(clips: int, latency_s: float = 0.0, seed: int = 0) -> Iterator[str]:
    """Run a stand-in that knows a corpus of so many clips while the block runs; gives its address."""
    command = [sys.executable, "-m", __name__, str(clips), "--latency-s", str(latency_s), "--seed", str(seed)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        if process.stdout is None:
            raise RuntimeError("the stand-in has no output")
        yield process.stdout.readline().strip()
    finally:
        process.communicate()


def main(
    clips: Annotated[int, typer.Argument(help="Clips of the corpus.")],
    latency_s: Annotated[float, typer.Option(help="Time that every reply takes.")] = 0.0,
    seed: Annotated[int, typer.Option(help="The corpus's seed.")] = 0,
) -> None:
    """Print the address and answer until the input ends (Ctrl-D)."""
    with StandIn(draw_scenes(clips, seed), latency_s=latency_s) as standin:
        sys.stdout.write(standin.endpoint + "\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    typer.run(main)
