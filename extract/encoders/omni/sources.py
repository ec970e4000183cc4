"""The two encoders that a Qwen-Omni model reads, before they are loaded."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avem.extract.encoders.omni.settings import picture_settings
from avem.extract.encoders.omni.sizes import audio_tokens, describe, smaller_budgets, video_tokens
from avem.extract.encoders.source import Source
from avem.hub.omni import OmniFolder

if TYPE_CHECKING:
    import torch

    from avem.extract.encoders.base import StreamEncoder
    from avem.extract.options import ExtractOptions

KEPT = "bfloat16"
"""How the models' weights are released, and features are kept."""
ROWS_PER_SHARD = 16
"""A clip of 30 s can have over 100 MB of features, and a shard is in memory when it is written."""


def omni_sources(path: Path, options: ExtractOptions) -> list[Source]:
    """A model's video and audio streams with the options' sampling and pixel budget.

    Raises:
        AvemError: The folder is not a whole Qwen-Omni model, or an option makes no sense.
    """
    folder = OmniFolder.open(path)
    settings = picture_settings(
        folder,
        fps=options.fps,
        frames=options.frames,
        min_pixels=options.min_pixels,
        max_pixels=options.max_pixels,
        cap_pixels=options.cap_pixels,
    )
    if not options.dry_run:  # which a configuration is enough for
        folder.tower_names("visual"), folder.tower_names("audio")

    def vision(device: str, dtype: torch.dtype) -> StreamEncoder:
        from avem.extract.encoders.omni.vision import OmniVision

        return OmniVision.open(folder, settings, device, dtype)

    def audio(device: str, dtype: torch.dtype) -> StreamEncoder:
        from avem.extract.encoders.omni.audio import OmniAudio

        return OmniAudio.open(folder, device, dtype)

    shared: dict[str, Any] = {"dtype": KEPT, "gpu_precision": KEPT, "rows_per_shard": ROWS_PER_SHARD}
    return [
        Source(
            "video",
            folder.family,
            path,
            vision,
            settings.fingerprint(),
            describe=partial(describe, folder, "video"),
            tokens=partial(video_tokens, settings),
            smaller=smaller_budgets(settings),
            **shared,
        ),
        Source(
            "audio",
            folder.family,
            path,
            audio,
            describe=partial(describe, folder, "audio"),
            tokens=partial(audio_tokens, folder.family),
            **shared,
        ),
    ]
