"""Tiny audiovisual models of several families, made on the spot."""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GemmaConfig,
    GemmaForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from avem.train import AudiovisualConfig, AudiovisualLM

CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
FAMILIES: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "llama": (LlamaConfig, LlamaForCausalLM, {"num_key_value_heads": 4}),
    "llama-gqa": (LlamaConfig, LlamaForCausalLM, {"num_key_value_heads": 2}),
    "smollm2": (LlamaConfig, LlamaForCausalLM, {"num_key_value_heads": 1, "tie_word_embeddings": True}),
    "mistral": (MistralConfig, MistralForCausalLM, {"num_key_value_heads": 2, "sliding_window": None}),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, {"num_key_value_heads": 2}),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, {"num_key_value_heads": 2, "head_dim": 16}),
    "gemma2": (
        Gemma2Config,
        Gemma2ForCausalLM,
        {"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 512, "attn_logit_softcapping": 3.0},
    ),
    "gemma": (GemmaConfig, GemmaForCausalLM, {"num_key_value_heads": 1, "head_dim": 8}),
}
VIDEO_WIDTH, AUDIO_WIDTH = 6, 10


def byte_tokenizer(*, bos: bool = True) -> PreTrainedTokenizerFast:
    """One token a byte, and a few special tokens."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<s>", "</s>", "<unk>", "<|im_start|>", "<|im_end|>"]
    vocabulary = {token: number for number, token in enumerate([*special, *letters])}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>"))
    tokenizer.add_special_tokens(special)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if bos:
        tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>" if bos else None, eos_token="</s>", unk_token="<unk>"
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def tiny_language_model(family: str = "llama", seed: int = 0, **changes: Any) -> Any:
    """Two layers, width 32, 300 tokens, random weights."""
    make_config, make_model, settings = FAMILIES[family]
    torch.manual_seed(seed)
    base = {
        "vocab_size": 300,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 2048,
        "initializer_range": 0.2,
    }
    return make_model(make_config(**{**base, **settings, **changes})).eval()


def tiny_config(**changes: Any) -> AudiovisualConfig:
    """Small projectors: 4 frames of video, audio windows of 5 steps with 2 queries."""
    values = {
        "video_hidden_size": VIDEO_WIDTH,
        "audio_hidden_size": AUDIO_WIDTH,
        "video_frames": 4,
        "qformer_num_speech_query_tokens": 2,
        "qformer_second_per_window": 0.1,
        "qformer_second_stride": 0.08,
        "qformer_hidden_size": 12,
        "qformer_num_attention_heads": 3,
        "qformer_intermediate_size": 16,
        "qformer_num_video_query_tokens": 2,
        "video_qformer_tokens_per_window": 3,
        "video_qformer_token_stride": 3,
    }
    return AudiovisualConfig(**{**values, **changes})


def tiny_model(family: str = "llama", dtype: torch.dtype = torch.float64, **changes: Any) -> AudiovisualLM:
    """A whole model; `changes` go to its `AudiovisualConfig`."""
    language_model = tiny_language_model(family).to(dtype)
    return AudiovisualLM.create(language_model, byte_tokenizer(), tiny_config(**changes), seed=1)


def random_video(seed: int, frames: int = 4, tokens: int = 3) -> torch.Tensor:
    """Video features [T, N, C] in float16, as a store gives them."""
    return torch.randn(frames, tokens, VIDEO_WIDTH, generator=torch.Generator().manual_seed(seed)).half()


def random_audio(seed: int, steps: int = 23) -> torch.Tensor:
    """Audio features [S, C] in float16."""
    return torch.randn(steps, AUDIO_WIDTH, generator=torch.Generator().manual_seed(1000 + seed)).half()
