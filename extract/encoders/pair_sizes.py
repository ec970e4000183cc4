"""How large the features of AVERE's two encoders will be, from their configurations alone: for `--dry-run`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from avem.cache import StreamSpec
from avem.cache.spec import RowShape
from avem.errors import DataError, MissingFileError
from avem.extract.defaults import DEFAULT_AUDIO_ENCODER, DEFAULT_VIDEO_ENCODER
from avem.locate import look_up
from avem.reading import read_json

RELEASED: dict[str, tuple[RowShape, int]] = {
    DEFAULT_VIDEO_ENCODER: ((8, 257, 1024), 768),
    DEFAULT_AUDIO_ENCODER: ((1500, 1280), 1280),
}
"""Shape of a clip's features and width of its pooled vector, of the released encoders; no file is needed for them."""


def describe_pair(slot: str, encoder: str, name_or_path: str | Path) -> Callable[[str], StreamSpec] | None:
    """What a slot's stream will be, by its dtype, without its fingerprint.

    Args:
        slot: `video` or `audio`.
        encoder: The second half of the stream's name.
        name_or_path: Checkpoint: a folder, a file, or a hub id that need not be on this machine.

    Returns:
        None where only the weights' file says it.
    """
    found = look_up(name_or_path, ask_hub=False)
    shapes = RELEASED.get(str(name_or_path)) if found.path is None else _configured(slot, found.path)
    return None if shapes is None else partial(_spec, slot, encoder, *shapes)


def _spec(slot: str, encoder: str, row_shape: RowShape, pooled_dim: int, dtype: str) -> StreamSpec:
    return StreamSpec(slot, encoder, {}, row_shape, pooled_dim, dtype)


def _configured(slot: str, path: Path) -> tuple[RowShape, int] | None:
    try:
        config = read_json(path / "config.json", dict)
    except (DataError, MissingFileError):
        return None
    try:
        if slot == "audio":
            return (config["max_source_positions"], config["d_model"]), config["d_model"]
        vision = config["vision_config"]
        patches = (vision.get("image_size", 224) // vision.get("patch_size", 32)) ** 2 + 1
        width = vision.get("hidden_size", 768)
        return (vision.get("num_frames", 8), patches, width), config.get("projection_dim", width)
    except (KeyError, TypeError, AttributeError):
        return None  # loading says what is wrong with it
