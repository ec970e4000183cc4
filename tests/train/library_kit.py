"""Tiny Hugging Face models and preference rows for the tests of `avem.prefix`."""

from __future__ import annotations

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

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
