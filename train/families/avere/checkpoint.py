"""AVERE checkpoints (`model_type: avere`, a Video-LLaVA-7B with a speech projector) in and out.

`LanguageBind/Video-LLaVA-7B` itself (`model_type: llava`) has the same layout without the speech projector.

Names and shapes of the tensors are those of the authors' released layout. The encoders' weights that such checkpoints
carry are not needed here: features come from the store.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from transformers import LlamaConfig, LlamaForCausalLM

from avem.errors import CheckpointError, MissingFileError
from avem.reading import read_json
from avem.train.checkpoints.tensors import check_shapes, fill
from avem.train.model.audiovisual import AudiovisualLM
from avem.train.model.config import AudiovisualConfig
from avem.train.model.tokenizers import load_tokenizer
from avem.weights import tensor_shapes

IGNORED = re.compile(
    r"model\.(image|video|speech)_tower\."
    r"|model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq$"
    r"|model\.(mm|speech)_projector\.\w*Qformer\.bert\.embeddings\.position_ids$"
)
"""Encoder towers, and buffers that older transformers versions saved."""

RENAMED = (
    ("audio_projector.network.norm.", "model.speech_projector.ln_speech."),
    ("audio_projector.network.queries", "model.speech_projector.speech_query_tokens"),
    ("audio_projector.network.bert.layernorm.", "model.speech_projector.speech_Qformer.bert.embeddings.LayerNorm."),
    ("audio_projector.network.bert.", "model.speech_projector.speech_Qformer.bert."),
    ("audio_projector.network.projection.", "model.speech_projector.speech_proj."),
    ("audio_projector.network.mlp.", "model.speech_projector."),
    ("video_projector.network.norm.", "model.mm_projector.ln_video."),
    ("video_projector.network.queries", "model.mm_projector.video_query_tokens"),
    ("video_projector.network.bert.layernorm.", "model.mm_projector.video_Qformer.bert.embeddings.LayerNorm."),
    ("video_projector.network.bert.", "model.mm_projector.video_Qformer.bert."),
    ("video_projector.network.projection.", "model.mm_projector.video_proj."),
    ("video_projector.network.", "model.mm_projector."),
    ("language_model.", ""),
)
"""Beginnings of our names and of AVERE's; the first that fits counts."""

LLAMA_FIELDS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "hidden_act",
    "max_position_embeddings",
    "rms_norm_eps",
    "tie_word_embeddings",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
)
"""Fields of an AVERE configuration that shape the language model, under the names that transformers gives them."""

QFORMER_FIELDS = (
    "qformer_num_speech_query_tokens",
    "qformer_window_level",
    "qformer_second_per_window",
    "qformer_second_stride",
    "qformer_num_video_query_tokens",
    "video_qformer_window_level",
    "video_qformer_tokens_per_window",
    "video_qformer_token_stride",
)


VIDEO_LLAVA = "LanguageBind/Video-LLaVA-7B"
"""The released model that AVERE's base starts from (D.2): its language model and its video projector."""


def is_avere(settings: dict[str, Any]) -> bool:
    """Whether a `config.json` is that of an AVERE checkpoint, or of a Video-LLaVA, which has no speech projector."""
    named = settings.get("architectures")
    return settings.get("model_type") == "avere" or (isinstance(named, list) and "LlavaLlamaForCausalLM" in named)


def refuse_other_llava(folder: Path, settings: dict[str, Any]) -> None:
    """Refuse relatives of Video-LLaVA that are laid out otherwise, or whose projector reads other features.

    Raises:
        CheckpointError: It is a conversion for transformers, or a LLaVA for images.
    """
    if "text_config" in settings:
        raise CheckpointError(
            f"{folder} is a LLaVA in transformers' own layout, which avem does not read; give {VIDEO_LLAVA}, which has "
            "the authors' layout."
        )
    if settings.get("mm_vision_tower") and not settings.get("mm_video_tower"):
        raise CheckpointError(
            f"{folder} is a LLaVA for images: its projector reads {settings['mm_vision_tower']}, not LanguageBind's "
            f"video features; give {VIDEO_LLAVA}."
        )


def load_avere(folder: Path, settings: dict[str, Any], device: str | torch.device, dtype: torch.dtype) -> AudiovisualLM:
    """Read an AVERE checkpoint.

    Args:
        folder: Holds the weights (safetensors or `.bin`, whole or in shards) and the tokenizer.
        settings: Its `config.json`.
        device: Where the weights go.
        dtype: Their number format.

    Raises:
        MissingFileError: A file is missing.
        CheckpointError: Tensors are missing, unknown or misshapen, or the configuration can't be understood.
    """
    model = empty_avere(folder, settings)
    fill(model, folder, _names(model), device, dtype)
    return model.eval()


def empty_avere(folder: Path, settings: dict[str, Any]) -> AudiovisualLM:
    """The model of an AVERE checkpoint without its weights: parameters have shapes and no storage.

    Args:
        folder: The checkpoint; the files' headers are read.
        settings: Its `config.json`.

    Raises:
        MissingFileError: A file is missing.
        CheckpointError: Tensors are missing, unknown or misshapen, or the configuration can't be understood.
    """
    refuse_other_llava(folder, settings)
    shapes = tensor_shapes(folder)
    config = _read_config(folder, settings, shapes)
    with init_empty_weights(include_buffers=False):
        language_model = LlamaForCausalLM(_llama_config(settings))
        model = AudiovisualLM(language_model, load_tokenizer(folder), config)
    check_shapes(model, folder, shapes, _names(model), IGNORED)
    model.source = str(folder)
    model.avere_settings = settings
    return model


def _names(model: AudiovisualLM) -> dict[str, str]:
    """From AVERE's names to ours."""
    return {avere_name(name): name for name in model.state_dict()}


def avere_name(name: str) -> str:
    """The name that AVERE gives to one of our parameters."""
    for ours, theirs in RENAMED:
        if name.startswith(ours):
            renamed = theirs + name.removeprefix(ours)
            break
    else:
        renamed = name
    if "Qformer.bert" in renamed:
        renamed = renamed.replace("attention.attention.", "attention.self.")
    return renamed


def _llama_config(settings: dict[str, Any]) -> LlamaConfig:
    """The language model's part of an AVERE configuration."""
    names = (*LLAMA_FIELDS, "rope_theta", "rope_scaling", "attention_bias", "mlp_bias", "head_dim")
    try:
        return LlamaConfig(**{name: settings[name] for name in names if settings.get(name) is not None})
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"The AVERE config.json does not describe a Llama model: {error}") from error


def _read_config(folder: Path, settings: dict[str, Any], shapes: dict[str, tuple[int, ...]]) -> AudiovisualConfig:
    """The audiovisual part of an AVERE configuration, completed from the shapes of the weights."""
    video = str(settings.get("mm_projector_type", "linear")) if settings.get("mm_hidden_size") else "none"
    audio = "none"
    if any(name.startswith("model.speech_projector.") for name in shapes):
        audio = {"qformer": "qformer", "mlp": "stack-mlp"}.get(str(settings.get("speech_projector_type")), "unknown")
    values = {name: settings[name] for name in QFORMER_FIELDS if name in settings}
    return AudiovisualConfig.from_json(
        {
            **values,
            **_qformer_sizes(folder, shapes),
            "video_hidden_size": settings.get("mm_hidden_size") or 0,
            "audio_hidden_size": settings.get("speech_hidden_size", 0) if audio != "none" else 0,
            "video_projector": video,
            "audio_projector": audio,
            "context_length": settings.get("tokenizer_model_max_length") or 0,
        },
        where=str(folder / "config.json"),
    )


def _qformer_sizes(folder: Path, shapes: dict[str, tuple[int, ...]]) -> dict[str, int]:
    """Width, heads, inner width and layers of the Q-Former; the configuration names none of them."""
    queries = next((shape for name, shape in shapes.items() if name.endswith("_query_tokens")), None)
    if queries is None:
        return {}
    inner = next(shape[0] for name, shape in shapes.items() if name.endswith("intermediate_query.dense.weight"))
    layers = {match[1] for name in shapes if (match := re.search(r"Qformer\.bert\.encoder\.layer\.(\d+)\.", name))}
    return {
        "qformer_hidden_size": queries[2],
        "qformer_num_attention_heads": _bert_heads(folder, queries[2]),
        "qformer_intermediate_size": inner,
        "qformer_num_hidden_layers": len(layers),
    }


def _bert_heads(folder: Path, width: int) -> int:
    """Attention heads of the Q-Former's BERT: from its configuration beside the checkpoint, or bert-base's 64 wide."""
    for path in _bert_configs(folder):
        config = read_json(path, dict)
        if config.get("hidden_size") == width:
            return int(config["num_attention_heads"])
    if width % 64 == 0:
        return width // 64
    raise MissingFileError(
        f"{folder} has a Q-Former of width {width} and does not say how many attention heads; "
        f"put the config.json of its BERT into {folder / 'backbones' / 'bert-base-uncased'}."
    )


def _bert_configs(folder: Path) -> Iterator[Path]:
    """Where the Q-Former's BERT may be described; the authors' tools look below the working directory."""
    for parent in (folder, folder.parent, Path()):
        yield from sorted(parent.glob("backbones/*bert*/config.json"))
