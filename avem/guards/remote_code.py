"""Checkpoints that bring code of their own: refused, since loading one would run whatever its author wrote."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Final

from avem.errors import CheckpointError, DataError
from avem.reading import read_json

logger = logging.getLogger(__name__)

NO_CODE: Final = {"trust_remote_code": False}
"""Passed to every loader of transformers: without it, it asks on the terminal, and `yes |` answers."""

DESCRIPTIONS = (
    "config.json",
    "tokenizer_config.json",
    "processor_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "generation_config.json",
)
"""Files of a checkpoint that may name classes in its own Python files."""


def refuse_code(folder: Path) -> None:
    """Refuse a checkpoint that only its own Python code can load.

    A checkpoint whose `model_type` transformers knows is loaded with transformers' own class; that its code is left
    out is logged.

    Args:
        folder: In Hugging Face's layout.

    Raises:
        CheckpointError: Its configuration names code in the folder or on the hub, and nothing else can load it.
    """
    settings = {name: _read(folder / name) for name in DESCRIPTIONS}
    for name, content in settings.items():
        kernel = next((content[key] for key in ("attn_implementation", "_attn_implementation") if key in content), "")
        if isinstance(kernel, str) and "/" in kernel:
            raise CheckpointError(
                f"{folder / name} asks for the attention code {kernel} from the hub, which avem does not run; "
                "remove attn_implementation from it."
            )
    coded = [name for name, content in settings.items() if content.get("auto_map")]
    if not coded:
        return
    kind = settings["config.json"].get("model_type")
    if not _is_known(kind):
        raise CheckpointError(
            f"{folder} can be loaded only by its own Python code (auto_map in {coded[0]}), which avem does not run; "
            "give a model that transformers knows by itself."
        )
    logger.warning(
        "%s brings Python code (auto_map in %s), which is not run; transformers' own %s is loaded.",
        folder,
        ", ".join(coded),
        kind,
    )


def _is_known(kind: Any) -> bool:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    return isinstance(kind, str) and kind in CONFIG_MAPPING


def _read(path: Path) -> dict[str, Any]:
    """A JSON object, or an empty one; loading the checkpoint reports what else is wrong with it."""
    try:
        content: dict[str, Any] = read_json(path, dict)
    except (OSError, DataError):
        return {}
    return content
