"""Software, processors and memory."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from avem import __version__
from avem.systems import usable_cores
from avem.tools.doctor.findings import Finding, Verdict

PACKAGES = {
    "torch": "does all computing",
    "transformers": "language models",
    "peft": "training of a small part of a large model",
    "accelerate": "training on GPUs",
    "zarr": "keeps what encoders made of each video, once for all",
    "faiss-cpu": "search for videos that are alike",
    "av": "reads video and sound files",
    "openai-whisper": "encodes speech (its encoder; no transcripts)",
}
"""What avem needs, and what for."""
OPTIONAL = {
    "bitsandbytes": ("fits larger models into a GPU", "4bit"),
    "ray": ("uses several computers at once", "ray"),
}
"""What it can do without, what for, and the extra that installs it."""
LITTLE_MEMORY_GIB = 8


def software() -> Iterator[Finding]:
    """Versions of what avem runs on."""
    python = f"{__version__}, with Python {platform.python_version()} on {platform.system()}"
    yield Finding("software", "avem", python)
    for name, what in PACKAGES.items():
        found = _version(name)
        if found is None:
            advice = f"{name} is missing, and avem needs it; install avem again with pip."
            yield Finding("software", name, f"missing; {what}", Verdict.PROBLEM, advice)
        else:
            yield Finding("software", name, f"{found:<12} {what}")
    for name, (what, extra) in OPTIONAL.items():
        found = _version(name)
        absent = f"not there, not needed; {what} (pip install 'avem[{extra}]')"
        yield Finding("software", name, absent if found is None else f"{found:<12} {what} (optional)")


def machine(device: torch.device) -> Iterator[Finding]:
    """Processors, memory and GPUs, and which of them the rest of the report used."""
    cores = usable_cores()
    threads = torch.get_num_threads()
    of_them = "" if threads == cores else f", of which torch uses {threads} (OMP_NUM_THREADS sets this)"
    yield Finding("machine", "processor cores", f"{cores}{of_them}", numbers={"cores": cores, "threads": threads})
    if (memory := _memory_gib()) is not None:
        total, free = memory
        small = total < LITTLE_MEMORY_GIB
        advice = (
            "Memory is short: only small models can be trained here. A model of 1 billion weights needs about 8 GiB."
            if small
            else ""
        )
        yield Finding(
            "machine",
            "memory",
            f"{total:.1f} GiB, of which {free:.1f} GiB are free",
            Verdict.NOTE if small else Verdict.OK,
            advice,
            {"total_gib": total, "free_gib": free},
        )
    yield from _gpus()
    used = "the CPU" if device.type == "cpu" else f"GPU {device.index or 0}"
    yield Finding("machine", "tests run on", f"{used} (--device chooses, such as cpu or cuda)", label="checked below")


def _gpus() -> Iterator[Finding]:
    if not torch.cuda.is_available():
        built = torch.backends.cuda.is_built()
        why = "no NVIDIA GPU, or no driver for it" if built else "the installed torch is for CPUs only"
        advice = (
            "Large models, of billions of weights, need an NVIDIA GPU to be trained on. Small models and the demo do "
            "not. If this computer has an NVIDIA GPU, install its driver"
            f"{'' if built else ' and the build of torch for it (https://pytorch.org)'}."
        )
        yield Finding("machine", "GPU", f"none found ({why})", Verdict.NOTE, advice)
        return
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        free, total = (number / 2**30 for number in torch.cuda.mem_get_info(index))
        busy = free < total / 2
        yield Finding(
            "machine",
            f"GPU {index}",
            f"{properties.name}, {total:.0f} GiB of memory, of which {free:.0f} GiB are free",
            Verdict.NOTE if busy else Verdict.OK,
            f"Another program uses most of GPU {index}; stop it, or choose another GPU with --device." if busy else "",
            {
                "name": properties.name,
                "total_gib": total,
                "free_gib": free,
                "capability": f"{properties.major}.{properties.minor}",
            },
        )


def _memory_gib() -> tuple[float, float] | None:
    """Total and available memory; None where the system does not say."""
    if not sys.platform.startswith("linux"):
        return None
    with Path("/proc/meminfo").open(encoding="ascii") as lines:
        sizes = {name: int(rest.split()[0]) for name, rest in (line.split(":") for line in lines)}
    return sizes["MemTotal"] / 2**20, sizes["MemAvailable"] / 2**20


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
