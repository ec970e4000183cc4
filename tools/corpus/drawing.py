"""Draws a scene's frames: a face and upper body whose mouth, brows, eyes and hands follow the cues."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from avem.records import Modality
from avem.tools.corpus.scene import Person, Scene

SIZE = 96
"""Width and height of a frame in pixels."""
OVERSAMPLE = 2
"""Frames are drawn this much larger and scaled down, which smooths the edges."""
INK = (40, 30, 35)
SHIRT_COLOURS = {
    "shirt_red": (200, 45, 45),
    "shirt_blue": (50, 80, 200),
    "shirt_green": (50, 150, 70),
    "shirt_yellow": (225, 195, 50),
}

Point = tuple[float, float]


class Pen:
    """Draws in units of the frame (0 to 1), with the head's offset added."""

    def __init__(self, image: Image.Image, shift: Point) -> None:
        self.draw = ImageDraw.Draw(image)
        self.size = image.width
        self.shift = shift

    def _at(self, x: float, y: float) -> Point:
        return (x + self.shift[0]) * self.size, (y + self.shift[1]) * self.size

    def line(self, points: list[Point], width: float = 0.022, fill: tuple[int, ...] = INK) -> None:
        """Draw a line through points."""
        self.draw.line([self._at(*point) for point in points], fill=fill, width=round(width * self.size), joint="curve")

    def oval(self, centre: Point, radii: Point, fill: tuple[int, ...], outline: tuple[int, ...] | None = None) -> None:
        """Draw a filled ellipse."""
        (x, y), (rx, ry) = centre, radii
        self.draw.ellipse([self._at(x - rx, y - ry), self._at(x + rx, y + ry)], fill=fill, outline=outline, width=2)

    def polygon(self, points: list[Point], fill: tuple[int, ...]) -> None:
        """Draw a filled polygon."""
        self.draw.polygon([self._at(*point) for point in points], fill=fill)

    def curve(self, start: Point, end: Point, bend: float, width: float = 0.022, fill: tuple[int, ...] = INK) -> None:
        """Draw an arc between two points; positive `bend` hangs down."""
        across, down = end[0] - start[0], end[1] - start[1]
        steps = [step / 12 for step in range(13)]
        points = [(start[0] + across * s, start[1] + down * s + bend * 4 * s * (1 - s)) for s in steps]
        self.line(points, width, fill)


def draw_frames(scene: Scene, count: int) -> np.ndarray:
    """Draw a clip.

    Args:
        scene: What is in it.
        count: Number of frames; gestures complete three cycles over them.

    Returns:
        uint8 [count, SIZE, SIZE, 3], RGB.
    """
    return np.stack([_draw_frame(scene, frame / max(count, 1)) for frame in range(count)])


def _draw_frame(scene: Scene, phase: float) -> np.ndarray:
    image = Image.new("RGB", (SIZE * OVERSAMPLE, SIZE * OVERSAMPLE), (225, 228, 232))
    still = Pen(image, (0.0, 0.0))
    _backdrop(still, scene.backdrop.name)
    for cue in scene.irrelevant(Modality.VISUAL):
        OBJECTS.get(cue.name, _nothing)(still, 0.0)
    swing = math.sin(2 * math.pi * 3 * phase)
    cues = {cue.name for cue in scene.face_cues}
    person = scene.person
    skin = _skin(person.skin, pale="pale" in cues)
    still.polygon([(0.14, 1.0), (0.26, 0.80), (0.74, 0.80), (0.86, 1.0)], SHIRT_COLOURS[scene.shirt.name])
    head = Pen(image, scene.shift)
    _hair(head, person)
    head.oval((0.5, 0.46), (0.27 * person.width, 0.34), skin, outline=(110, 85, 75))
    _hat(head, scene.hat.name if scene.hat else "")
    for default, options in PARTS:
        shown = [draw for name, draw in options.items() if name in cues]
        for draw in shown or [default]:
            draw(head, swing)
    if person.glasses:
        _glasses(head)
    for name, gesture in GESTURES.items():
        if name in cues:
            gesture(still, swing, skin)
    return np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BOX))


def _skin(tone: float, *, pale: bool) -> tuple[int, int, int]:
    if pale:
        return (205, 222, 240)
    dark, light = np.array([165, 115, 85]), np.array([245, 205, 170])
    red, green, blue = (dark + (light - dark) * tone).astype(int).tolist()
    return red, green, blue


def _backdrop(pen: Pen, name: str) -> None:
    colour = (150, 165, 190)
    for i in range(8):
        if name == "stripes":
            pen.polygon([(i / 8, 0), (i / 8 + 0.06, 0), (i / 8 + 0.06, 1), (i / 8, 1)], colour)
        for j in range(8):
            if name == "dots":
                pen.oval((i / 8 + 0.06, j / 8 + 0.06), (0.03, 0.03), colour)
            elif name == "checks" and (i + j) % 2:
                x, y = i / 8, j / 8
                pen.polygon([(x, y), (x + 0.125, y), (x + 0.125, y + 0.125), (x, y + 0.125)], colour)


def _hat(pen: Pen, name: str) -> None:
    if name == "hat":
        pen.polygon([(0.3, 0.02), (0.7, 0.02), (0.7, 0.19), (0.3, 0.19)], (25, 25, 30))
        pen.polygon([(0.15, 0.17), (0.85, 0.17), (0.85, 0.22), (0.15, 0.22)], (25, 25, 30))
    elif name == "cap":
        pen.oval((0.5, 0.17), (0.24, 0.1), (250, 250, 250), outline=(150, 150, 150))
        pen.polygon([(0.5, 0.17), (0.86, 0.2), (0.86, 0.24), (0.5, 0.24)], (250, 250, 250))


def _hair(pen: Pen, person: Person) -> None:
    """Hair behind the head, so that it hides no cue."""
    dark, fair = np.array([35, 25, 20]), np.array([230, 195, 120])
    red, green, blue = (dark + (fair - dark) * person.hair_tone).astype(int).tolist()
    if person.hair == "short":
        pen.oval((0.5, 0.36), (0.31 * person.width, 0.29), (red, green, blue))
    elif person.hair == "long":
        pen.oval((0.5, 0.48), (0.34 * person.width, 0.42), (red, green, blue))
    elif person.hair == "curls":
        for turn in range(9):
            angle = math.pi * (1 + turn / 8)
            centre = (0.5 + 0.28 * person.width * math.cos(angle), 0.42 + 0.3 * math.sin(angle))
            pen.oval(centre, (0.08, 0.08), (red, green, blue))


def _glasses(pen: Pen) -> None:
    for x in (0.39, 0.61):
        pen.curve((x - 0.09, 0.42), (x + 0.09, 0.42), -0.1, 0.01)
        pen.curve((x - 0.09, 0.42), (x + 0.09, 0.42), 0.1, 0.01)
    pen.line([(0.48, 0.42), (0.52, 0.42)], 0.01)


def _balloon(pen: Pen, swing: float) -> None:
    pen.line([(0.1, 0.2), (0.12, 0.4)], 0.008)
    pen.oval((0.1, 0.13), (0.07, 0.09), (150, 60, 190), outline=INK)


def _lamp(pen: Pen, swing: float) -> None:
    pen.line([(0.9, 0.0), (0.9, 0.08)], 0.012)
    pen.polygon([(0.86, 0.08), (0.94, 0.08), (0.99, 0.2), (0.81, 0.2)], (240, 170, 40))


def _picture(pen: Pen, swing: float) -> None:
    pen.polygon([(0.02, 0.28), (0.18, 0.28), (0.18, 0.46), (0.02, 0.46)], (120, 70, 30))
    pen.polygon([(0.045, 0.305), (0.155, 0.305), (0.155, 0.435), (0.045, 0.435)], (120, 200, 220))


def _plant(pen: Pen, swing: float) -> None:
    pen.polygon([(0.87, 0.4), (0.97, 0.4), (0.95, 0.48), (0.89, 0.48)], (180, 90, 50))
    for x in (0.86, 0.92, 0.98):
        pen.line([(0.92, 0.4), (x, 0.27)], 0.03, (40, 140, 60))


def _eyes(radii: Point, pupil: float, white: bool = True) -> Callable[[Pen, float], None]:
    def draw(pen: Pen, swing: float) -> None:
        for x in (0.39, 0.61):
            if white:
                pen.oval((x, 0.42), radii, (255, 255, 255), outline=INK)
            pen.oval((x, 0.42), (pupil, pupil), INK)

    return draw


def _laughing_eyes(pen: Pen, swing: float) -> None:
    for x in (0.39, 0.61):
        pen.curve((x - 0.07, 0.45), (x + 0.07, 0.45), -0.07, 0.03)


def _low_lids(pen: Pen, swing: float) -> None:
    for x in (0.39, 0.61):
        pen.oval((x, 0.43), (0.06, 0.045), (255, 255, 255), outline=INK)
        pen.polygon([(x - 0.07, 0.36), (x + 0.07, 0.36), (x + 0.07, 0.43), (x - 0.07, 0.43)], (120, 90, 120))


def _brows(inner: float, outer: float, width: float, bend: float = 0.0) -> Callable[[Pen, float], None]:
    def draw(pen: Pen, swing: float) -> None:
        pen.curve((0.30, outer), (0.46, inner), bend, width)
        pen.curve((0.70, outer), (0.54, inner), bend, width)

    return draw


def _small_mouth(pen: Pen, swing: float) -> None:
    pen.line([(0.47, 0.66), (0.53, 0.66)])


def _smile(pen: Pen, swing: float) -> None:
    pen.curve((0.34, 0.60), (0.66, 0.60), 0.11, 0.04, (180, 40, 60))


def _frown(pen: Pen, swing: float) -> None:
    pen.curve((0.36, 0.71), (0.64, 0.71), -0.09, 0.04, (120, 50, 70))


def _teeth(pen: Pen, swing: float) -> None:
    pen.polygon([(0.36, 0.61), (0.64, 0.61), (0.64, 0.71), (0.36, 0.71)], (255, 255, 255))
    for x in (0.36, 0.43, 0.5, 0.57, 0.64):
        pen.line([(x, 0.61), (x, 0.71)], 0.015)
    pen.line([(0.36, 0.61), (0.64, 0.61), (0.64, 0.71), (0.36, 0.71), (0.36, 0.61)], 0.018)


def _round_mouth(pen: Pen, swing: float) -> None:
    pen.oval((0.5, 0.66), (0.07, 0.09 + 0.01 * swing), (70, 10, 20), outline=INK)


def _tongue(pen: Pen, swing: float) -> None:
    pen.line([(0.40, 0.62), (0.60, 0.62)], 0.03)
    pen.oval((0.5, 0.69), (0.05, 0.08), (235, 90, 130))


def _wavy_mouth(pen: Pen, swing: float) -> None:
    steps = [step / 16 for step in range(17)]
    pen.line([(0.34 + 0.32 * s, 0.66 + 0.03 * math.sin(20 * s + 2 * swing)) for s in steps], 0.03, (90, 60, 130))


def _flat_mouth(pen: Pen, swing: float) -> None:
    pen.line([(0.35, 0.66), (0.65, 0.66)], 0.04)


def _nothing(pen: Pen, swing: float) -> None:
    return None


def _tears(pen: Pen, swing: float) -> None:
    for x in (0.36, 0.64):
        for y in (0.52, 0.60):
            pen.oval((x, y + 0.02 * swing), (0.025, 0.04), (70, 150, 255))


def _nose(pen: Pen, swing: float) -> None:
    for y in (0.50, 0.53, 0.56):
        pen.line([(0.44, y), (0.5, y - 0.03), (0.56, y)], 0.02, (110, 60, 40))


PARTS: tuple[tuple[Callable[[Pen, float], None], dict[str, Callable[[Pen, float], None]]], ...] = (
    (
        _eyes((0.05, 0.035), 0.02),
        {
            "laughing_eyes": _laughing_eyes,
            "low_lids": _low_lids,
            "wide_eyes": _eyes((0.075, 0.085), 0.03),
        },
    ),
    (
        _brows(0.34, 0.34, 0.012),
        {
            "v_brows": _brows(0.37, 0.28, 0.045),
            "slant_brows": _brows(0.27, 0.36, 0.035, -0.01),
            "flat_brows": _brows(0.32, 0.32, 0.045),
        },
    ),
    (_nothing, {"nose": _nose}),
    (
        _small_mouth,
        {
            "smile": _smile,
            "frown": _frown,
            "teeth": _teeth,
            "o_mouth": _round_mouth,
            "tongue": _tongue,
            "wavy_mouth": _wavy_mouth,
            "flat_mouth": _flat_mouth,
        },
    ),
    (_nothing, {"tears": _tears}),
)
"""Parts of the face in drawing order: how each looks where no cue is there, and how each cue draws it."""


OBJECTS: dict[str, Callable[[Pen, float], None]] = {
    "balloon": _balloon,
    "lamp": _lamp,
    "picture": _picture,
    "plant": _plant,
}
"""Things in the room, drawn behind the person."""


def _clapping(pen: Pen, swing: float, skin: tuple[int, ...]) -> None:
    gap = 0.03 + 0.07 * abs(swing)
    for side in (-1, 1):
        pen.oval((0.5 + side * gap, 0.88), (0.045, 0.075), skin, outline=INK)


def _fist(pen: Pen, swing: float, skin: tuple[int, ...]) -> None:
    y = 0.58 + 0.05 * swing
    pen.line([(0.88, 1.0), (0.88, y)], 0.07, skin)
    pen.oval((0.88, y), (0.085, 0.085), skin, outline=INK)
    pen.line([(0.83, y - 0.03), (0.94, y - 0.03)], 0.012)


def _palms(pen: Pen, swing: float, skin: tuple[int, ...]) -> None:
    for x in (0.1, 0.9):
        y = 0.55 + 0.02 * swing
        pen.oval((x, y), (0.06, 0.06), skin, outline=INK)
        for finger in (-0.04, 0.0, 0.04):
            pen.line([(x + finger, y - 0.04), (x + 1.4 * finger, y - 0.14)], 0.025, skin)


def _push(pen: Pen, swing: float, skin: tuple[int, ...]) -> None:
    x = 0.14 + 0.03 * swing
    pen.polygon([(x - 0.06, 0.62), (x + 0.06, 0.62), (x + 0.08, 0.86), (x - 0.08, 0.86)], skin)
    for y in (0.66, 0.71, 0.76):
        pen.line([(x - 0.05, y), (x + 0.06, y)], 0.012)


def _folded(pen: Pen, swing: float, skin: tuple[int, ...]) -> None:
    pen.polygon([(0.32, 0.93), (0.68, 0.88), (0.68, 0.95), (0.32, 1.0)], skin)
    pen.polygon([(0.32, 0.88), (0.68, 0.93), (0.68, 1.0), (0.32, 0.95)], skin)
    pen.line([(0.32, 0.9), (0.68, 0.96)], 0.012)


GESTURES: dict[str, Callable[[Pen, float, tuple[int, ...]], None]] = {
    "clapping": _clapping,
    "fist": _fist,
    "palms": _palms,
    "push": _push,
    "folded": _folded,
}
"""Cues of the hands, drawn over everything else."""
