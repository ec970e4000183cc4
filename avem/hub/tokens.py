"""The special tokens of a folder's tokenizer, read from its files without building it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from avem.errors import CheckpointError, DataError
from avem.reading import advise, read_json


def special_tokens(folder: Path) -> dict[str, int]:
    """Ids of the tokens that were added to a tokenizer's vocabulary, by their text; empty where no file states any.

    Raises:
        CheckpointError: A file of the tokenizer is damaged.

    Example:
        >>> special_tokens(Path("Qwen2.5-Omni-7B"))["<|AUDIO|>"]  # doctest: +SKIP
        151646
    """
    tokens: dict[str, int] = {}
    listed = _read(folder / "tokenizer.json").get("added_tokens", [])
    decoder = _read(folder / "tokenizer_config.json").get("added_tokens_decoder", {})
    try:
        tokens |= {str(entry["content"]): int(number) for number, entry in decoder.items()}
        tokens |= {str(name): int(number) for name, number in _read(folder / "added_tokens.json").items()}
        tokens |= {str(entry["content"]): int(entry["id"]) for entry in listed}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"The tokenizer in {folder} lists no usable tokens; fetch the checkpoint again."
        ) from error
    return tokens


def named_tokens(folder: Path) -> dict[str, str]:
    """Texts of the tokens that `tokenizer_config.json` names, such as `audio_token`; empty where it names none.

    Raises:
        CheckpointError: The file is damaged.
    """
    config = _read(folder / "tokenizer_config.json")
    extra = config.get("extra_special_tokens") or {}
    extra = extra if isinstance(extra, dict) else {}
    named = {name: value for name, value in (extra | config).items() if name.endswith("_token")}
    texts = {name: value.get("content") if isinstance(value, dict) else value for name, value in named.items()}
    return {name: text for name, text in texts.items() if isinstance(text, str)}


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content: dict[str, Any] = read_json(path, dict)
    except DataError as error:
        raise CheckpointError(advise(error, "fetch the checkpoint again")) from error
    return content
