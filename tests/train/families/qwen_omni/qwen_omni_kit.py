"""Tiny random thinkers of both families, and clips as their towers see them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2_5OmniThinkerForConditionalGeneration,
    Qwen3OmniMoeThinkerForConditionalGeneration,
)
from transformers.models.qwen2_5_omni.configuration_qwen2_5_omni import Qwen2_5OmniThinkerConfig
from transformers.models.qwen3_omni_moe.configuration_qwen3_omni_moe import Qwen3OmniMoeThinkerConfig

from avem.train.model.media import StreamRow

FAMILIES = ("qwen2_5_omni", "qwen3_omni")
WIDTH = 48
"""H of both families' language models and towers."""
WORDS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>", "<|IMAGE|>")
WORDS += ("<|VIDEO|>", "<|vision_bos|>", "<|vision_eos|>")
"""Special tokens, with ids from 256 on."""
VOCABULARY = 280
IDS = {
    "audio_token_id": 259,
    "audio_start_token_id": 260,
    "audio_end_token_id": 261,
    "image_token_id": 262,
    "video_token_id": 263,
    "vision_start_token_id": 264,
    "vision_end_token_id": 265,
}
TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.content is string %}{{ m.content }}{% else %}"
    "{% for part in m.content %}{% if part.type == 'video' %}<|vision_bos|><|VIDEO|><|vision_eos|>"
    "{% elif part.type == 'audio' %}<|audio_bos|><|AUDIO|><|audio_eos|>{% else %}{{ part.text }}{% endif %}{% endfor %}"
    "{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""Writes what the released templates write for one turn."""
_AUDIO = {
    "encoder_layers": 2,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 40,
    "d_model": 32,
    "output_dim": WIDTH,
    "num_mel_bins": 128,
}
_TEXT = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
}


def config_2_5(**text: Any) -> Qwen2_5OmniThinkerConfig:
    """A Qwen2.5-Omni thinker of two layers, windows of 4 x 4 merged patches."""
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 2, 2]}
    named = {
        key.replace("_token_id", "_token_index") if key.count("_") == 2 else key: value for key, value in IDS.items()
    }
    return Qwen2_5OmniThinkerConfig(
        audio_config={**_AUDIO, "n_window": 10},
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 40,
            "num_heads": 2,
            "out_hidden_size": WIDTH,
            "window_size": 112,
            "fullatt_block_indexes": [1],
        },
        text_config={**_TEXT, "num_hidden_layers": 2, "rope_parameters": rope, "tie_word_embeddings": False, **text},
        **named,
    )


def config_3(**text: Any) -> Qwen3OmniMoeThinkerConfig:
    """A Qwen3-Omni thinker of four layers with four experts, deepstack after the first three."""
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [4, 2, 2], "mrope_interleaved": True}
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24, "head_dim": 16}
    return Qwen3OmniMoeThinkerConfig(
        audio_config={
            **_AUDIO,
            "n_window": 50,
            "n_window_infer": 400,
            "conv_chunksize": 500,
            "downsample_hidden_size": 16,
        },
        vision_config={
            "depth": 4,
            "hidden_size": 32,
            "intermediate_size": 40,
            "num_heads": 2,
            "out_hidden_size": WIDTH,
            "deepstack_visual_indexes": [1, 2, 3],
        },
        text_config={**_TEXT, **experts, "num_hidden_layers": 4, "rope_parameters": rope, **text},
        position_id_per_seconds=13,
        **IDS,
    )


def thinker(family: str, seed: int = 0, dtype: torch.dtype = torch.float64, **text: Any) -> Any:
    """transformers' own thinker with its towers, in evaluation mode."""
    torch.manual_seed(seed)
    if family == "qwen2_5_omni":
        model: Any = Qwen2_5OmniThinkerForConditionalGeneration(config_2_5(**text))
    else:
        model = Qwen3OmniMoeThinkerForConditionalGeneration(config_3(**text))
        model.set_experts_implementation("eager")
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if tensor.ndim > 1:
                tensor.normal_(std=0.15 if "embed" not in name else 0.6)
    return model.to(dtype).eval()


@dataclass
class Clip:
    """Inputs of the towers for one clip."""

    pixels: torch.Tensor | None
    """`[gt*gh*gw, 3*2*p*p]`."""
    grid: torch.Tensor | None
    """int64 `[1, 3]`."""
    seconds_per_slot: float
    mel: torch.Tensor | None
    """`[1, 128, frames]`."""
    mel_mask: torch.Tensor | None
    """int64 `[1, frames]`: ones for the true sound, zeros for padding."""

    def rows(self, model: Any) -> dict[str, StreamRow]:
        """What the store holds of the clip, by the model's towers."""
        found: dict[str, StreamRow] = {}
        with torch.no_grad():
            if self.pixels is not None and self.grid is not None:
                seen = model.get_video_features(self.pixels, self.grid, return_dict=True)
                companions = {
                    "grid": self.grid[0].to(torch.int32),
                    "seconds_per_slot": torch.tensor(self.seconds_per_slot, dtype=torch.float32),
                }
                if hasattr(seen, "deepstack_features"):
                    companions["deepstack"] = torch.stack([level[0] for level in seen.deepstack_features])
                found["video"] = StreamRow(seen.pooler_output[0], companions)
            if self.mel is not None and self.mel_mask is not None:
                heard = model.get_audio_features(self.mel, self.mel_mask, return_dict=True).last_hidden_state
                frames = self.mel_mask.sum().to(torch.int32)
                found["audio"] = StreamRow(heard.reshape(-1, heard.shape[-1]), {"mel_frames": frames})
        return found


def clip(
    family: str,
    grid: tuple[int, int, int] | None = (2, 4, 6),
    seconds_per_slot: float = 1.0,
    mel: int | None = 170,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
) -> Clip:
    """A clip of random pixels and sound; the sound is padded, as the processor pads it."""
    generator = torch.Generator().manual_seed(seed)
    patch = 14 if family == "qwen2_5_omni" else 16
    pixels = grid_tensor = mel_values = mask = None
    if grid is not None:
        pixels = torch.randn(grid[0] * grid[1] * grid[2], 3 * 2 * patch * patch, generator=generator).to(dtype)
        grid_tensor = torch.tensor([grid])
    if mel is not None:
        mel_values = torch.randn(1, 128, mel + 30, generator=generator).to(dtype)
        mask = torch.cat([torch.ones(1, mel), torch.zeros(1, 30)], 1).long()
    return Clip(pixels, grid_tensor, seconds_per_slot, mel_values, mask)


def tokenizer() -> PreTrainedTokenizerFast:
    """Bytes, and the special tokens of a Qwen-Omni checkpoint."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = Tokenizer(models.BPE({letter: number for number, letter in enumerate(alphabet)}, []))
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    words.add_special_tokens([AddedToken(word, special=True, normalized=False) for word in WORDS])
    return PreTrainedTokenizerFast(
        tokenizer_object=words, eos_token="<|im_end|>", pad_token="<|endoftext|>", chat_template=TEMPLATE
    )


def save_checkpoint(model: Any, folder: Path, *, full: bool = True, shards: int = 1) -> Path:
    """Write a thinker as it is released: alone, or with `thinker.` before its names and a talker beside it."""
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    state = load_file(folder / "model.safetensors")
    if full:
        config = json.loads((folder / "config.json").read_text())
        kind = config["model_type"].removesuffix("_thinker")
        whole = {"model_type": kind, "thinker_config": config, "talker_config": {"model_type": f"{kind}_talker"}}
        (folder / "config.json").write_text(json.dumps(whole))
        state = {f"thinker.{name}": tensor for name, tensor in state.items()}
        state["talker.codec_head.weight"] = torch.ones(3, 4)
        state["token2wav.dit.weight"] = torch.ones(2)
    (folder / "model.safetensors").unlink()
    names = sorted(state)
    if shards == 1:
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        return folder
    files: dict[str, str] = {}
    for number in range(shards):
        file = f"model-{number + 1:05}-of-{shards:05}.safetensors"
        part = names[number::shards]
        save_file({name: state[name] for name in part}, folder / file, metadata={"format": "pt"})
        files |= dict.fromkeys(part, file)
    index = {"metadata": {"total_size": 1}, "weight_map": files}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder
