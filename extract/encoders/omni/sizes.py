"""How many tokens a clip has in a Qwen-Omni model's streams, and what these keep, from the configuration alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

from avem.cache import Companion, StreamSpec
from avem.errors import MediaError
from avem.extract.decode.decoded import RATE_HZ
from avem.extract.encoders.omni.settings import PictureSettings, lowered
from avem.hub.omni import OmniFolder

if TYPE_CHECKING:
    from avem.extract.sizes import ClipSize, Tokens

VIDEO_LONGEST = 65_536
"""Most tokens of a clip's pictures."""
AUDIO_LONGEST = 1_024
"""Most tokens of a clip's sound: 30 s have 750 in Qwen2.5-Omni."""
HOP = 160
"""Samples from one mel frame to the next."""
AUDIO_COMPANIONS: Final[Mapping[str, Companion]] = {"mel_frames": Companion((), "int32")}
SMALLER = (512, 256, 128, 64)
"""Tokens of a slot, at most, under the budgets of which a dry run says what they would save."""


def deepstack_levels(folder: OmniFolder) -> int:
    """How many of the vision tower's layers the language model reads besides its output; 0 for Qwen2.5-Omni."""
    return len(getattr(folder.config.vision_config, "deepstack_visual_indexes", ()))


def vision_companions(levels: int, hidden_size: int, dtype: str) -> dict[str, Companion]:
    """What a row of the video stream has beside its features, where these are kept as `dtype`."""
    found = {"grid": Companion((3,), "int32"), "seconds_per_slot": Companion((), "float32")}
    if levels:
        found["deepstack"] = Companion((levels, None, hidden_size), "bfloat16" if dtype == "int8" else dtype)
    return found


def describe(folder: OmniFolder, slot: str, dtype: str) -> StreamSpec:
    """A stream without its fingerprint, which needs the weights."""
    config = folder.config
    if slot == "video":
        width = int(config.vision_config.out_hidden_size)
        companions: Mapping[str, Companion] = vision_companions(deepstack_levels(folder), width, dtype)
    else:
        width, companions = int(config.audio_config.output_dim), AUDIO_COMPANIONS
    return StreamSpec(slot, folder.family, {}, (None, width), width, dtype, companions=companions)


def video_tokens(settings: PictureSettings, clip: ClipSize) -> int:
    """Tokens of a clip's pictures; 0 where there are none or they can't be used."""
    if not clip.frames or not clip.height or not clip.width:
        return 0
    frames = len(settings.sampling.ids(clip.frames, clip.fps))
    try:
        return settings.fitted.tokens(frames, clip.height, clip.width)
    except MediaError:
        return 0


def audio_tokens(family: str, clip: ClipSize) -> int:
    """Tokens of a clip's sound, as transformers counts them; 0 where there is none."""
    frames = math.ceil(clip.sound_s * RATE_HZ) // HOP
    if not frames:
        return 0
    if family == "qwen2_5_omni":
        return ((frames - 1) // 2 + 1 - 2) // 2 + 1
    left = (frames % 100 - 1) // 2 + 1
    return ((left - 1) // 2 + 1 - 1) // 2 + 1 + frames // 100 * 13


def smaller_budgets(settings: PictureSettings) -> dict[str, Tokens]:
    """Tokens under smaller pixel budgets, by what to give for them."""
    budgets: dict[str, Tokens] = {}
    for tokens in SMALLER:
        most = tokens * settings.factor**2
        if most < settings.max_pixels:
            less = replace(settings, max_pixels=most, min_pixels=lowered(settings.min_pixels, most))
            budgets[f"--max-pixels {most}"] = partial(video_tokens, less)
    return budgets
