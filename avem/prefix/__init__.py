"""Shared prefixes for any Hugging Face language model, without avem's stores and runs; `docs/library.md` shows how.

Example:
    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> from avem.prefix import TokenSequence, score
    >>> shape = {"vocab_size": 20, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    >>> model = LlamaForCausalLM(LlamaConfig(**shape, num_attention_heads=2, pad_token_id=0)).eval()
    >>> prompt = [5, 6, 7, 8]
    >>> score(model, [TokenSequence([*prompt, 9], 4), TokenSequence([*prompt, 10, 11], 4)]).shape
    torch.Size([2])
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = ["EmbeddedMedia", "PrefixDPOTrainer", "TokenSequence", "cached_score", "score"]

_HOMES = {
    "EmbeddedMedia": "sequences",
    "PrefixDPOTrainer": "trl",
    "TokenSequence": "sequences",
    "cached_score": "scoring",
    "score": "scoring",
}


def __getattr__(name: str) -> Any:
    """Import what a public name stands for when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"avem.train.library.{_HOMES[name]}"), name)
