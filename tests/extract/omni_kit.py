"""Tiny Qwen2.5-Omni and Qwen3-Omni folders with random weights, and what transformers' own thinker makes of a clip."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, WhisperFeatureExtractor

WIDTH = 24
"""H, of the language model and of both towers."""
ROPE = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 2, 2]}
TEXT = {
    "vocab_size": 64,
    "hidden_size": WIDTH,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}
VISION = {"hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": WIDTH}
AUDIO = {"encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 32, "d_model": 16, "output_dim": WIDTH}
CONFIGS: dict[str, dict[str, Any]] = {
    "qwen2_5_omni": {
        "text_config": {**TEXT, "rope_parameters": ROPE},
        "vision_config": {**VISION, "depth": 3, "fullatt_block_indexes": [1]},
        "audio_config": AUDIO,
    },
    "qwen3_omni_moe": {
        "text_config": {
            **TEXT,
            "rope_parameters": {**ROPE, "mrope_interleaved": True},
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 16,
        },
        "vision_config": {**VISION, "depth": 3, "deepstack_visual_indexes": [0, 1], "num_position_embeddings": 16},
        "audio_config": {**AUDIO, "downsample_hidden_size": 8},
    },
}
"""Thinkers by the `model_type` of their full checkpoint."""
FAMILY = {"qwen2_5_omni": "qwen2_5_omni", "qwen3_omni_moe": "qwen3_omni"}
PATCH = {"qwen2_5_omni": 14, "qwen3_omni_moe": 16}


def thinker(model_type: str, seed: int = 0, **changes: Any) -> Any:
    """Transformers' own thinker with random weights, float32."""
    from transformers import Qwen2_5OmniThinkerForConditionalGeneration, Qwen3OmniMoeThinkerForConditionalGeneration

    torch.manual_seed(seed)
    config = AutoConfig.for_model(f"{model_type}_thinker", **{**CONFIGS[model_type], **changes})
    two = model_type == "qwen2_5_omni"
    model = (Qwen2_5OmniThinkerForConditionalGeneration if two else Qwen3OmniMoeThinkerForConditionalGeneration)(config)
    return model.eval()


def write_thinker(folder: Path, model_type: str, **changes: Any) -> Path:
    """A thinker saved alone, as transformers saves it."""
    thinker(model_type, **changes).save_pretrained(folder)
    return folder


def write_full(folder: Path, source: Path, model_type: str, *, shards: int = 2) -> Path:
    """The full checkpoint of a thinker: `thinker.` before its names, a talker beside it, in shards, as on the hub."""
    folder.mkdir(parents=True)
    content = json.loads((source / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({"model_type": model_type, "thinker_config": content}))
    tensors = {f"thinker.{name}": value for name, value in load_file(source / "model.safetensors").items()}
    tensors["talker.model.norm.weight"] = torch.ones(4)
    names = sorted(tensors)
    weight_map = {}
    for number in range(shards):
        file = f"model-{number + 1:05}-of-{shards:05}.safetensors"
        part = {name: tensors[name] for name in names[number::shards]}
        save_file(part, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def own_sound(model: Any, model_type: str, samples: np.ndarray) -> torch.Tensor:
    """What transformers' processor and thinker make of sound, [m, H]."""
    extractor = WhisperFeatureExtractor(feature_size=128)
    two = model_type == "qwen2_5_omni"
    padding: dict[str, Any] = {"padding": "max_length"} if two else {"padding": True, "truncation": False}
    made = extractor([samples], sampling_rate=16_000, return_attention_mask=True, return_tensors="pt", **padding)
    with torch.no_grad():
        output = model.get_audio_features(made["input_features"], made["attention_mask"])
    return output.last_hidden_state
