"""An EMER bench from paths: reference descriptions, and those of a model or a file, to grades."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from avem.endpoint.chat import ChatSettings
from avem.errors import DataError, SettingError
from avem.evaluate.emer.bench import EmerResult, Estimate, JudgeOptions, bench_emer, estimate
from avem.evaluate.emer.compare import write_comparison
from avem.evaluate.emer.report import write_emer_report
from avem.evaluate.emer.rubric import DESCRIBE, Description, Rubric, load_rubric, read_references
from avem.evaluate.predict.answers import read_answers
from avem.evaluate.predict.clips import resolve_clips
from avem.evaluate.predict.feature_model import FeaturePredictor
from avem.evaluate.predict.loading import EndpointOptions, open_media_model, open_model, short_names
from avem.evaluate.predict.log import AnswerLog
from avem.evaluate.predict.media_files import find_files
from avem.evaluate.predict.media_model import MediaPredictor
from avem.evaluate.predict.pooling import replies
from avem.evaluate.predict.predictions import predict_all
from avem.evaluate.predict.predictor import Predictor
from avem.evaluate.predict.subtitles import SUFFIX
from avem.evaluate.replacing import refuse_replacing
from avem.guards.output_kinds import BENCH
from avem.guards.ownership import opened, owned
from avem.records import Question
from avem.text.escaping import file_name

DESCRIPTION_TOKENS = 512
"""Longest description in tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmerOptions:
    """Settings of `avem bench emer`."""

    references: Path
    judge: ChatSettings
    answers: Path | None = None
    """The model's descriptions, see `avem.evaluate.predict.answers.read_answers`; instead of `model`."""
    model: str = ""
    cache: Path = Path("./cache")
    media: Path | None = None
    """Folder of the clips, for models that are shown media files; by default the files that the store names."""
    model_endpoint: EndpointOptions | None = None
    """The endpoint that runs the model; None to run it here."""
    folder: str = ""
    """Name of the model's folder below `<out>/emer`; its own name if empty."""
    subtitles: bool = False
    """Show the model what is said in a clip as text too, where it has a subtitle."""
    prompt: str = DESCRIBE
    rubric: Path | None = None
    judging: JudgeOptions = field(default_factory=JudgeOptions)
    device: str = "auto"
    precision: str = "auto"
    out: Path = Path("./bench")
    dry_run: bool = False
    """Only estimate requests, tokens and cost."""


def run_emer(options: EmerOptions) -> EmerResult | Estimate:
    """Grade a model's descriptions and write a page, or with `dry_run` estimate what that would take.

    Raises:
        AvemError: Something is missing or wrong; the message says what and which option supplies it.
    """
    if (options.answers is None) == (not options.model):
        raise SettingError("EMER grades one model; name it with --model, or its descriptions with --answers.")
    descriptions, rubric = read_references(options.references), load_rubric(options.rubric)
    name = file_name(options.answers.stem) if options.answers else _named([options.model], options)[0]
    folder = options.out / "emer" / (options.folder or name)
    if options.dry_run and options.answers:
        return estimate(descriptions, read_answers(options.answers), rubric, options.judge, options.judging)
    reads = [options.references, options.answers, options.model or None, options.cache, options.rubric]
    with opened(options.out, BENCH, reads=reads, roots=[options.media], alone=False), owned(folder):
        if not options.dry_run:
            terms = {"judge": options.judge.model, "rubric": rubric.digest}
            refuse_replacing(folder / "emer.json", terms, {each.id for each in descriptions}, "clip")
        return _run_emer(options, descriptions, rubric, folder, name)


def _run_emer(
    options: EmerOptions, descriptions: Sequence[Description], rubric: Rubric, folder: Path, name: str
) -> EmerResult | Estimate:
    candidates = read_answers(options.answers) if options.answers else describe(options, descriptions, folder, name)
    if options.dry_run:
        return estimate(descriptions, candidates, rubric, options.judge, options.judging)
    result = bench_emer(descriptions, candidates, rubric, options.judge, folder, name=name, options=options.judging)
    write_emer_report(folder / "report.html", result, rubric)
    return result


def describe(options: EmerOptions, descriptions: Sequence[Description], folder: Path, name: str) -> Mapping[str, str]:
    """Let a model describe the clips; what it wrote is kept, so that a resumed run repeats nothing.

    A model that reads features describes the store's clips, any other is shown their files. The descriptions of a
    clip's windows are joined in the order of time, one a line.
    """
    from avem.cache import FeatureStore

    questions = [Question(each.id, each.video, "emer", options.prompt, (), "") for each in descriptions]
    media_model = open_media_model(options.model, options.model_endpoint, options.device, options.precision)
    predictor: Predictor
    if media_model is not None:
        files = find_files(options.media, options.cache)
        said = files.subtitles() if options.subtitles else None
        predictor = MediaPredictor(
            media_model, files.names, "cloze", DESCRIPTION_TOKENS, source=files.source, subtitles=said
        )
        positions = files.resolve(questions).positions
    else:
        store = FeatureStore.open(options.cache)
        model = open_model(options.model, options.device, options.precision).eval()
        predictor = FeaturePredictor(model, store, "cloze", DESCRIPTION_TOKENS, subtitles=options.subtitles)
        positions = resolve_clips(store.clips, questions).with_media(predictor.has_media).positions
    if not positions:
        raise DataError("No clip of the references is found; compare their names with the clips' files or ids.")
    with AnswerLog(folder / "answers.jsonl") as log:
        answers = predict_all(predictor, questions, positions, ("generation",), log, name)
    written = {key: replies(methods.get("generation", [])) for key, methods in answers.items()}
    return {key: "\n".join(texts) for key, texts in written.items() if texts}


def _named(models: Sequence[str], options: EmerOptions) -> list[str]:
    """A short name for each model; one that is shown subtitles has another, so that both can be compared."""
    return [f"{name}{SUFFIX}" if options.subtitles else name for name in short_names(models)]


def emer_runs(
    base: EmerOptions, answers: Sequence[Path], models: Sequence[str], judges: Sequence[ChatSettings]
) -> list[EmerOptions]:
    """One run for every model or file of descriptions and every judge.

    A further judge's grades go into a folder of their own, `<model>-by-<judge>`.

    Raises:
        SettingError: A judge is named twice, or two files have one name.
    """
    names = [file_name(path.stem) for path in answers] + _named(models, base)
    if len(set(names)) < len(names):
        raise SettingError(f"Two models are called {max(names, key=names.count)}; rename one of the files.")
    if len({(judge.endpoint, judge.model) for judge in judges}) < len(judges):
        raise SettingError("A judge is named twice; name each once.")
    sources = [{"answers": path} for path in answers] + [{"model": model} for model in models]
    return [
        replace(
            base,
            judge=judge,
            folder=name if number == 0 else file_name(f"{name}-by-{judge.model}"),
            **source,
        )
        for name, source in zip(names, sources, strict=True)
        for number, judge in enumerate(judges)
    ]


def run_all(options: Sequence[EmerOptions]) -> list[EmerResult | Estimate]:
    """Grade several models, or one by several judges; writes `<out>/emer/compare.html` where there are two or more.

    Args:
        options: One a model and judge; all with the same references, rubric and output folder.

    Raises:
        AvemError: As `run_emer`; what was graded before is kept.
    """
    found = [run_emer(each) for each in options]
    results = [each for each in found if isinstance(each, EmerResult)]
    if len(results) > 1:
        write_comparison(options[0].out / "emer", results)
    return found
