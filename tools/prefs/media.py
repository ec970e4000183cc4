"""What is sent of a clip: its sound as a WAV file, and frames as pictures, in the parts of a chat message."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from avem.endpoint.media_parts import LONG_SIDE, Part, image_part, scaled, sound_part
from avem.errors import DataError, MediaError, SettingError
from avem.extract import read_waveform, sample_frames
from avem.guards.inside import inside
from avem.records import Clip, Modality
from avem.tools.prefs.captions import Band, blur_band, caption_band

Parts = list[Part]
Frames = npt.NDArray[np.uint8]
"""uint8 [T, H, W, 3], RGB."""


@dataclass(frozen=True, slots=True)
class MediaOptions:
    """How clips are shown."""

    frames: int = 8
    """Frames spread evenly over the clip (B.1)."""
    longest_side: int = LONG_SIDE
    """Larger frames are scaled down to this, in pixels."""
    blur_captions: float | None = None
    """Share of the frame's height, from the bottom, that is blurred; 0: nothing. None: burnt-in captions are looked for
    in the lower 30 % of the frames, and blurred where there are some."""

    @property
    def blur(self) -> str:
        """The setting in a word."""
        return "found captions" if self.blur_captions is None else f"{self.blur_captions:g}"


@dataclass(frozen=True, slots=True)
class Attachment:
    """Media that belong to a request, decoded when it is sent."""

    identity: str
    """Tells it from any other without reading the file: clip, size in bytes, and how it is shown."""
    load: Callable[[], Parts]
    """Decodes; raises `MediaError`."""


def attachment(clip: Clip, root: Path, side: Modality, options: MediaOptions) -> Attachment:
    """A clip's sound or frames.

    The identity holds the file's size but neither its path nor its date, so that a dataset that was moved or copied
    is not paid for again.

    Args:
        clip: The clip.
        root: The dataset's folder.
        side: `AUDIO` or `VISUAL`.
        options: How it is shown.
    """
    sound = side == Modality.AUDIO
    name = (clip.audio_path or clip.path) if sound else clip.path
    path, fault = root / name, ""
    try:
        inside(root, name, clip.clip_id)
    except DataError as error:
        fault = str(error)
    size = path.stat().st_size if not fault and path.is_file() else 0
    shown = "" if sound else f" {options.frames} frames {options.longest_side} px blur {options.blur}"

    def load() -> Parts:
        if fault:
            raise MediaError(fault)
        return sound_parts(path) if sound else frame_parts(path, options)

    return Attachment(f"{clip.clip_id} {side} {size} bytes{shown}", load)


def sound_parts(path: Path) -> Parts:
    """A file's sound, 1 to 30 s, as 16-bit mono WAV at 16 kHz.

    Raises:
        MediaError: It has no readable sound.
    """
    return [sound_part(read_waveform(path))]


def frame_parts(path: Path, options: MediaOptions) -> Parts:
    """Frames at even distances over a clip, in order, as JPEG.

    Raises:
        MediaError: It has no readable video.
    """
    frames = sample_frames(path, options.frames)
    band = blurred_band(frames, options)
    return [image_part(show_frame(Image.fromarray(pixels), options, band)) for pixels in frames]


def blurred_band(frames: Frames, options: MediaOptions) -> Band | None:
    """The rows of a clip's frames that are blurred, as shares of their height; None for none."""
    if options.blur_captions is None:
        return caption_band(frames)
    return (1 - options.blur_captions, 1.0) if options.blur_captions > 0 else None


def show_frame(image: Image.Image, options: MediaOptions, band: Band | None = None) -> Image.Image:
    """A frame as it is shown: scaled down, and a band of it blurred if there is one."""
    image = scaled(image, options.longest_side)
    return image if band is None else blur_band(image, band)


def blurred_share(setting: str) -> float | None:
    """What `--blur-captions` says: None for `auto`, 0 for `off`, else a share.

    Raises:
        SettingError: It is neither a word of these nor a number.
    """
    if setting in ("auto", "off"):
        return None if setting == "auto" else 0.0
    try:
        return float(setting)
    except ValueError:
        raise SettingError(f"--blur-captions takes auto, off or a share of the frame, not {setting!r}.") from None
