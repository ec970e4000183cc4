"""Which adapter runs which model; an adapter's module is imported when it is first needed."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from avem.errors import DataError
from avem.evaluate.predict.adapters.base import Adapter
from avem.locate import locate_model
from avem.reading import read_json

ADAPTERS: dict[str, str] = {
    "qwen2_5_omni": "qwen_omni.Qwen25Omni",
    "qwen2_5_omni_thinker": "qwen_omni.Qwen25Omni",
    "qwen3_omni_moe": "qwen_omni.Qwen3Omni",
    "qwen3_omni_moe_thinker": "qwen_omni.Qwen3Omni",
    "qwen2_audio": "qwen2_audio.Qwen2Audio",
    "qwen2_5_vl": "qwen2_5_vl.Qwen25VL",
    "qwen3_vl": "qwen3_vl.Qwen3VL",
    "video_llama_3": "video_llama3.VideoLlama3",
    "internvl": "internvl.InternVL",
    "audioflamingo3": "audio_flamingo3.AudioFlamingo3",
    "phi4_multimodal": "phi4_multimodal.Phi4Multimodal",
    "gemma3n": "gemma3n.Gemma3n",
    "voxtral": "voxtral.Voxtral",
}
"""`model_type` to module and class, below `avem.evaluate.predict.adapters`."""


def adapter_for(name_or_path: str) -> str | None:
    """The `model_type` that an adapter runs, for a model on this machine or in the hub; None for any other model.

    Raises:
        DataError: The model's `config.json` is not a JSON object.
        MissingFileError: There is no such model.
    """
    config = locate_model(name_or_path, "--model") / "config.json"
    if not config.is_file():
        return None
    try:
        kind = read_json(config, dict).get("model_type")
    except (ValueError, AttributeError) as error:
        raise DataError(f"{config} is not a model's configuration ({error}); fetch the model again.") from error
    return kind if kind in ADAPTERS else None


def adapter_class(kind: str) -> type[Adapter]:
    """The adapter for a `model_type` in `ADAPTERS`."""
    module, name = ADAPTERS[kind].split(".")
    found: type[Adapter] = getattr(import_module(f"avem.evaluate.predict.adapters.{module}"), name)
    return found


def load_adapter(name_or_path: str, device: str, dtype: Any) -> Adapter:
    """Load a model with the adapter for its `model_type`.

    Args:
        name_or_path: A folder or a hub id.
        device: Where it computes.
        dtype: Its number format.

    Raises:
        DataError: There is no adapter for it; the message lists those there are.
    """
    kind = adapter_for(name_or_path)
    if kind is None:
        raise DataError(f"There is no adapter for {name_or_path}; there are some for {', '.join(ADAPTERS)}.")
    folder = Path(locate_model(name_or_path, "--model"))
    return adapter_class(kind).load(folder, str(name_or_path), device, dtype)
