"""Tiny checkpoints in the layout of `LanguageBind/Video-LLaVA-7B`: names and settings as released, random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

from tests.train.model_kit import byte_tokenizer

WIDTH = 32
VOCABULARY = 300


def settings(video_width: int, **changes: Any) -> dict[str, Any]:
    """A `config.json` with the fields of the released one."""
    return {
        "_name_or_path": "./checkpoints/videollava-7b-pretrain",
        "architectures": ["LlavaLlamaForCausalLM"],
        "bos_token_id": 0,
        "eos_token_id": 1,
        "freeze_mm_mlp_adapter": False,
        "hidden_act": "silu",
        "hidden_size": WIDTH,
        "image_aspect_ratio": "pad",
        "initializer_range": 0.02,
        "intermediate_size": 48,
        "max_position_embeddings": 4096,
        "mm_hidden_size": video_width,
        "mm_image_tower": "LanguageBind/LanguageBind_Image",
        "mm_projector_lr": None,
        "mm_projector_type": "mlp2x_gelu",
        "mm_use_im_patch_token": False,
        "mm_use_im_start_end": False,
        "mm_video_tower": "LanguageBind/LanguageBind_Video_merge",
        "mm_vision_select_feature": "patch",
        "mm_vision_select_layer": -2,
        "model_type": "llava",
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "num_key_value_heads": 4,
        "pad_token_id": 2,
        "pretraining_tp": 1,
        "rms_norm_eps": 1e-05,
        "rope_scaling": None,
        "tie_word_embeddings": False,
        "tokenizer_model_max_length": 3072,
        "tokenizer_padding_side": "right",
        "torch_dtype": "bfloat16",
        "transformers_version": "4.31.0",
        "tune_mm_mlp_adapter": False,
        "use_cache": True,
        "use_mm_proj": True,
        "vocab_size": VOCABULARY,
        **changes,
    }


def tensors(config: dict[str, Any], seed: int = 0) -> dict[str, torch.Tensor]:
    """All tensors of such a checkpoint by their released names, both encoders among them."""
    torch.manual_seed(seed)
    names = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    llama = LlamaForCausalLM(LlamaConfig(**{name: config[name] for name in names}, initializer_range=0.2))
    dtype = getattr(torch, config["torch_dtype"])
    state = {name: tensor.to(dtype) for name, tensor in llama.state_dict().items()}
    video, width = config["mm_hidden_size"], config["hidden_size"]
    shapes = {"0.weight": (width, video), "0.bias": (width,), "2.weight": (width, width), "2.bias": (width,)}
    state |= {f"model.mm_projector.{name}": 0.2 * torch.randn(shape).to(dtype) for name, shape in shapes.items()}
    for tower in ("image", "video"):
        beginning = f"model.{tower}_tower.{tower}_tower"
        state[f"{beginning}.embeddings.patch_embedding.weight"] = torch.randn(4, 3, 2, 2).to(dtype)
        state[f"{beginning}.encoder.layers.0.self_attn.q_proj.weight"] = torch.randn(4, 4).to(dtype)
    heads = config["num_attention_heads"]
    state["model.layers.0.self_attn.rotary_emb.inv_freq"] = 1 / 10000 ** torch.linspace(0, 1, width // heads // 2)
    return state


def save_checkpoint(
    folder: Path, video_width: int, form: str = "bin", shards: int = 2, seed: int = 0, **changes: Any
) -> dict[str, torch.Tensor]:
    """Write a checkpoint; returns its tensors.

    Args:
        folder: The new folder.
        video_width: Channels of LanguageBind's features.
        form: `bin` or `safetensors`.
        shards: Files that the weights are cut into.
        seed: Of the weights.
        changes: Of the configuration.
    """
    config = settings(video_width, **changes)
    state = tensors(config, seed)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    byte_tokenizer().save_pretrained(folder)
    (folder / "generation_config.json").write_text('{"bos_token_id": 0, "eos_token_id": 1}')
    stem = "pytorch_model" if form == "bin" else "model"
    names, where = sorted(state), {}
    for number in range(shards):
        file = f"{stem}.{form}" if shards == 1 else f"{stem}-{number + 1:05}-of-{shards:05}.{form}"
        part = {name: state[name].contiguous().clone() for name in names[number::shards]}
        where |= dict.fromkeys(part, file)
        if form == "bin":
            torch.save(part, folder / file)
        else:
            save_file(part, folder / file, metadata={"format": "pt"})
    if shards > 1:
        (folder / f"{stem}.{form}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return state
