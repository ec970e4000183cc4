"""`avem cache negatives`: mine clips of other emotions, and write a page about them."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from avem.commands.options import NONE
from avem.guards.inputs import need_file, need_path, need_store
from avem.guards.output_kinds import PAGE
from avem.guards.outputs import file_target
from avem.text.lists import counted, have
from avem.text.terminal import show

if TYPE_CHECKING:
    from avem.cache import FeatureStore, MiningReport
    from avem.cache.negatives.population import Labels


class Recipe(StrEnum):
    """Methods of choosing negatives."""

    HARD = "hard"
    RANDOM_EMOTION = "random-emotion"
    RANDOM_CLIP = "random-clip"
    MUTUAL = "mutual"


class Valence(StrEnum):
    """Which valence a negative's emotion must have; the emotion always differs."""

    ANY = "any"
    OTHER = "other"
    OPPOSITE = "opposite"


LEAST_DISTANCE = {Valence.ANY: 1, Valence.OTHER: 2, Valence.OPPOSITE: 3}
"""As `avem.emotions.emotion_distance` counts."""


def negatives(
    cache: Annotated[Path, typer.Option("--cache", help="The feature store.")] = Path("./cache"),
    recipe: Annotated[
        Recipe,
        typer.Option(
            help="hard: nearest clips of another emotion; random-emotion: any clips of another emotion; random-clip: "
            "any clips; mutual: pairs of hard negatives."
        ),
    ] = Recipe.HARD,
    k: Annotated[int, typer.Option("--k", help="Negatives per clip; mutual gives one.", min=1)] = 4,
    seed: Annotated[int, typer.Option(help="Random seed of the random recipes.")] = 0,
    valence: Annotated[
        Valence, typer.Option(help="Valence of a negative: any, another, or the opposite.")
    ] = Valence.ANY,
    duplicate_cosine: Annotated[
        float | None,
        typer.Option(
            help="Clips with a higher cosine similarity count as near-duplicates.",
            show_default="from the similarities in the store",
        ),
    ] = None,
    benchmark: Annotated[
        list[Path] | None,
        typer.Option(help="Leave out the clips of this benchmark file; may be repeated.", show_default=NONE),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="CSV file (clip_id, video, audio) with separate emotions for face and voice.", show_default=NONE
        ),
    ] = None,
    stream: Annotated[
        list[str] | None,
        typer.Option(
            help="Compare clips by this stream, such as video/qwen2_5_omni; may be repeated.",
            show_default="all streams of the store",
        ),
    ] = None,
    same_source: Annotated[
        bool,
        typer.Option(
            "--same-source",
            help="Also take clips of the same speaker or source, for data that has only one.",
        ),
    ] = False,
    report: Annotated[
        Path | None, typer.Option(help="Also write an HTML page about the negatives to this file.", show_default=NONE)
    ] = None,
    media_root: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the clips, or the one around it; for the page's pictures.",
            show_default="as recorded in the store",
        ),
    ] = None,
) -> None:
    """Mine clips of other emotions.

    Negatives are mined for each modality and for both together.
    """
    need_store(cache)
    for file in benchmark or ():
        need_file(file, "--benchmark", "benchmark file")
    need_file(labels, "--labels")
    need_path(media_root, "--media-root", "folder of clips")
    if report is not None:
        file_target(report, PAGE, reads=[labels, *(benchmark or ())], option="--report")

    from avem.cache import FeatureStore, match_all, mine_negatives
    from avem.cache.negatives.labels import read_modality_labels
    from avem.cache.negatives.sources import source_warnings

    known = read_modality_labels(labels) if labels else None
    store = FeatureStore.open(cache)
    rows = _benchmark_rows(store, benchmark or [])
    names = store.clips["clip_id"].to_pylist()
    left_out = [names[row] for row in rows]
    mined = Recipe.HARD if recipe is Recipe.MUTUAL else recipe
    for done in mine_negatives(
        store,
        mined.value,
        k,
        seed,
        min_emotion_distance=LEAST_DISTANCE[valence],
        duplicate_cosine=duplicate_cosine,
        exclude=left_out,
        labels=known,
        streams=stream or (),
        same_source=same_source,
    ):
        show(_outcome(done))
    if recipe is Recipe.MUTUAL:
        paired = match_all(
            store, duplicate_cosine=duplicate_cosine, exclude=left_out, labels=known, streams=stream or ()
        )
        for modality, pairs in paired.items():
            found = int((pairs >= 0).sum())
            show(f"{modality}: {counted(found, 'clip')} {have(found)} a partner.")
    for warning in source_warnings(store, recipe.value, known):
        show(f"Warning: {warning}")
    if report is not None:
        _write_report(store, recipe.value, report, rows, media_root, known)


def _outcome(done: MiningReport) -> str:
    """One sentence about what was mined for one modality."""
    from avem.cache.negatives.reasons import SAME_SOURCE

    if done.why_none:
        return f"{done.modality}: 0 of {counted(done.clips, 'clip')} have a negative ({done.why_none})."
    fewer = done.clips - done.complete - sum(done.without.values())
    notes = [f"; {fewer} {have(fewer)} fewer, at least {done.fewest}"] if fewer else []
    if done.without:
        notes.append("; none for " + ", ".join(f"{count} of {kind}" for kind, count in done.without.items()))
    if done.why_lacking:
        notes.append(f" ({done.why_lacking})")
    if SAME_SOURCE in done.why_lacking:
        notes.append("; `--same-source` also takes clips of the same speaker or source")
    which = f"{done.complete} of {counted(done.clips, 'clip')} {have(done.complete)}"
    return f"{done.modality}: {which} {counted(done.k, 'negative')}{''.join(notes)}."


def _benchmark_rows(store: FeatureStore, files: list[Path]) -> list[int]:
    """Rows of the benchmark files' clips and of their windows; clips that are not in the store can't leak."""
    from avem.evaluate.emorealm import read_questions
    from avem.evaluate.predict.clips import resolve_clips

    questions = [question for file in files for question in read_questions(file)]
    return sorted(resolve_clips(store.clips, questions).all_rows)


def _write_report(
    store: FeatureStore, recipe: str, page: Path, benchmark: list[int], media_root: Path | None, labels: Labels | None
) -> None:
    from avem.cache.negatives.report import write_negatives_report
    from avem.evaluate.report.media import picture

    def strip(media: Path) -> str:
        return picture(media).strip

    written = write_negatives_report(
        store, recipe, page, benchmark=benchmark, strip=strip, media_root=media_root, labels=labels
    )
    show(f"Open {written}.")
