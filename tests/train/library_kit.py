"""Tiny Hugging Face models and preference rows for the tests of `avem.prefix`."""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

WORDS = 40


def llama(dtype: torch.dtype = torch.float64, seed: int = 0) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=WORDS + 2,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.3,
        bos_token_id=None,
        eos_token_id=WORDS,
        pad_token_id=WORDS + 1,
    )
    return LlamaForCausalLM(config).to(dtype).eval()


def tokenizer() -> PreTrainedTokenizerFast:
    words = {f"w{n}": n for n in range(WORDS)} | {"<end>": WORDS, "<pad>": WORDS + 1}
    made = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<end>", pad_token="<pad>")


def llava() -> tuple[Any, Any]:
    """A tiny model that sees pictures, and its processor."""
    made = tokenizer()
    made.add_special_tokens({"additional_special_tokens": ["<image>"]})
    made.add_tokens(["<image>"], special_tokens=True)
    text = llama(torch.float32).config.to_dict() | {"vocab_size": len(made)}
    size = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(image_size=16, patch_size=8, **size),
        text_config=LlamaConfig(**{name: value for name, value in text.items() if name in TEXT}),
        image_token_index=made.convert_tokens_to_ids("<image>"),
        image_seq_length=4,
    )
    torch.manual_seed(0)
    model = LlavaForConditionalGeneration(config).eval()
    pixels = CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    processor = LlavaProcessor(
        image_processor=pixels,
        tokenizer=made,
        patch_size=8,
        vision_feature_select_strategy="default",
        image_token="<image>",
        num_additional_image_tokens=1,
    )
    return model, processor


TEXT = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
TEXT += ("num_key_value_heads", "max_position_embeddings", "initializer_range", "pad_token_id", "eos_token_id")


def picture_rows(count: int = 4) -> list[dict[str, Any]]:
    """Rows about pictures; two have the same text and different pictures."""
    generator = torch.Generator().manual_seed(5)
    rows = []
    for number, row in enumerate(preference_rows(count)):
        pixels = torch.randint(256, (16, 16, 3), generator=generator, dtype=torch.uint8).numpy()
        text = preference_rows(count)[0] if number == 1 else row
        rows.append({**text, "prompt": f"<image> {text['prompt']}", "images": [Image.fromarray(pixels)]})
    return rows


def preference_rows(count: int = 6) -> list[dict[str, str]]:
    """Rows of random words; each two share a beginning."""
    generator = torch.Generator().manual_seed(1)

    def words(number: int) -> str:
        return " ".join(f"w{n}" for n in torch.randint(WORDS, (number,), generator=generator).tolist())

    texts = [words(12) for _ in range((count + 1) // 2)]
    return [
        {
            "prompt": f"{texts[number // 2]} {words(3)} ",
            "chosen": words(2 + number % 3),
            "rejected": words(4 - number % 3),
        }
        for number in range(count)
    ]
