"""Measures what it costs until avem says that a path is wrong, against what `import torch` costs.

python -m avem.tools.project.benchmarks.startup

Every command is given something that is not there. Processor time counts: on a machine with other work, seconds on the
clock say little. The sides of a row take turns. A command that loads torch before it looks at its paths has a ratio
above 1.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from avem.errors import DataError
from avem.tools.project.benchmarks.measure import show

COMMANDS = {
    "--help": ("--help", 0),
    "avem be<TAB>": ("", 0),
    "ask": ("ask nope.mp4 why --model nope", 2),
    "extract": ("extract nope", 2),
    "cache info": ("cache info --cache nope", 2),
    "cache verify": ("cache verify --cache nope", 2),
    "cache list": ("cache list --cache nope", 2),
    "cache negatives": ("cache negatives --cache nope", 2),
    "cache export": ("cache export out --cache nope", 2),
    "train": ("train --cache nope --prefs nope.jsonl --model nope --out out", 2),
    "models merge": ("models merge nope out", 2),
    "bench emorealm": ("bench emorealm --questions nope.json --model nope --out out", 2),
    "bench dfew": ("bench dfew --cache nope --model nope --out out", 2),
    "probe swap": ("probe swap --questions nope.json --cache nope --model nope --out out", 2),
    "sweep": ("sweep table3 --cache nope --prefs nope.jsonl --questions nope.json --model nope --out out", 2),
    "report": ("report nope --out page.html", 2),
    "prefs build": ("prefs build nope --model m --out out", 2),
    "prefs survey": ("prefs survey nope.json --out out", 2),
    "prefs votes": ("prefs votes nope nope.json", 2),
}
"""A command to what it is given, and the status it has to end with."""
TAB = {"_AVEM_COMPLETE": "complete_bash", "COMP_WORDS": "avem be", "COMP_CWORD": "1"}
"""What bash sets to have `avem be` completed."""


def seconds_of(command: list[str], status: int, folder: Path) -> float:
    """Processor seconds of a process, user and system; without arguments it is asked to complete `avem be`.

    Raises:
        DataError: It ends with another status.
    """
    start = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, **({} if command[1:] else TAB)}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)
    end = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != status:
        raise DataError(f"{' '.join(command)} ended with status {done.returncode}: {done.stderr[-300:]}")
    return end.ru_utime - start.ru_utime + end.ru_stime - start.ru_stime


def main(repeats: Annotated[int, typer.Option(help="Rounds; the median counts.", min=1)] = 5) -> None:
    """Print a table: processor seconds of each command, and the ratio to `import torch` in the same rounds."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for label, (words, status) in COMMANDS.items():
            avem = [str(Path(sys.executable).with_name("avem")), *words.split()]
            torch = [sys.executable, "-c", "import torch"]
            taken = [(seconds_of(avem, status, Path(name)), seconds_of(torch, 0, Path(name))) for _ in range(repeats)]
            own, other = (statistics.median(side) for side in zip(*taken, strict=True))
            rows.append((f"`{label}`", f"{own:.2f}", f"{other:.2f}", f"{own / other:.2f}"))
    show("A wrong path, and the help", ("command", "processor seconds", "`import torch`", "ratio"), rows)


if __name__ == "__main__":
    typer.run(main)
