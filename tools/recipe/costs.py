"""What the steps of AVERE's base cost: counted where the inputs are there, computed from released sizes elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from transformers import LlamaConfig, LlamaForCausalLM

from avem.errors import AvemError
from avem.extract import read_dataset
from avem.reading import read_bytes
from avem.tools.recipe.steps import BaseOptions, Step
from avem.train.model.audiovisual import AudiovisualLM
from avem.train.model.config import AudiovisualConfig
from avem.train.model.sequences import ScoredSequence
from avem.train.run.memory import MemoryEstimate, estimate_memory, make_weightless
from avem.train.run.optimizer import autocast
from avem.train.run.session import prepare_model
from avem.train.settings.config import SupervisedConfig
from avem.train.stages import stage_config

RELEASED_LLAMA: dict[str, Any] = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "max_position_embeddings": 4096,
}
"""Video-LLaVA's language model, Vicuna-7B."""
VIDEO, AUDIO = (8, 257, 1024), (1500, 1280)
"""Shapes of a clip's features: LanguageBind-Video and Whisper large-v3."""
BYTES = 2
QUESTION, ANSWER = 40, 60
"""Tokens assumed of a row."""
GIB = 1 << 30
HUB_BYTES = {
    "LanguageBind/Video-LLaVA-7B": 15.1e9,
    "LanguageBind/LanguageBind_Video_merge": 2.1e9,
    "openai/whisper-large-v3": 3.1e9,
}
"""Download sizes, estimated from the numbers of weights and 2 bytes each (Video-LLaVA with both its encoders)."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What is known of a step's cost."""

    lines: tuple[str, ...]


def step_costs(steps: Sequence[Step], options: BaseOptions, *, memory: bool = True) -> dict[str, Cost]:
    """Costs by step name; whatever is an estimate says so.

    Args:
        steps: The recipe's.
        options: What it is made from.
        memory: Also estimate the memory of both trainings, from the released model's shapes.
    """
    found: dict[str, Cost] = {}
    estimates = training_memory(options) if memory else {}
    for step in steps:
        lines = [
            f"{name}: {HUB_BYTES[name] / 1e9:.1f} GB to download (estimate)"
            for name, _ in step.models
            if name in HUB_BYTES
        ]
        if step.name == "speech":
            lines.append(_features(options.speech, _size(AUDIO)))
        elif step.name.startswith("clips "):
            lines.append(_features(Path(step.command[2]), _size(VIDEO) + _size(AUDIO)))
        elif step.name.startswith("rows ") and "--model" in step.command:
            lines.append("requests to the model: add --dry-run with --price-in and --price-out to count them")
        elif step.name in estimates:
            lines += _memory_lines(estimates[step.name])
            if step.name == "audio":
                lines.append(_rows(options.transcripts))
        elif step.name == "base":
            weights = sum(parameter.numel() for parameter in _skeleton().parameters())
            lines.append(f"disk: {BYTES * weights / 1e9:.1f} GB (from the released sizes)")
        found[step.name] = Cost(tuple(lines))
    return found


def _size(shape: Sequence[int]) -> int:
    """Bytes of a clip's features in 16-bit numbers."""
    count = BYTES
    for size in shape:
        count *= size
    return count


def _features(root: Path, each: int) -> str:
    """Disk space of a folder's features; without the folder, of a thousand clips."""
    try:
        clips = len(read_dataset(root))
    except AvemError:
        return f"disk: {each * 1000 / 1e9:.1f} GB for each 1,000 clips (from the encoders' released sizes)"
    return f"disk: {each * clips / 1e9:.2f} GB for {clips:,} clips (from the encoders' released sizes)"


def _rows(path: Path) -> str:
    try:
        count = sum(bool(line.strip()) for line in read_bytes(path).splitlines())
    except AvemError:
        return f"rows: unknown, since {path} is not there"
    return f"rows: {count:,}"


def _skeleton(**changes: Any) -> AudiovisualLM:
    """Video-LLaVA with AVERE's audio projector: parameters of the released shapes, without storage."""
    with init_empty_weights(include_buffers=False):
        language_model = LlamaForCausalLM(LlamaConfig(**{**RELEASED_LLAMA, **changes}))
        tokenizer: Any = None  # sequences are made of ids below
        config = AudiovisualConfig(video_hidden_size=VIDEO[-1], audio_hidden_size=AUDIO[-1])
        return AudiovisualLM(language_model, tokenizer, config)


def training_memory(options: BaseOptions, **changes: Any) -> dict[str, MemoryEstimate]:
    """Memory of the projector stage and of tuning, on one device, for rows of usual length on clips of their own.

    Args:
        options: Presets and settings.
        changes: Of the language model's shape, for tests.
    """
    named = {"cache": "cache", "model": options.start, "data": "rows.jsonl", "out": "run"}
    audio = stage_config(
        "projector",
        named,
        preset_name="avere-audio-projector",
        overrides=[*options.settings, *options.projector_settings],
    )
    sft = stage_config(
        "sft", named, preset_name=options.sft_preset, overrides=[*options.settings, *options.sft_settings]
    )
    found = {}
    for name, config, video in (("audio", audio, False), ("sft", sft, True)):
        if isinstance(config, SupervisedConfig):
            found[name] = _estimate(config, video, changes)
    return found


def _estimate(config: SupervisedConfig, video: bool, changes: dict[str, Any]) -> MemoryEstimate:
    model = _skeleton(**changes)
    frames = [-200] * VIDEO[0] if video else []
    ids = torch.tensor([1, *frames, -300, *([5] * (QUESTION + ANSWER))])
    half = torch.bfloat16 if config.precision == "bf16" else torch.float32
    seen = torch.zeros(VIDEO, dtype=half) if video else None
    heard = torch.zeros(AUDIO, dtype=half)
    tokens = QUESTION + ANSWER + model.audio_token_count(AUDIO[0]) + (VIDEO[0] * VIDEO[1] if video else 0)
    count = max(min(config.rows_per_step, config.tokens_per_batch // tokens), 1)
    sequences = [ScoredSequence(ids, seen, heard, len(ids) - ANSWER) for _ in range(count)]
    model.to(half if config.tune != "full" else torch.float32)
    prepare_model(model, config)
    make_weightless(model)

    def forward() -> torch.Tensor:
        with autocast(config, torch.device("cpu")):
            return model.response_logprobs(sequences)

    each = _size(AUDIO) + (_size(VIDEO) if video else 0)
    return estimate_memory(
        model,
        forward,
        four_bit=False,
        accumulates=config.rows_per_step > count,
        processes=1,
        features=2 * config.rows_per_step * each,
        capacity=0,
    )


def _memory_lines(memory: MemoryEstimate) -> list[str]:
    parts = {
        "weights": memory.weights,
        "gradients and optimiser": memory.gradients + memory.optimiser,
        "activations": memory.activations,
    }
    said = ", ".join(f"{name} {size / GIB:.1f}" for name, size in parts.items())
    return [
        f"memory of one device: {memory.total / GIB:.1f} GiB (estimate: {said}); trains {memory.trained:,} weights",
    ]
