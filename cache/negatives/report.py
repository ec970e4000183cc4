"""One page on mined negatives, with everything in it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from avem.cache.negatives.population import MODALITIES, Labels
from avem.cache.negatives.sources import one_source_sentence
from avem.cache.negatives.summary import Example, summarise_negatives
from avem.cache.store import FeatureStore
from avem.errors import StoreError
from avem.files import save_page
from avem.guards.disk import disk_reason
from avem.guards.inside import media_file
from avem.text.escaping import xml_text
from avem.text.lists import counted, have
from avem.text.pages import make_environment

logger = logging.getLogger(__name__)

FrameStrip = Callable[[Path], str]
"""A media file to the data URI of a picture of its frames side by side; empty where it can't be decoded."""

CELL, LABEL, HEAD = 52, 92, 74
TITLES = {
    "hard": "Negatives: similar clips of another emotion",
    "random-emotion": "Negatives: any clips of another emotion",
    "random-clip": "Negatives: any other clips",
    "mutual": "Negatives: pairs of similar clips of two emotions",
}
"""What the page of each recipe shows."""
SIDES = {
    "video": "Replacing the picture",
    "audio": "Replacing the sound",
    "audiovisual": "Replacing picture and sound",
}
"""Headings, by what a negative replaces."""
PAIR = ("clip", "negative")
"""Sides of an example."""
FEW = 10
"""Fewer different cosines than these are drawn as points."""
MARGIN = 0.03
"""Share of the axis on each side of points."""
BINS, WIDTH, HEIGHT = 42, 420, 150
DARKEST = 0.5
"""Opacity of a cell that holds its whole row; the number in it stays readable."""


def write_negatives_report(
    store: FeatureStore,
    recipe: str,
    path: str | Path,
    *,
    benchmark: Collection[int] = (),
    strip: FrameStrip | None = None,
    media_root: str | Path | None = None,
    seed: int = 0,
    labels: Labels | None = None,
) -> Path:
    """Write one self-contained page: distances, emotion by emotion, leaks, and examples as pairs of frames.

    Logs a warning if the files of some examples are gone; the page then shows these without a picture, and says so.

    Args:
        store: A store with mined negatives.
        recipe: Which of them.
        path: The HTML file.
        benchmark: Rows of a benchmark's clips, which no negative should be.
        strip: Makes pictures of clips; None: no pictures.
        media_root: The clips' folder, or the one around it; None: where they were at extraction.
        seed: Of the pairs drawn for comparison.
        labels: As in `mine_negatives`; those that they were mined by.

    Returns:
        The page's path.

    Raises:
        StoreError: The store has no negatives of this recipe, or the page can't be written.
    """
    mined = [modality for modality in MODALITIES if store.location.read(f"negatives/{recipe}/{modality}/zarr.json")]
    if not mined:
        raise StoreError(f"{store.location.url} has no {recipe} negatives; mine them with `avem cache negatives`.")
    summaries = [
        summarise_negatives(store, recipe, name, benchmark=benchmark, seed=seed, labels=labels) for name in mined
    ]
    gone: dict[str, Path] = {}
    shown = [[_shown(store, example, strip, media_root, gone) for example in part.examples] for part in summaries]
    page = (
        make_environment("avem.cache.negatives")
        .get_template("negatives.html.jinja")
        .render(
            recipe=recipe,
            title=TITLES.get(recipe, f"Negatives of the kind {recipe}"),
            clips=len(store),
            parts=[
                {
                    "summary": summary,
                    "title": SIDES.get(summary.modality, summary.modality),
                    "histogram": histogram_svg(summary.cosines, summary.random_cosines),
                    "matrix": matrix_svg(summary.matrix, summary.emotions),
                    "examples": examples,
                    "gone": len(gone.keys() & {pair[side]["name"] for pair in examples for side in PAIR}),
                    "count": int(summary.matrix.sum()),
                    "fewer": _fewer(summary.attributes),
                    "clean": not any(summary.leaks.values()),
                    "one_source": one_source_sentence(
                        summary.one_source,
                        same_source=bool(summary.attributes.get("same_source", False)),
                        recipe=recipe,
                    ),
                }
                for summary, examples in zip(summaries, shown, strict=True)
            ],
        )
    )
    try:
        save_page(Path(path), page)
    except OSError as error:
        raise StoreError(f"The page {path} can't be written: {disk_reason(error)}.") from error
    if gone:
        name = min(gone)
        logger.warning(
            "%s of the page %s no picture, such as %s (there is no file %s); name the clips' folder with --media-root.",
            counted(len(gone), "clip"),
            have(len(gone)),
            name,
            gone[name],
        )
    return Path(path)


def _fewer(attributes: Mapping[str, Any]) -> int:
    """Clips with some negatives, and not as many as were asked for."""
    without = sum(int(count) for count in (attributes.get("without") or {}).values())
    return int(attributes["clips"]) - int(attributes["complete"]) - without


def _shown(
    store: FeatureStore,
    example: Example,
    strip: FrameStrip | None,
    media_root: str | Path | None,
    gone: dict[str, Path],
) -> dict[str, Any]:
    """An example as the page shows it: both clips with name, emotion and frames; clips without a file are entered."""
    sides = []
    for row in (example.row, example.negative):
        clip = store.clip(row)
        root = None if media_root is None else Path(media_root)
        if root is None:
            media = store.media_path(row)
        else:
            media = media_file(root, clip["path"], clip["clip_id"], dataset=clip["dataset"])
        picture = ""
        if strip is not None and media.is_file():
            picture = strip(media)
        elif strip is not None:
            gone[clip["clip_id"]] = media
        sides.append({"name": clip["clip_id"], "emotion": clip["emotion"] or "no label", "picture": picture})
    return {"clip": sides[0], "negative": sides[1], "cosine": example.cosine, "note": example.note}


def histogram_svg(negatives: npt.NDArray[np.float32], pairs: npt.NDArray[np.float32]) -> str:
    """Shares of cosines of negatives, filled, over those of random pairs, as an outline; few values as points."""
    both = np.concatenate([negatives, pairs])
    if not len(negatives) or not len(pairs):
        return ""
    low, high = float(both.min()), float(max(both.max(), both.min() + 1e-3))
    series = ("bar", negatives), ("pair", pairs)
    few = [len(np.unique(values)) < FEW for _, values in series]
    if any(few):
        low, high = low - MARGIN * (high - low), high + MARGIN * (high - low)  # points stay inside
    edges = np.linspace(low, high, BINS + 1)
    shares = [np.histogram(values, edges)[0] / len(values) for _, values in series]
    top = max((float(share.max()) for share, is_few in zip(shares, few, strict=True) if not is_few), default=0.0)
    drawn = [
        _points(kind, np.unique(values), low, high, HEIGHT - 14 - 30 * number)
        if is_few
        else (_bars(share / top) if kind == "bar" else _outline(share / top))
        for number, ((kind, values), share, is_few) in enumerate(zip(series, shares, few, strict=True))
    ]
    ticks = "".join(
        f'<text x="{share * WIDTH:.0f}" y="{HEIGHT + 16}" text-anchor="{anchor}">'
        f"{low + share * (high - low):.2f}</text>"
        for share, anchor in ((0, "start"), (0.5, "middle"), (1, "end"))
    )
    axes = (
        f'<line class="frame" x1="0" x2="{WIDTH}" y1="{HEIGHT}" y2="{HEIGHT}"/>'
        + (f'<text class="soft" x="4" y="12">{top:.0%} of pairs</text>' if top else "")
        + f'<text class="soft" x="{WIDTH / 2:.0f}" y="{HEIGHT + 32}" text-anchor="middle">cosine similarity</text>'
    )
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT + 36}" role="img" aria-label="Cosines of negatives and of random pairs" '
        f'class="histogram">{"".join(drawn)}{ticks}{axes}</svg>'
    )


def _bars(heights: npt.NDArray[np.float64]) -> str:
    step = WIDTH / BINS
    return "".join(
        f'<rect class="bar" x="{i * step:.1f}" y="{HEIGHT * (1 - height):.1f}" width="{step - 1:.1f}" '
        f'height="{HEIGHT * height:.1f}"/>'
        for i, height in enumerate(heights)
    )


def _outline(heights: npt.NDArray[np.float64]) -> str:
    step = WIDTH / BINS
    points = " ".join(f"{(i + 0.5) * step:.1f},{HEIGHT * (1 - height):.1f}" for i, height in enumerate(heights))
    return f'<polyline points="{points}"/>'


def _points(kind: str, values: npt.NDArray[np.float32], low: float, high: float, y: float) -> str:
    xs = (WIDTH * (float(value) - low) / (high - low) for value in values)
    return "".join(f'<circle class="{kind}" cx="{x:.1f}" cy="{y}" r="5"/>' for x in xs)


def matrix_svg(matrix: npt.NDArray[np.int64], emotions: Sequence[str]) -> str:
    """A row for each emotion, a column for its negatives' emotion, shaded by the share of the row."""
    side = CELL * len(emotions)
    parts = [
        f'<svg viewBox="0 0 {LABEL + side + 24} {HEAD + side + 4}" width="{LABEL + side + 24}" role="img" '
        'aria-label="Emotions of negatives by emotion of their clips" class="matrix">'
    ]
    for i, name in enumerate(emotions):
        x, y = LABEL + CELL * (i + 0.5), HEAD + CELL * (i + 0.5) + 4
        parts.append(f'<text transform="translate({x:.0f},{HEAD - 8}) rotate(-40)">{xml_text(name)}</text>')
        parts.append(f'<text x="{LABEL - 8}" y="{y:.0f}" text-anchor="end">{xml_text(name)}</text>')
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    for (row, column), share in np.ndenumerate(shares):
        x, y = LABEL + CELL * column, HEAD + CELL * row
        parts.append(
            f'<rect class="cell" x="{x}" y="{y}" width="{CELL - 2}" height="{CELL - 2}" rx="4" '
            f'fill-opacity="{DARKEST * share:.2f}"><title>{int(matrix[row, column])}</title></rect>'
        )
        if matrix[row, column]:
            parts.append(
                f'<text x="{x + CELL // 2 - 1}" y="{y + CELL // 2 + 4}" text-anchor="middle">{share:.0%}</text>'
            )
    return "".join([*parts, "</svg>"])
