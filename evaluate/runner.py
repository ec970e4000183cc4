"""A bench from paths: models or given answers in, results, tables and the report out."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import filterfalse
from pathlib import Path
from typing import Any

from avem.errors import SettingError
from avem.evaluate.bench import bench_questions, check_permute, chosen_methods, longest_reply, select_questions
from avem.evaluate.bootstrap import RESAMPLES
from avem.evaluate.contrast import ContrastOptions, ContrastPredictor
from avem.evaluate.emorealm.parse import parse_reply, parse_text
from avem.evaluate.emorealm.questions import read_questions
from avem.evaluate.emorealm.reference import is_right
from avem.evaluate.emorealm.results import BenchResult, Item, read_result, score_items
from avem.evaluate.emorealm.scoring import score
from avem.evaluate.emorealm.subtasks import read_subtasks, with_subtasks
from avem.evaluate.hallucination.registry import YES_NO_SETS
from avem.evaluate.predict.answers import read_answers
from avem.evaluate.predict.clips import ResolvedClips, need_a_clip, resolve_clips
from avem.evaluate.predict.feature_model import FeaturePredictor
from avem.evaluate.predict.loading import EndpointOptions, open_media_model, open_model, short_names
from avem.evaluate.predict.media_files import find_files
from avem.evaluate.predict.media_model import MediaPredictor
from avem.evaluate.predict.pooling import pooling_note
from avem.evaluate.predict.predictor import Predictor
from avem.evaluate.predict.subtitles import SUFFIX
from avem.evaluate.replacing import refuse_replacing
from avem.evaluate.report.bench import write_report
from avem.guards.inputs import is_result
from avem.guards.output_kinds import BENCH
from avem.guards.ownership import opened, owned
from avem.records import Question
from avem.text.escaping import file_name
from avem.train.settings.diffusion import DIFFUSION_STEP

logger = logging.getLogger(__name__)

SHOWN_ABSENT = 3
"""How many questions without a clip are named in the log; `result.json` names all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchOptions:
    """Settings of `avem bench emorealm`."""

    benchmark: str = "emorealm"
    """`emorealm`, or a yes/no benchmark of `avem.evaluate.hallucination.registry`."""
    questions: Path = Path("./emorealm_v1.json")
    cache: Path = Path("./cache")
    models: tuple[str, ...] = ()
    """Models, or folders of earlier results; the first is what the others are compared with."""
    answers: Path | None = None
    """Given answers to score, instead of a model."""
    subtasks: Path | None = None
    """Side file with the subtasks of stress questions, see `avem.evaluate.emorealm.subtasks.read_subtasks`."""
    headline: str = ""
    """Method that headline numbers come from, `likelihood` or `generation`; empty: likelihood where it was run."""
    system: str | None = None
    """System message of models that are shown media files; None for the one of the vendor's example."""
    subtitles: bool = False
    """Show models what is said in a clip as text too, where it has a subtitle."""
    instruction: bool = False
    """Ask such models for the letter alone; the paper does not."""
    permute: bool = False
    """Ask every question in each rotation of its options, and average."""
    style: str = "letters"
    tasks: tuple[str, ...] = ()
    limit: int | None = None
    generate: bool = True
    text_only: bool = True
    seed: int = 0
    resamples: int = RESAMPLES
    device: str = "auto"
    precision: str = "auto"
    media_root: Path | None = None
    """Folder of the clips, for the report's pictures and for models that are shown media files."""
    contrastive: bool = False
    """Score options by contrast with the clip's diffused features; for models that read features."""
    contrast_alpha: float = 1.0
    contrast_step: int = DIFFUSION_STEP
    """Step of VCD's schedule whose noise is added."""
    endpoint: EndpointOptions | None = None
    """The endpoint that runs the models; None to run them here."""
    out: Path = Path("./bench")


def run_emorealm(options: BenchOptions) -> list[BenchResult]:
    """Bench every model, or score given answers; write `<out>/<name>/result.json` and `<out>/report.html`.

    Raises:
        AvemError: Something is missing or wrong; the message says what and which option supplies it.
    """
    if options.contrastive:
        _check_contrastive(options)
    if options.permute:
        _check_permute(options)
    labels = read_subtasks(options.subtasks) if options.subtasks else {}
    fresh = list(filterfalse(is_result, options.models))
    reads = [options.questions, options.cache, options.answers, options.subtasks, *fresh]
    named = list(zip(_names(options), options.models, strict=True))
    with ExitStack() as stack:
        stack.enter_context(opened(options.out, BENCH, reads=reads, roots=[options.media_root], alone=False))
        for name, model in named:
            if not is_result(model):
                stack.enter_context(owned(options.out / name))
        questions = with_subtasks(_read(options), labels)
        _refuse_replacing([(name, model) for name, model in named if not is_result(model)], questions, options)
        results = [
            _earlier(model, labels, options) if is_result(model) else _bench(model, name, questions, options)
            for name, model in named
        ]
        if options.answers is not None:
            chosen = select_questions(questions, options.tasks, options.limit)
            results.append(score_answers(options.answers, chosen, options))
        if not results:
            raise SettingError("There is nothing to bench; name a model with --model or answers with --answers.")
        for result in results:
            _log_result(result)
        runs = [folder for model in options.models for folder in _run_folder(model)]
        page, resamples, seed = options.out / "report.html", options.resamples, options.seed
        write_report(page, results, runs, options.media_root, resamples=resamples, seed=seed)
    return results


def _refuse_replacing(fresh: Sequence[tuple[str, str]], questions: Sequence[Question], options: BenchOptions) -> None:
    """Refuse to write over the results of another bench, before any model is loaded.

    Raises:
        SettingError: See `avem.evaluate.replacing.refuse_replacing`.
    """
    ids = {question.id for question in select_questions(questions, options.tasks, options.limit)}
    wanted = chosen_methods(generate=options.generate, text_only=options.text_only)
    made = [(_result_name(name, options), model) for name, model in fresh]
    if options.answers is not None:
        made.append((file_name(options.answers.stem), ""))
    for name, model in made:
        terms = {"model": model, "benchmark": options.benchmark, "style": options.style}
        methods = None if model == "" or options.endpoint is not None else wanted
        refuse_replacing(
            options.out / name / "result.json", terms, ids, methods=methods, permute=options.permute or model == ""
        )


def _result_name(name: str, options: BenchOptions) -> str:
    """The name of a model's results: those of contrastive decoding have their own."""
    return f"{name}-contrastive" if options.contrastive else name


def _names(options: BenchOptions) -> list[str]:
    """A short name for each model; one that is shown subtitles has a folder of its own, so that both can be compared.

    Raises:
        SettingError: Subtitles are to be shown, and no model is run.
    """
    names = short_names(options.models)
    if not options.subtitles:
        return names
    fresh = [not is_result(model) for model in options.models]
    if not any(fresh):
        raise SettingError("--subtitles has no effect: no model is run. Leave it out, or give a model with --model.")
    return [f"{name}{SUFFIX}" if own else name for name, own in zip(names, fresh, strict=True)]


def _read(options: BenchOptions) -> list[Question]:
    """The benchmark's questions.

    Raises:
        SettingError: There is no such benchmark.
        DataError: The file is none of it.
    """
    if options.benchmark == "emorealm":
        return read_questions(options.questions)
    if options.benchmark not in YES_NO_SETS:
        raise SettingError(f"There is no benchmark {options.benchmark!r}; choose emorealm, {', '.join(YES_NO_SETS)}.")
    return YES_NO_SETS[options.benchmark].read(options.questions)


def _earlier(path: str, labels: Mapping[str, str], options: BenchOptions) -> BenchResult:
    """The result of an earlier bench, with this one's headline and subtasks."""
    result = read_result(path)
    return (result.with_subtasks(labels) if labels else result).with_headline(options.headline)


def _check_permute(options: BenchOptions) -> None:
    """Refuse other orders of options where nothing would be asked in them.

    Raises:
        SettingError: Only answers or earlier results are given, or the style shows no options.
    """
    check_permute(options.permute, options.style)
    if not options.models or all(map(is_result, options.models)):
        raise SettingError("--permute has no effect: no model is run. Leave it out, or give a model with --model.")


def _check_contrastive(options: BenchOptions) -> None:
    """Refuse contrastive decoding where nothing would be scored by it.

    Raises:
        SettingError: Answers, an endpoint or only earlier results are given.
    """
    if options.answers is not None:
        given = "with --answers no model is run"
    elif options.endpoint is not None:
        given = "an endpoint gives no option scores"
    elif options.models and all(map(is_result, options.models)):
        given = "only earlier results are given"
    else:
        return
    raise SettingError(f"--contrastive has no effect: {given}. Leave it out, or give a model that reads features.")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A model that is ready to answer questions on clips."""

    predictor: Predictor
    questions: list[Question]
    clips: ResolvedClips
    name: str
    methods: tuple[str, ...]


def prepare(path: str, name: str, questions: Sequence[Question], options: BenchOptions) -> Prepared:
    """Open one model as a predictor, and find the clips of the chosen questions."""
    from avem.cache import FeatureStore

    store_path = options.cache if options.media_root is None else None
    media_model = open_media_model(
        path, options.endpoint, options.device, options.precision, options.system, cache=store_path
    )
    generate = options.generate
    predictor: Predictor
    if media_model is not None:
        if options.contrastive:
            raise SettingError(f"--contrastive needs a model that reads features, and {path} is shown media files.")
        chosen = select_questions(questions, options.tasks, options.limit)
        files = find_files(options.media_root, options.cache)
        predictor = MediaPredictor(
            media_model,
            files.names,
            options.style,
            roots=files.roots,
            source=files.source,
            instruction=options.instruction,
            subtitles=files.subtitles() if options.subtitles else None,
        )
        clips = files.resolve(chosen)
        need_a_clip(clips, chosen, "name the clips' folder with --media")
        generate = generate or media_model.methods == ("generation",)
    else:
        store = FeatureStore.open(options.cache)
        model = open_model(path, options.device, options.precision).eval()
        chosen = select_questions(questions, options.tasks, options.limit)
        if options.contrastive:
            strength = ContrastOptions(alpha=options.contrast_alpha, seed=options.seed, step=options.contrast_step)
            predictor = ContrastPredictor(model, store, options.style, strength, subtitles=options.subtitles)
        else:
            longest = longest_reply(options.style)
            predictor = FeaturePredictor(model, store, options.style, longest, subtitles=options.subtitles)
        clips = resolve_clips(store.clips, chosen).with_media(predictor.has_media)
        need_a_clip(
            clips, chosen, "extract their clips with `avem extract`, or name the store that holds them with --cache"
        )
    methods = chosen_methods(generate=generate, text_only=options.text_only)
    return Prepared(predictor, chosen, clips, _result_name(name, options), methods)


def _bench(path: str, name: str, questions: Sequence[Question], options: BenchOptions) -> BenchResult:
    """Bench one model: open it as a predictor, find the questions' clips, and answer."""
    ready = prepare(path, name, questions, options)
    return bench_questions(
        ready.predictor,
        ready.questions,
        ready.clips,
        ready.methods,
        options.out / ready.name,
        name=ready.name,
        permute=options.permute,
        headline=options.headline,
        benchmark=options.benchmark,
        asked=_asked(options, questions),
        resamples=options.resamples,
        seed=options.seed,
    )


def _asked(options: BenchOptions, questions: Sequence[Question]) -> dict[str, Any]:
    """Where the questions are from, for the heading of the report."""
    return {"file": options.questions.name, "questions": len(questions)}


def score_answers(path: Path, questions: Sequence[Question], options: BenchOptions) -> BenchResult:
    """Score answers from a file or folder and write the result in its own folder, like those of models.

    Args:
        path: See `avem.evaluate.predict.answers.read_answers`.
        questions: The questions that they answer.
        options: Where the result goes, and the bootstrap's settings.
    """
    answers = read_answers(path)
    read = parse_reply if options.style == "letters" else parse_text
    items = [
        Item(
            question,
            absent="" if question.id in answers else f"no answer in {path}",
            reply=answers.get(question.id),
            reply_letter=read(answers[question.id], question) if question.id in answers else None,
        )
        for question in questions
    ]
    known = {question.id for question in questions}
    unknown = tuple(name for name in answers if name not in known)
    if unknown:
        logger.warning("%d answers match no question (%s, ...).", len(unknown), unknown[0])
    result = score_items(
        items,
        resamples=options.resamples,
        seed=options.seed,
        name=path.stem,
        unknown=unknown,
        benchmark=options.benchmark,
        asked=_asked(options, questions),
        style=options.style,
    )
    result = result.with_headline(options.headline)
    result.write(options.out / file_name(path.stem) / "result.json")
    return result


def scoring_differences(questions: Sequence[Question], answers: Mapping[str, str | None]) -> dict[str, Any]:
    """Where our scoring and the reference scorer differ on the same replies.

    Returns:
        `metrics`: the reference's name to `{"ours", "reference"}` in percent; `items`: ids of replies that one of the
        two counts as right and the other as wrong.
    """
    ours, reference = score(questions, answers), score(questions, answers, reference_scoring=True)
    items = []
    for question in questions:
        if (reply := answers.get(question.id)) is not None:
            strict = parse_reply(reply, question) == question.answer.upper()
            if strict != is_right(question, reply):
                items.append(question.id)
    metrics = {name: {"ours": ours.get(name), "reference": value} for name, value in reference.items()}
    return {"metrics": metrics, "items": items}


def replies_of(result: BenchResult) -> tuple[list[Question], dict[str, str | None]]:
    """A result's questions and written replies, for `scoring_differences`."""
    return [item.question for item in result.items], {item.question.id: item.reply for item in result.items}


def _run_folder(model: str) -> list[Path]:
    """The run directory that a model came from, where it has metrics to draw."""
    path = Path(model)
    return [folder for folder in (path, path.parent) if (folder / "metrics.jsonl").is_file()][:1]


def _log_result(result: BenchResult) -> None:
    """Log how windows were pooled, and warn of questions without a usable answer."""
    if note := pooling_note(result.pooling):
        logger.info("%s: %s", result.name, note)
    absent = [item for item in result.items if item.absent]
    if absent:
        shown = "; ".join(f"{item.question.id}: {item.absent}" for item in absent[:SHOWN_ABSENT])
        remedy = f" {result.remedy}" if result.remedy else ""
        logger.warning(
            "%s: %d of %d questions have no answer and count as wrong (%s).%s",
            result.name,
            len(absent),
            len(result.items),
            shown,
            remedy,
        )
    unreadable = result.scores.get("generation", {}).get("unreadable", [])
    if unreadable and result.method == "generation":
        logger.warning(
            "%s: %d answers name no option, or several, and count as wrong (%s, ...).",
            result.name,
            len(unreadable),
            unreadable[0],
        )
