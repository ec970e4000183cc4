"""The stand-in server in a process of its own: `python -m avem.tools.project.standin.process CLIPS`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Annotated

import typer

from avem.processes import module_command
from avem.tools.corpus.scene import draw_scenes
from avem.tools.project.standin.server import StandIn


@dataclass(frozen=True, slots=True)
class RunningStandIn:
    """A stand-in in another process."""

    endpoint: str
    questions: IO[str]
    answers: IO[str]

    def in_hand_s(self) -> float:
        """Time from each request's arrival to its reply, summed over all so far."""
        self.questions.write("\n")
        self.questions.flush()
        return float(self.answers.readline())


@contextmanager
def run_stand_in(clips: int, latency_s: float = 0.0, seed: int = 0) -> Iterator[RunningStandIn]:
    """Run a stand-in that knows a corpus of so many clips while the block runs."""
    command = module_command(__name__, str(clips), "--latency-s", str(latency_s), "--seed", str(seed))
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        if process.stdout is None or process.stdin is None:
            raise RuntimeError("the stand-in has no input or output")
        yield RunningStandIn(process.stdout.readline().strip(), process.stdin, process.stdout)
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
        for _ in sys.stdin:  # each line is a question: how long were requests in hand so far, in seconds?
            sys.stdout.write(f"{standin.in_hand_s}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    typer.run(main)
