"""Names of reference scores: digests of a row's prompt, media and answer, made where a batch is put together."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

KEYS = "avem_keys"
"""Batch entry with the digests of its answers, int64 `[B, 2, 4]`: chosen and rejected, 32 bytes each."""


class KeyedCollator:
    """A collator whose batches also have the digests of their answers, under which reference scores are kept.

    Args:
        collator: Makes the batch.
    """

    def __init__(self, collator: Callable[[list[dict[str, Any]]], dict[str, Any]]) -> None:
        self._collator = collator

    def __getattr__(self, name: str) -> Any:
        return getattr(self._collator, name)

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """The batch, with `avem_keys` int64 `[B, 2, 4]`."""
        keys = np.stack([np.stack([row_key(example, side) for side in ("chosen", "rejected")]) for example in examples])
        return {**self._collator(examples), KEYS: torch.from_numpy(keys)}


def row_key(example: Mapping[str, Any], side: str) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Digest of a row's prompt, media and one answer, as four numbers."""
    other = "rejected" if side == "chosen" else "chosen"
    digest = hashlib.sha256()
    for name in sorted(example):
        if not name.startswith((other, "ref_")):
            digest.update(name.removeprefix(side).encode() + b"\0")
            _update(digest, example[name])
    return np.frombuffer(digest.digest(), np.int64)


def _update(digest: Any, value: Any) -> None:
    """Add a value of a row: text, numbers, messages, and pictures by their pixels."""
    if hasattr(value, "tobytes") and hasattr(value, "size"):  # a PIL image or an array
        kind, shape = getattr(value, "mode", getattr(value, "dtype", "")), getattr(value, "shape", value.size)
        digest.update(f"{kind} {shape}".encode())
        digest.update(value.tobytes())
    elif isinstance(value, Tensor):
        _update(digest, value.cpu().numpy())
    elif isinstance(value, Mapping):
        for name in sorted(value):
            digest.update(f"{{{name}".encode())
            _update(digest, value[name])
    elif isinstance(value, list | tuple):
        digest.update(f"[{len(value)}".encode())
        for one in value:
            _update(digest, one)
    else:
        digest.update(json.dumps(value, default=str).encode() + b",")


def processing_identity(processing: Any) -> dict[str, Any]:
    """What of a tokenizer or processor decides which numbers a row becomes, as JSON."""
    image = getattr(processing, "image_processor", None)
    tokenizer = getattr(processing, "tokenizer", processing)
    return {
        "template": str(getattr(processing, "chat_template", None)),
        "image": None if image is None else json.loads(json.dumps(image.to_dict(), default=str)),
        "vocabulary": hashlib.sha256(json.dumps(sorted(tokenizer.get_vocab().items())).encode()).hexdigest(),
    }
