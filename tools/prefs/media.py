"""What is sent of a clip: its sound as a WAV file, and frames as pictures, in the parts of a chat message."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageFilter

from avem.endpoint.media_parts import LONG_SIDE, Part, image_part, scaled, sound_part
from avem.errors import DataError, MediaError
from avem.extract import read_waveform, sample_frames
from avem.guards.inside import inside
from avem.records import Clip, Modality

Parts = list[Part]


@dataclass(frozen=True, slots=True)
class MediaOptions:
    """How clips are shown."""

    frames: int = 8
    """Frames spread evenly over the clip (B.1)."""
    longest_side: int = LONG_SIDE
    """Larger frames are scaled down to this, in pixels."""
    blur_captions: float = 0.0
    """Share of the frame's height, from the bottom, blurred so that burnt-in captions can't be read; 0: none."""


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
    shown = "" if sound else f" {options.frames} frames {options.longest_side} px blur {options.blur_captions:g}"

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
    return [image_part(show_frame(Image.fromarray(pixels), options)) for pixels in sample_frames(path, options.frames)]


def show_frame(image: Image.Image, options: MediaOptions) -> Image.Image:
    """A frame as it is shown: scaled down, and its lower part blurred if asked for."""
    image = scaled(image, options.longest_side)
    if options.blur_captions > 0:
        band = (0, round(image.height * (1 - options.blur_captions)), image.width, image.height)
        radius = max(image.height / 30, 4)  # about half a caption's letters, which leaves none of them legible
        image.paste(image.crop(band).filter(ImageFilter.GaussianBlur(radius)), band[:2])
    return image
