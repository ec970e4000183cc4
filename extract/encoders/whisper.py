"""Whisper's audio encoder (Radford et al., 2023): openai-whisper's own class, filled from either released layout."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from avem.errors import CheckpointError, MissingFileError
from avem.extract.encoders.checkpoints import load_strict, read_json, tensors_sha256
from avem.weights import read_pytorch, read_tensors

if TYPE_CHECKING:
    from whisper.model import AudioEncoder as WhisperAudioEncoder

SAMPLE_RATE, HOP_LENGTH = 16_000, 160
"""Samples a second of Whisper's input, and samples from one mel frame to the next, as openai-whisper has them."""

MEL_BINS = (80, 128)
"""Mel filter banks that openai-whisper ships."""

HF_NAMES = (
    (r"^embed_positions\.weight$", "positional_embedding"),
    (r"^layers\.(\d+)\.self_attn\.q_proj\.", r"blocks.\1.attn.query."),
    (r"^layers\.(\d+)\.self_attn\.k_proj\.", r"blocks.\1.attn.key."),
    (r"^layers\.(\d+)\.self_attn\.v_proj\.", r"blocks.\1.attn.value."),
    (r"^layers\.(\d+)\.self_attn\.out_proj\.", r"blocks.\1.attn.out."),
    (r"^layers\.(\d+)\.self_attn_layer_norm\.", r"blocks.\1.attn_ln."),
    (r"^layers\.(\d+)\.fc1\.", r"blocks.\1.mlp.0."),
    (r"^layers\.(\d+)\.fc2\.", r"blocks.\1.mlp.2."),
    (r"^layers\.(\d+)\.final_layer_norm\.", r"blocks.\1.mlp_ln."),
    (r"^layer_norm\.", "ln_post."),
)
"""Hugging Face's encoder names, as patterns, and openai's."""


@dataclass(frozen=True, slots=True)
class WhisperShape:
    """The encoder's sizes, as openai's `dims` calls them."""

    n_mels: int
    n_audio_ctx: int
    """Output positions, 50 a second; the encoder takes `2 * n_audio_ctx` mel frames, 100 a second."""
    n_audio_state: int
    n_audio_head: int
    n_audio_layer: int


@dataclass(frozen=True, slots=True)
class LoadedWhisper:
    """An encoder in float32 with its sizes and the digest of its weights."""

    module: WhisperAudioEncoder
    shape: WhisperShape
    weights_sha256: str


def openai_whisper(part: str) -> Any:
    """A module of openai-whisper, imported when it is first used: `model`, `audio`.

    Its import takes a second, and what it installs beside itself (triton on Linux) is not needed to encode.

    Raises:
        MissingFileError: It is not installed, or another package called `whisper` is.
    """
    try:
        return import_module(f"whisper.{part}")
    except ImportError as error:
        raise MissingFileError(
            f"Whisper's encoder needs the package openai-whisper ({error}); install it with "
            "`pip install openai-whisper`, or see docs/extraction.md for an install without triton."
        ) from error


def new_encoder(shape: WhisperShape) -> WhisperAudioEncoder:
    """An encoder of openai-whisper's own class, with weights yet to be filled in."""
    encoder: WhisperAudioEncoder = openai_whisper("model").AudioEncoder(
        shape.n_mels, shape.n_audio_ctx, shape.n_audio_state, shape.n_audio_head, shape.n_audio_layer
    )
    return encoder


def load_whisper(path: Path) -> LoadedWhisper:
    """Read an encoder from an openai `.pt` file or a Hugging Face folder.

    Args:
        path: A `.pt` file with `dims` and `model_state_dict`; or a folder with `config.json` and the weights of a
            `WhisperModel` or `WhisperForConditionalGeneration`; or a folder with one `.pt` file.

    Raises:
        MissingFileError: A file is not there.
        CheckpointError: The files are not a Whisper model, are damaged, or contradict each other.
    """
    if path.is_dir() and not (path / "config.json").is_file():
        candidates = sorted(path.glob("*.pt"))
        if len(candidates) != 1:
            raise MissingFileError(f"{path} holds neither config.json nor one openai .pt file.")
        path = candidates[0]
    shape, tensors = _read_openai(path) if path.is_file() else _read_hugging_face(path)
    if shape.n_mels not in MEL_BINS or shape.n_audio_state % shape.n_audio_head:
        raise CheckpointError(f"{path}: a Whisper encoder has 80 or 128 mel bins, and heads that divide its width.")
    module = new_encoder(shape)
    load_strict(module, {name: value.float() for name, value in tensors.items()}, path)
    module.eval().requires_grad_(False)
    return LoadedWhisper(module, shape, tensors_sha256(tensors))


def _read_openai(path: Path) -> tuple[WhisperShape, dict[str, Tensor]]:
    content = read_pytorch(path)
    if not {"dims", "model_state_dict"} <= content.keys():
        raise CheckpointError(f"{path} has no dims and model_state_dict, so it is not an openai Whisper file.")
    shape = WhisperShape(**{name: content["dims"][name] for name in WhisperShape.__dataclass_fields__})
    state = content["model_state_dict"]
    return shape, {name.removeprefix("encoder."): state[name] for name in state if name.startswith("encoder.")}


def _read_hugging_face(folder: Path) -> tuple[WhisperShape, dict[str, Tensor]]:
    config = read_json(folder / "config.json")
    if "model_type" not in config and (folder / "model.bin").is_file():
        raise CheckpointError(
            f"{folder} holds a CTranslate2 model; make an openai file of it with "
            f"`python -m avem.tools.ctranslate2 {folder} whisper.pt` and give that."
        )
    if config.get("model_type") != "whisper":
        raise CheckpointError(f"{folder} holds a {config.get('model_type', 'nameless')!r} model, not a Whisper one.")
    if config.get("activation_function", "gelu") != "gelu":
        raise CheckpointError(f"{folder}: the activation {config['activation_function']!r} is not Whisper's gelu.")
    try:
        shape = WhisperShape(
            n_mels=config["num_mel_bins"],
            n_audio_ctx=config["max_source_positions"],
            n_audio_state=config["d_model"],
            n_audio_head=config["encoder_attention_heads"],
            n_audio_layer=config["encoder_layers"],
        )
    except KeyError as error:
        raise CheckpointError(f"{folder / 'config.json'} has no field {error}.") from error
    tensors = {}
    for name, value in read_tensors(folder):
        plain = name.removeprefix("model.")
        if plain.startswith("encoder."):
            tensors[openai_name(plain.removeprefix("encoder."))] = value
    return shape, tensors


def openai_name(name: str) -> str:
    """An encoder tensor's name in openai's layout, from Hugging Face's (both without the `encoder.` in front)."""
    for pattern, replacement in HF_NAMES:
        renamed, count = re.subn(pattern, replacement, name)
        if count:
            return renamed
    return name


def cast_weights(module: WhisperAudioEncoder, dtype: torch.dtype) -> None:
    """Put matrices in `dtype` and leave the layer norms in float32, where openai-whisper computes them."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv1d):
            part.to(dtype)
