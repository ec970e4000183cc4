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

PACKAGES = ("torch", "transformers", "peft", "accelerate", "zarr", "faiss-cpu", "av", "openai-whisper")
OPTIONAL = {
    "bitsandbytes": "4-bit weights: pip install 'avem[4bit]'",
    "ray": "several machines: pip install 'avem[ray]'",
}
LITTLE_MEMORY_GIB = 8


def software() -> Iterator[Finding]:
    """Versions of what avem runs on."""
    yield Finding("software", "avem", f"{__version__}, Python {platform.python_version()} on {platform.system()}")
    for name in PACKAGES:
        found = _version(name)
        if found is None:
            yield Finding("software", name, "missing", Verdict.PROBLEM, f"Install avem again; it needs {name}.")
        else:
            yield Finding("software", name, found)
    for name, what in OPTIONAL.items():
        yield Finding("software", name, _version(name) or f"not installed ({what})")


def machine(device: torch.device) -> Iterator[Finding]:
    """Processors, memory and GPUs, and which of them the rest of the report used."""
    cores = usable_cores()
    yield Finding("machine", "processor cores", str(cores), numbers={"cores": cores})
    if (memory := _memory_gib()) is not None:
        total, free = memory
        small = total < LITTLE_MEMORY_GIB
        advice = (
            "Expect to train small models only: a language model of 1B parameters needs about 8 GiB." if small else ""
        )
        yield Finding(
            "machine",
            "memory",
            f"{total:.1f} GiB, {free:.1f} GiB free",
            Verdict.NOTE if small else Verdict.OK,
            advice,
            {"total_gib": total, "free_gib": free},
        )
    yield from _gpus()
    yield Finding("machine", "tests run on", str(device))


def _gpus() -> Iterator[Finding]:
    if not torch.cuda.is_available():
        built = torch.backends.cuda.is_built()
        why = "no NVIDIA GPU, or no driver for it" if built else "torch's CPU build"
        advice = (
            "Training a model of billions of parameters needs a GPU. If this machine has one, install its driver"
            f"{'' if built else ' and the CUDA build of torch (https://pytorch.org)'}."
        )
        yield Finding("machine", "GPU", f"none ({why})", Verdict.NOTE, advice)
        return
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        free, total = (number / 2**30 for number in torch.cuda.mem_get_info(index))
        busy = free < total / 2
        yield Finding(
            "machine",
            f"GPU {index}",
            f"{properties.name}, {total:.0f} GiB, {free:.0f} GiB free",
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
