"""Burnt-in captions in frames: where they are, found by how text looks, so that they can be blurred (Fig. 20).

The authors look for text in the lower 30 % of frames. A line of text has many strokes side by side, each with a sharp
edge on either side, over rows about as high as a letter; hardly anything else in a face-sized picture does.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

LOWER = 0.3
"""Share of a frame's height, from the bottom, in which captions are looked for."""
WORKING_WIDTH = 480
"""Frames are brought to this width before they are looked at, so that strokes have a known size in pixels."""
CONTRAST = 70
"""Least difference of brightness across an edge, 0 to 255."""
LEAST_STROKES = 12
"""Least number of strokes in a row of text: about six letters."""
WIDEST_GAP = 24
"""Most pixels between two strokes of the same line."""
LOWEST_LETTER = 0.018
HIGHEST_LETTER = 0.16
"""Height of a line as a share of the frame's height."""
OFTEN = 0.25
"""Share of the frames in which a row has to look like text: captions stay for a while."""
PADDING = 0.015
"""Added above and below what is found, as a share of the frame's height."""

Band = tuple[float, float]
"""Top and bottom as shares of the frame's height."""


def caption_band(frames: npt.NDArray[np.uint8]) -> Band | None:
    """Where the burnt-in captions of a clip are.

    Args:
        frames: uint8 [T, H, W, 3], RGB.

    Returns:
        The rows from the first line of text to the last in the lower part of the frames, or None without any.
    """
    rows = np.mean([text_rows(frame) for frame in frames], axis=0) >= OFTEN
    found = np.flatnonzero(rows)
    if not len(found):
        return None
    height = len(rows)
    return max(found[0] / height - PADDING, 1 - LOWER - PADDING), min((found[-1] + 1) / height + PADDING, 1.0)


def text_rows(frame: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Which rows of a frame, scaled to the working width, belong to a line of text in its lower part.

    Args:
        frame: uint8 [H, W, 3].

    Returns:
        bool [height at the working width].
    """
    image = Image.fromarray(frame).convert("L")
    height = max(round(image.height * WORKING_WIDTH / image.width), 8)
    grey = np.asarray(image.resize((WORKING_WIDTH, height), Image.Resampling.BILINEAR), dtype=np.int16)
    first = int(height * (1 - LOWER))
    like = np.zeros(height, dtype=bool)
    like[first:] = [_looks_like_text(row) for row in grey[first:]]
    return _lines(like, height)


def _looks_like_text(row: npt.NDArray[np.int16]) -> bool:
    """Whether a row crosses many strokes that stand close together: bright ones, or dark ones."""
    step = row[2:] - row[:-2]
    edges = np.flatnonzero(np.abs(step) >= CONTRAST)
    if len(edges) < 2 * LEAST_STROKES:
        return False
    signs = np.sign(step[edges])
    turns = edges[1:][signs[1:] != signs[:-1]]  # where a rising edge follows a falling one, or the other way round
    if len(turns) < 2 * LEAST_STROKES - 1:
        return False
    runs = np.split(turns, np.flatnonzero(np.diff(turns) > WIDEST_GAP) + 1)
    return sum(len(run) for run in runs if len(run) >= 3) >= 2 * LEAST_STROKES - 1


def _lines(like: npt.NDArray[np.bool_], height: int) -> npt.NDArray[np.bool_]:
    """Rows that form lines as high as letters are; a gap of two rows, as at a letter's middle, is bridged."""
    bridged = like.copy()
    for gap in (1, 2):
        bridged[gap:-gap] |= like[: -2 * gap] & like[2 * gap :]
    edges = np.flatnonzero(np.diff(np.concatenate([[0], bridged.astype(np.int8), [0]])))
    lines = np.zeros_like(like)
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        if LOWEST_LETTER * height <= end - start <= HIGHEST_LETTER * height:
            lines[start:end] = True
    return lines


def blur_band(image: Image.Image, band: Band) -> Image.Image:
    """A copy of an image with a band blurred so that no letter in it can be read."""
    image = image.copy()
    box = (0, round(image.height * band[0]), image.width, round(image.height * band[1]))
    radius = max(image.height / 30, 4)  # about half a caption's letters
    image.paste(image.crop(box).filter(ImageFilter.GaussianBlur(radius)), box[:2])
    return image
