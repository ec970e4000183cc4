"""What the benchmark scripts share: naming the machine, timing both sides alternately, and printing a table."""

from __future__ import annotations

import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch


def machine() -> str:
    """The machine in words: processor, cores, threads torch uses, GPU, and versions that decide speed."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = info.read_text().splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        model = names[0] if names else model
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{model}, {os.cpu_count()} cores, {torch.get_num_threads()} torch threads, {gpu}, torch {torch.__version__}"


def alternate(sides: Mapping[str, Callable[[], object]], repeats: int, *, warmup: int = 1) -> dict[str, float]:
    """Median seconds of each side; the sides take turns, so a machine that slows down slows them all.

    Args:
        sides: What to time, by name.
        repeats: Timed rounds.
        warmup: Rounds before them.
    """
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(warmup + repeats):
        for name, run in sides.items():
            start = time.perf_counter()
            run()
            if turn >= warmup:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in seconds.items()}


def show(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a Markdown table under the machine's description, as `docs/performance.md` holds it."""
    lines = [title, "", machine(), "", "| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    sys.stdout.write("\n".join(lines) + "\n")
