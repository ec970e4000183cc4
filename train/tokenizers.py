"""Tokenizers from a folder, exactly as their files say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerFast

from avem.errors import CheckpointError


def load_tokenizer(folder: Path) -> Any:
    """Read a folder's tokenizer.

    `tokenizer.json` is used as it stands: rebuilding it from the class that the configuration names can change how text
    that starts with a space is split.

    Raises:
        CheckpointError: There is no tokenizer that can be read.
    """
    try:
        if (folder / "tokenizer.json").is_file():
            return PreTrainedTokenizerFast.from_pretrained(folder)
        return AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, KeyError, ImportError, TypeError) as error:
        raise CheckpointError(
            f"{folder} holds no tokenizer that can be read ({str(error).splitlines()[0]}); "
            f"put the language model's tokenizer.json beside the weights."
        ) from error
