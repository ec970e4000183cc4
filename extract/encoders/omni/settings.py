"""How a Qwen-Omni model wants pictures and sound: by its folder, its family's defaults and the user's options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from avem.errors import CheckpointError, SettingError
from avem.extract.decode.fitted import FLOOR, Fitted
from avem.extract.decode.pixels import CLIP_MEAN, CLIP_STD
from avem.extract.decode.wants import Evenly, Pictures, Rate
from avem.hub.omni import OmniFolder

DEFAULT_FPS = 2.0
"""Frames a second that the family samples."""
SLOT_TOKENS = (128, 768)
"""Tokens of a slot, at least and at most, by the family's processor."""
MIN_FRAMES, MAX_FRAMES = 4, 768
"""Frames that sampling by frames a second takes of a clip, at least and at most, where the folder does not say."""
BICUBIC = 3
"""Pillow's number of the filter, as configurations have it."""
RESCALE = 1 / 255


@dataclass(frozen=True, slots=True)
class PictureSettings:
    """Everything that decides which pixels the vision tower sees of a clip."""

    fps: float | None
    """Frames a second; None where `frames` says how many there are."""
    frames: int | None
    """Frames spread evenly over the clip; None where `fps` says how many there are."""
    min_frames: int
    max_frames: int
    patch_size: int
    merge_size: int
    temporal_patch_size: int
    min_pixels: int
    max_pixels: int
    """Of a slot of `temporal_patch_size` frames, which share their tokens: pixels of one frame."""
    cap_pixels_per_frame: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]
    rescale_factor: float

    @property
    def factor(self) -> int:
        """Pixels of a token's side."""
        return self.patch_size * self.merge_size

    @property
    def fitted(self) -> Fitted:
        """How frames are resized."""
        return Fitted(
            self.factor, self.min_pixels, self.max_pixels, self.cap_pixels_per_frame, self.temporal_patch_size
        )

    @property
    def sampling(self) -> Evenly | Rate:
        """Which frames are taken."""
        if self.frames is not None:
            return Evenly(self.frames)
        return Rate(self.fps or DEFAULT_FPS, self.min_frames, self.max_frames, self.temporal_patch_size)

    @property
    def wants(self) -> Pictures:
        """What a decoding worker hands over."""
        return Pictures(self.sampling, self.fitted)

    def seconds_per_slot(self, duration_s: float) -> float:
        """Seconds from one slot's start to the next one's, as positions in time are counted.

        Args:
            duration_s: Length of the clip; of no account where frames are sampled by frames a second.
        """
        if self.frames is not None:
            return self.temporal_patch_size * duration_s / self.frames
        return self.temporal_patch_size / (self.fps or DEFAULT_FPS)

    def fingerprint(self) -> dict[str, Any]:
        """The same as JSON."""
        content = {name: value for name, value in asdict(self).items() if value is not None}
        if self.frames is not None:  # they are of no account then
            del content["min_frames"], content["max_frames"]
        return {**content, "mean": list(self.mean), "std": list(self.std), "scale": "bicubic-bytes"}


def picture_settings(
    folder: OmniFolder,
    *,
    fps: float | None = None,
    frames: int | None = None,
    min_pixels: int | None = None,
    max_pixels: int | None = None,
    cap_pixels: bool = True,
) -> PictureSettings:
    """A folder's settings with the user's in place of its family's defaults.

    Args:
        folder: The model.
        fps: Frames a second; None is the family's 2.
        frames: Frames spread evenly instead.
        min_pixels: Of a slot; None is 128 tokens, or half of `max_pixels` where these are more.
        max_pixels: Of a slot; None is 768 tokens.
        cap_pixels: Whether the clips' whole budget bounds the slots of long ones.

    Raises:
        CheckpointError: The folder asks for something that avem does not do.
        SettingError: The budget is empty.
    """
    vision, stated = folder.config.vision_config, folder.video_processor
    where = f"The video processor of {folder.path}"
    for switch in ("do_resize", "do_rescale", "do_normalize"):
        if stated.get(switch, True) is not True:
            raise CheckpointError(f"{where} turns {switch} off, which avem can't; set it to true.")
    if stated.get("resample", BICUBIC) != BICUBIC:
        raise CheckpointError(f"{where} resizes by filter {stated['resample']}, and avem by 3 (bicubic) alone.")
    sizes = {
        "patch_size": vision.patch_size,
        "merge_size": vision.spatial_merge_size,
        "temporal_patch_size": vision.temporal_patch_size,
    }
    for name, size in sizes.items():
        if not isinstance(size, int) or stated.get(name, size) != size:
            raise CheckpointError(
                f"{where} has the {name} {stated.get(name)} and its vision tower {size}; fetch the checkpoint again."
            )
    token = (sizes["patch_size"] * sizes["merge_size"]) ** 2
    most = SLOT_TOKENS[1] * token if max_pixels is None else max_pixels
    least = lowered(SLOT_TOKENS[0] * token, most) if min_pixels is None else min_pixels
    if most < max(least, token):
        raise SettingError(
            f"--min-pixels {least} and --max-pixels {most} allow no frame; a token takes {token} pixels, and the "
            "first must not be above the second."
        )
    return PictureSettings(
        fps=None if frames is not None else float(fps if fps is not None else DEFAULT_FPS),
        frames=frames,
        min_frames=_number(stated, "min_frames", MIN_FRAMES, where),
        max_frames=_number(stated, "max_frames", MAX_FRAMES, where),
        **sizes,
        min_pixels=least,
        max_pixels=most,
        cap_pixels_per_frame=cap_pixels,
        mean=_three(stated, "image_mean", CLIP_MEAN, where),
        std=_three(stated, "image_std", CLIP_STD, where),
        rescale_factor=float(stated.get("rescale_factor", RESCALE)),
    )


def lowered(least: int, most: int) -> int:
    """A minimum that a maximum leaves room for.

    The cap for long clips is never below 1.05 times the minimum, and small frames grow to whole tokens above it. Half
    of the maximum has room for both.

    Example:
        >>> lowered(100_352, 50_176), lowered(100_352, 602_112)
        (25088, 100352)
    """
    return least if least * FLOOR <= most else most // 2


def _number(stated: Mapping[str, Any], name: str, default: int, where: str) -> int:
    value = stated.get(name, default)
    if not isinstance(value, int) or value < 1:
        raise CheckpointError(f"{where} has the {name} {value!r}, which is no number of frames; fetch it again.")
    return value


def _three(stated: Mapping[str, Any], name: str, default: tuple[float, ...], where: str) -> tuple[float, ...]:
    value = stated.get(name) or default
    if not isinstance(value, list | tuple) or len(value) != 3 or not all(isinstance(x, int | float) for x in value):
        raise CheckpointError(f"{where} has the {name} {value!r}, which is not three numbers; fetch it again.")
    return tuple(map(float, value))
