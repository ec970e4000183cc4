"""The whole run: which parts, in which order."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import torch
import transformers

from avem.errors import SettingError
from avem.guards.devices import find_device
from avem.progress import stage
from avem.tools.project.benchmarks.gpu.budget import Budget, Part
from avem.tools.project.benchmarks.gpu.kits import LlamaKit, Place, ThinkerKit, Towers
from avem.tools.project.benchmarks.gpu.results import FILES, Outcome, Results, Status, Table, Value
from avem.tools.project.benchmarks.gpu.shapes import SIZES, Sizes
from avem.tools.project.benchmarks.gpu.sides import StepBench
from avem.tools.project.benchmarks.gpu.speeds import AttentionCase, encode_clips
from avem.tools.project.benchmarks.measure import machine
from avem.train.run.flops import matmul_peak

DTYPES = {"bf16": torch.bfloat16, "float32": torch.float32}
LLAMA, OMNI = "Llama with AVERE's towers", "Qwen2.5-Omni"
OMNI_OPENS = 1.5
"""Opening Qwen2.5-Omni, with its towers' weights, against opening the Llama."""


@dataclass(frozen=True, slots=True)
class Options:
    """Of the command."""

    minutes: float = 8.0
    device: str = "cuda"
    shape: str = "full"
    precision: str | None = None
    checkpointing: bool = False
    out: Path = Path("gpu-results")


def benchmark(options: Options, device: torch.device | None = None) -> Results:
    """Measure what the time allows.

    Args:
        options: Of the command.
        device: Instead of the one that the options name, for tests.

    Raises:
        SettingError: The device is not there, an option is unknown, or the folder holds something else.
    """
    device = device or find_device(options.device, otherwise="--device cpu --shape tiny to try the script")
    place = Place(device, _dtype(options.precision, device), options.checkpointing)
    if options.shape not in SIZES:
        raise SettingError(f"--shape is {options.shape}; choose one of {', '.join(SIZES)}.")
    _check_folder(options.out)
    about: dict[str, Value] = {
        "machine": machine(),
        "device": str(device),
        "transformers": transformers.__version__,
        "shape": options.shape,
        "precision": options.precision or ("bf16" if place.dtype == torch.bfloat16 else "float32"),
        "minutes": options.minutes,
    }
    with tempfile.TemporaryDirectory() as folder:
        peak = matmul_peak(device, place.dtype)
        budget = Budget(60 * options.minutes, peak)
        parts = make_parts(Path(folder), SIZES[options.shape](), place, peak)
        results = Results(options.out, about, [part.name for part in parts])
        row: dict[str, Value] = {"number format": about["precision"], "TFLOPS": peak / 1e12}
        results.add(Outcome("matmul peak", Status.RAN, table=Table("The fastest matrix product", (row,))))
        results.write()
        with stage("benchmark", len(parts), unit="parts") as bar:
            for part in parts:
                budget.run([part], results)
                bar.advance(note=part.name)
    return results


def make_parts(folder: Path, sizes: Sizes, place: Place, peak: float) -> list[Part]:
    """Everything there is to measure, the most important first.

    Args:
        folder: Empty; stores and rows go there.
        sizes: Of models and clips.
        place: Device and number format.
        peak: Operations a second of a large matrix product.
    """
    made: list[Towers] = []

    def towers() -> Towers:
        if not made:
            made.append(Towers(sizes, place))
        return made[0]

    llama = StepBench(LLAMA, lambda: LlamaKit(folder / "llama", sizes, place, towers()), sizes.rounds, peak)

    def thinker() -> ThinkerKit:
        llama.close()
        return ThinkerKit(folder / "omni", sizes, place)

    omni = StepBench(OMNI, thinker, sizes.rounds, peak)
    parts = [*llama.parts(), *omni.parts(like=f"{LLAMA}: open", ratio=OMNI_OPENS)]
    text = sizes.omni.text_config
    heads = {
        LLAMA: (llama, sizes.llama["num_attention_heads"], sizes.llama["num_attention_heads"], sizes.llama),
        OMNI: (omni, text.num_attention_heads, text.num_key_value_heads, text.to_dict()),
    }
    for name, (bench, queries, keys, config) in heads.items():
        width = config.get("head_dim") or config["hidden_size"] // queries
        case = cast("Callable[[], AttentionCase]", partial(_case, bench, name, queries, keys, width))
        parts.append(
            Part(
                f"attention, {name}",
                partial(_attention, case, place, peak, sizes.rounds),
                partial(_attention_cost, case, sizes.rounds),
                needs=f"{name}: open",
            )
        )
    for side, name in (("video", "ViT"), ("audio", "Whisper")):
        parts.append(
            Part(
                f"clips a second, {name}",
                lambda side=side: encode_clips(towers(), side, peak, sizes.batch, sizes.rounds),  # type: ignore[misc]
                lambda side=side: (1 + sizes.rounds) * sizes.batch * towers().operations(side),  # type: ignore[misc]
            )
        )
    return parts


def _case(bench: StepBench, name: str, queries: int, keys: int, width: int) -> AttentionCase:
    if bench.tree is None:
        raise RuntimeError(f"{name} was not opened.")
    return AttentionCase(name, bench.tree, queries, keys, width)


def _attention(case: Callable[[], AttentionCase], place: Place, peak: float, rounds: int) -> Table:
    return case().measure(place, peak, rounds)


def _attention_cost(case: Callable[[], AttentionCase], rounds: int) -> float:
    return 2 * (1 + rounds) * case().operations()


def _dtype(precision: str | None, device: torch.device) -> torch.dtype:
    name = precision or ("bf16" if device.type == "cuda" else "float32")
    if name not in DTYPES:
        raise SettingError(f"--precision is {name}; choose one of {', '.join(DTYPES)}.")
    return DTYPES[name]


def _check_folder(folder: Path) -> None:
    """Refuse a folder that holds anything but an earlier run's results."""
    if folder.exists() and (not folder.is_dir() or {path.name for path in folder.iterdir()} - set(FILES)):
        raise SettingError(f"{folder} holds something else; name a new folder with --out.")
