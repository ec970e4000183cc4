"""Measures the memory that loading a checkpoint takes at its highest, against the model's size.

python -m avem.tools.project.benchmarks.loading

The layers have the shapes of a 7B Llama's; how many there are is an option, since all 32 take 14 GB on disk in each
layout and as much memory: `--layers 32 --ways "layout, bfloat16"`. The checkpoint is AVERE's layout in shards, encoder
towers included, and holds random bits. Each method runs in a process of its own, which reads every page of the
weights and reports the highest resident size the kernel saw (pages of mapped files included), less what its imports
took. The files are not in memory when it starts: where they filled it, the kernel would take pages back from the
process, and the peak would be too low.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import torch
import typer
from accelerate import init_empty_weights
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

from avem.processes import module_command
from avem.tools.demo.models import make_tokenizer
from avem.tools.project.benchmarks.measure import show
from avem.train import AudiovisualConfig, AudiovisualLM, load_model
from avem.train.families.avere.checkpoint import avere_name

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MEDIA: dict[str, Any] = {"video_hidden_size": 1024, "audio_hidden_size": 1280}
TOWER_TENSORS = 8
WAYS = {
    "avem, AVERE's layout, bfloat16": ("avere", "bfloat16"),
    "avem, AVERE's layout, float32": ("avere", "float32"),
    "avem, its own layout, bfloat16": ("own", "bfloat16"),
    "avem, its own layout, float32": ("own", "float32"),
    "model made, then all shards read and copied, bfloat16": ("plain", "bfloat16"),
}


def write_checkpoint(folder: Path, layers: int, towers_mb: int) -> None:
    """Write an AVERE checkpoint of random bfloat16 weights: one shard a layer, one for the rest, one for the towers."""
    folder.mkdir()
    settings: dict[str, Any] = {
        "model_type": "avere",
        "vocab_size": 32000,
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": layers,
        "num_attention_heads": 32,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
        "torch_dtype": "bfloat16",
        "mm_projector_type": "mlp2x_gelu",
        "mm_hidden_size": MEDIA["video_hidden_size"],
        "speech_projector_type": "qformer",
        "speech_hidden_size": MEDIA["audio_hidden_size"],
    }
    (folder / "config.json").write_text(json.dumps(settings))
    make_tokenizer(["Why?"]).save_pretrained(folder)
    shards: dict[str, list[tuple[str, torch.Size]]] = {}
    for name, tensor in empty_model(settings).state_dict().items():
        layer = name.split(".")[3] if ".layers." in name and name.startswith("language_model.") else "rest"
        shards.setdefault(layer, []).append((avere_name(name), tensor.shape))
    size = torch.Size([towers_mb * 2**19 // TOWER_TENSORS])
    shards["towers"] = [(f"model.video_tower.{number}.weight", size) for number in range(TOWER_TENSORS)]
    weight_map: dict[str, str] = {}
    bits = torch.Generator().manual_seed(0)
    for number, tensors in enumerate(shards.values()):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        state = {name: random_weights(shape, bits) for name, shape in tensors}
        save_file(state, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(state, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def random_weights(shape: torch.Size, bits: torch.Generator) -> torch.Tensor:
    """Random bits as bfloat16 from 0 up to 256, so that no file system can leave any of them out."""
    return torch.randint(0, 0x4380, shape, dtype=torch.int16, generator=bits).view(torch.bfloat16)


def empty_model(settings: dict[str, Any]) -> AudiovisualLM:
    """The model without storage."""
    with init_empty_weights(include_buffers=False):
        names = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
        shape = LlamaConfig(**{name: settings[name] for name in names}, max_position_embeddings=4096)
        return AudiovisualLM(LlamaForCausalLM(shape), cast("PreTrainedTokenizerBase", None), AudiovisualConfig(**MEDIA))


def load_plainly(folder: Path, dtype: torch.dtype) -> AudiovisualLM:
    """Make the model with weights of its own, gather all shards, and copy them in."""
    from avem.weights import read_tensors

    settings = json.loads((folder / "config.json").read_text())
    torch.set_default_dtype(dtype)
    model = empty_model(settings).to_empty(device="cpu")
    state = {name: tensor.clone() for name, tensor in read_tensors(folder)}
    model.load_state_dict({name: state[avere_name(name)] for name in model.state_dict()})
    return model


def report_peak(way: str, folder: Path, dtype: torch.dtype) -> None:
    """Load once and print what it took, as JSON: bytes of the model, peak bytes, seconds."""
    torch.zeros(1).sum().item()
    before = resident("VmRSS")
    start = time.perf_counter()
    model = load_plainly(folder, dtype) if way == "plain" else load_model(folder, dtype=dtype)
    seconds = time.perf_counter() - start
    for tensor in model.parameters():  # what is mapped counts once it is read
        tensor.detach().flatten()[::512].sum().item()
    size = sum(tensor.numel() * tensor.element_size() for tensor in model.parameters())
    sys.stdout.write(json.dumps({"size": size, "peak": resident("VmHWM") - before, "seconds": seconds}))


def forget(folder: Path) -> None:
    """Put the files below a folder on the disk and out of the kernel's memory."""
    for path in folder.rglob("*.safetensors"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def resident(field: str) -> int:
    """A line of `/proc/self/status` in bytes: `VmRSS`, memory now, or `VmHWM`, its highest."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def main(
    layers: Annotated[int, typer.Option(help="Layers of the 7B's 32.")] = 4,
    towers_mb: Annotated[int, typer.Option(help="Size of the encoders in the checkpoint, MiB.")] = 200,
    ways: Annotated[str, typer.Option(help="Only ways of loading whose title holds this text.")] = "",
    child: Annotated[list[str] | None, typer.Option(hidden=True)] = None,
) -> None:
    """Write a checkpoint to a temporary folder, load it with each method, and print peak over size."""
    if child:
        way, folder, dtype = child
        report_peak(way, Path(folder), getattr(torch, dtype))
        return
    rows = []
    with tempfile.TemporaryDirectory() as directory:
        write_checkpoint(Path(directory) / "avere", layers, towers_mb)
        load_model(Path(directory) / "avere", dtype=torch.bfloat16).save(Path(directory) / "own")
        for title, (way, dtype) in ((title, way) for title, way in WAYS.items() if ways in title):
            checkpoint = Path(directory) / ("avere" if way == "plain" else way)
            arguments = [part for value in (way, str(checkpoint), dtype) for part in ("--child", value)]
            forget(Path(directory))
            command = module_command("avem.tools.project.benchmarks.loading", *arguments)
            found = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
            rows.append(
                (
                    title,
                    f"{found['size'] / 2**30:.2f} GiB",
                    f"{found['peak'] / 2**30:.2f} GiB",
                    f"{found['peak'] / found['size']:.2f}x",
                    f"{found['seconds']:.1f} s",
                )
            )
    show(
        f"Loading a checkpoint of a 7B Llama's shapes with {layers} of its 32 layers, and {towers_mb} MiB of encoders",
        ("way", "model", "peak", "peak / model", "time"),
        rows,
    )


if __name__ == "__main__":
    typer.run(main)
