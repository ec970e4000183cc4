"""An emotion recognition bench from paths: models and a store in, results, tables and the page out."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from avem.errors import SettingError
from avem.evaluate.bootstrap import RESAMPLES
from avem.evaluate.predict.feature_model import FeaturePredictor
from avem.evaluate.predict.loading import EndpointOptions, open_media_model, open_model, short_names
from avem.evaluate.predict.media_model import MediaModel, MediaPredictor
from avem.evaluate.predict.pooling import pooling_note
from avem.evaluate.predict.predictor import Predictor
from avem.evaluate.predict.subtitles import SUFFIX, file_subtitles
from avem.evaluate.recognition.bench import LABEL_TOKENS, bench_recognition
from avem.evaluate.recognition.labelled import LabelledClips, clips_of_folder, clips_of_store, with_files
from avem.evaluate.recognition.labels import PROMPTS, STREAM_CHOICES, EmotionSet, emotion_set
from avem.evaluate.recognition.report import write_recognition_report
from avem.evaluate.recognition.results import LABEL_METHODS, RecognitionResult
from avem.evaluate.replacing import refuse_replacing
from avem.guards.output_kinds import BENCH
from avem.guards.ownership import opened, owned
from avem.guards.secrets import mask

if TYPE_CHECKING:
    from avem.cache import FeatureStore

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecognitionOptions:
    """Settings of `avem bench dfew|ravdess|mer2023|crema-d`."""

    dataset: str
    cache: Path = Path("./cache")
    models: tuple[str, ...] = ()
    streams: tuple[str, ...] = ("audiovisual",)
    """Some of `audiovisual`, `video`, `audio`."""
    split: str = ""
    subtitles: bool = False
    """Show models what is said in a clip as text too, where it has a subtitle."""
    prompt: str | None = None
    generate: bool = True
    limit: int | None = None
    """Largest number of clips of each label."""
    seed: int = 0
    resamples: int = RESAMPLES
    media_root: Path | None = None
    """The dataset's folder, for models that are shown media files; by default the one that the store names."""
    endpoint: EndpointOptions | None = None
    """The endpoint that runs the models; None to run them here."""
    device: str = "auto"
    precision: str = "auto"
    out: Path = Path("./bench")


def run_recognition(options: RecognitionOptions) -> list[RecognitionResult]:
    """Bench every model on every choice of streams; write `<out>/<dataset>/<name>/<streams>.json` and a page.

    Raises:
        AvemError: Something is missing or wrong; the message says what and which option supplies it.
    """
    dataset = emotion_set(options.dataset)
    check_streams(options.streams)
    if not options.models:
        raise SettingError("There is nothing to bench; name a model with --model.")
    reads: list[str | Path | None] = [options.cache, *options.models]
    folder = options.out / dataset.name
    with opened(options.out, BENCH, reads=reads, roots=[options.media_root], alone=False), owned(folder):
        return _run_recognition(options, dataset, folder)


def _run_recognition(options: RecognitionOptions, dataset: EmotionSet, folder: Path) -> list[RecognitionResult]:
    results = []
    for short, path in zip(short_names(options.models), options.models, strict=True):
        name = f"{short}{SUFFIX}" if options.subtitles else short
        make_predictor, labelled = _prepare(path, dataset, options)
        for streams in options.streams:
            terms = {"model": path, "split": labelled.split, "prompt": options.prompt or PROMPTS[streams]}
            ids = {clip.clip_id for clip in labelled.clips}
            refuse_replacing(folder / name / f"{streams}.json", terms, ids, "clip")
            result = bench_recognition(
                make_predictor(streams),
                dataset,
                labelled,
                streams,
                folder / name,
                name=name,
                prompt=options.prompt,
                methods=LABEL_METHODS if options.generate else LABEL_METHODS[:1],
                resamples=options.resamples,
                seed=options.seed,
            )
            warn_absent(result)
            if note := pooling_note(result.pooling):
                logger.info("%s, %s: %s", result.name, result.streams, note)
            results.append(result)
    write_recognition_report(folder / "report.html", results)
    return results


def _prepare(
    path: str, dataset: EmotionSet, options: RecognitionOptions
) -> tuple[Callable[[str], Predictor], LabelledClips]:
    """A function that makes a predictor for some streams, and the clips in the form it takes."""
    from avem.cache import FeatureStore

    store_path = options.cache if options.media_root is None else None
    media_model = open_media_model(path, options.endpoint, options.device, options.precision, cache=store_path)
    if media_model is not None and options.media_root is not None:
        labelled = clips_of_folder(options.media_root, dataset, options.split, options.limit)
        return _media_predictor(media_model, labelled, str(options.media_root), options.subtitles), labelled
    store = FeatureStore.open(options.cache)
    labelled = clips_of_store(store, dataset, options.split, options.limit)
    if media_model is not None:
        labelled = with_files(labelled, store)
        source = mask(store.location.url)
        return _media_predictor(media_model, labelled, source, options.subtitles, store), labelled
    model = open_model(path, options.device, options.precision).eval()
    shown = options.subtitles
    return (
        lambda streams: FeaturePredictor(model, store, "cloze", LABEL_TOKENS, STREAM_CHOICES[streams], subtitles=shown),
        labelled,
    )


def _media_predictor(
    model: MediaModel, labelled: LabelledClips, source: str, subtitles: bool, store: FeatureStore | None = None
) -> Callable[[str], Predictor]:
    names = {clip.position: (clip.clip_id, clip.path) for clip in labelled.clips if isinstance(clip.position, Path)}
    said = file_subtitles(names, store) if subtitles else None
    return lambda streams: MediaPredictor(
        model, names, "cloze", LABEL_TOKENS, STREAM_CHOICES[streams], source=source, subtitles=said
    )


def check_streams(streams: tuple[str, ...]) -> None:
    """Refuse unknown or repeated streams.

    Raises:
        SettingError: None is given, or one is unknown or given twice.
    """
    if not streams or not set(streams) <= STREAM_CHOICES.keys() or len(set(streams)) < len(streams):
        raise SettingError(
            f"--streams takes {', '.join(STREAM_CHOICES)}, each once, not {', '.join(streams) or 'none'}."
        )


def warn_absent(result: RecognitionResult) -> None:
    """Warn of clips without an answer, and name one."""
    absent = [item for item in result.items if item.absent]
    if absent:
        logger.warning(
            "%s, %s: %d of %d clips have no answer and count as wrong (%s: %s).%s",
            result.name,
            result.streams,
            len(absent),
            len(result.items),
            absent[0].clip_id,
            absent[0].absent,
            _remedy(result) if "in the store" in absent[0].absent else "",
        )


def _remedy(result: RecognitionResult) -> str:
    """A sentence with the command that retries clips without features."""
    root = result.store.get("roots", {}).get(result.dataset, f"<folder of {emotion_set(result.dataset).title}>")
    return f" `avem extract {root} --cache {result.store.get('path', './cache')} --retry-failed` tries them again."
