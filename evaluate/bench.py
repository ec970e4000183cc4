"""`avem bench emorealm`: answer every question on a store's clips with a model, keep the answers, score them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avem.cache.windows import whole_id
from avem.errors import SettingError
from avem.evaluate.bootstrap import RESAMPLES
from avem.evaluate.emorealm.orders import (
    in_file_order,
    letter_in_file,
    mean_logprobs,
    reordered,
    rotations,
)
from avem.evaluate.emorealm.parse import parse_reply, parse_text
from avem.evaluate.emorealm.questions import check_questions
from avem.evaluate.emorealm.results import METHODS, BenchResult, Item, score_items
from avem.evaluate.predict.clips import ResolvedClips, WindowRows, resolve_clips, single_positions
from avem.evaluate.predict.feature_model import FeaturePredictor
from avem.evaluate.predict.log import AnswerLog, kept_or_temporary
from avem.evaluate.predict.pooling import POOLING, PooledAnswer, pool, pool_answers
from avem.evaluate.predict.predictions import predict_all
from avem.evaluate.predict.predictor import Answer, Predictor
from avem.guards.special_tokens import refuse_special, special_tokens
from avem.records import Question

if TYPE_CHECKING:
    from avem.cache import FeatureStore
    from avem.train.families.base import FamilyModel

LETTER_TOKENS = 8
TEXT_TOKENS = 32
"""Longest replies by style, in tokens: a letter with its option's first words, or an option's text."""


def bench_emorealm(
    model: FamilyModel,
    store: FeatureStore,
    questions: Sequence[Question],
    style: str = "letters",
    out_dir: Path | None = None,
    *,
    name: str = "model",
    tasks: Sequence[str] = (),
    limit: int | None = None,
    generate: bool = True,
    text_only: bool = True,
    permute: bool = False,
    subtitles: bool = False,
    max_new_tokens: int | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> BenchResult:
    """Answer a benchmark's questions with a model over a store, and score the answers.

    Every question is answered by option log-likelihood, by greedy generation and, as a baseline, by log-likelihood
    without media. `answers.jsonl` keeps the answers under a hash of everything they depend on. A killed bench therefore
    resumes, and answers of another model, prompt or store are never used.

    Args:
        model: A model of any family, from `avem.train.load_model`.
        store: An `avem.cache.FeatureStore`.
        questions: See `avem.evaluate.emorealm.read_questions`.
        style: `letters` (the reference's prompt, options shown) or `cloze` (question alone, option texts scored).
        out_dir: Where `answers.jsonl` and `result.json` go; None keeps nothing.
        name: Short name of the model for tables.
        tasks: Only these tasks; empty for all.
        limit: Largest number of questions of each task, from the start of the file.
        generate: Whether to generate replies.
        text_only: Whether to score the options without media too.
        permute: Whether to ask every question in each rotation of its options, and average; for `letters`.
        subtitles: Whether to show the model what is said as text too, where a clip has a subtitle.
        max_new_tokens: Longest reply in tokens; None for 8 with letters and 32 with texts.
        resamples: Bootstrap resamples for the intervals.
        seed: Seed of the bootstrap.

    Returns:
        The result. Questions without a clip in the store count as wrong; `absent` gives the reason.

    Raises:
        DataError: A question can't be scored.
        SettingError: The style or a task is unknown.
        FingerprintError: The model was trained on other features than the store's.
    """
    chosen = select_questions(questions, tasks, limit)
    longest = max_new_tokens or longest_reply(style)
    predictor = FeaturePredictor(model.eval(), store, style, longest, subtitles=subtitles)
    clips = resolve_clips(store.clips, chosen).with_media(predictor.has_media)
    methods = chosen_methods(generate=generate, text_only=text_only)
    return bench_questions(
        predictor, chosen, clips, methods, out_dir, name=name, permute=permute, resamples=resamples, seed=seed
    )


def bench_questions(
    predictor: Predictor,
    questions: Sequence[Question],
    clips: ResolvedClips,
    methods: Sequence[str],
    out_dir: Path | None = None,
    *,
    name: str = "model",
    permute: bool = False,
    headline: str = "",
    benchmark: str = "emorealm",
    asked: dict[str, Any] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> BenchResult:
    """Answer questions with any predictor, keep the answers, score them, and write `result.json`.

    Args:
        predictor: A model over a store, over media files, or behind an endpoint.
        questions: Chosen and checked questions.
        clips: Where each question's clip is.
        methods: Some of `avem.evaluate.emorealm.results.METHODS`; those that `predictor` does not support are left out.
        out_dir: Where `answers.jsonl` and `result.json` go; None keeps nothing.
        name: Short name of the model for tables.
        permute: Whether to ask every question in each rotation of its options, and average.
        headline: The method that headline numbers come from, see `BenchResult.headline`.
        benchmark: Name of the benchmark in the result.
        asked: Where the questions are from, see `BenchResult.asked`.
        resamples: Bootstrap resamples for the intervals.
        seed: Seed of the bootstrap.

    Raises:
        SettingError: `permute` with a style that shows no options, or no answers of the headline's method.
        PromptError: A question or an option holds a special token; the message names it.
    """
    with kept_or_temporary(out_dir) as folder:
        items = answer_questions(predictor, questions, clips, methods, folder, name=name, permute=permute)
        pooled = sum(bool(item.windows) for item in items)
        result = score_items(
            items,
            resamples=resamples,
            seed=seed,
            name=name,
            style=predictor.style,
            benchmark=benchmark,
            asked=asked or {},
            **predictor.about(),
            pooling={"questions": pooled, **POOLING} if pooled else {},
        ).with_headline(headline)
        result.write(folder / "result.json")
    return result


def answer_questions(
    predictor: Predictor,
    questions: Sequence[Question],
    clips: ResolvedClips,
    methods: Sequence[str],
    folder: Path,
    *,
    name: str = "model",
    permute: bool = False,
) -> list[Item]:
    """Answer questions without scoring them; `answers.jsonl` of the folder keeps the answers.

    Raises:
        SettingError: `permute` with a style that shows no options.
        PromptError: A question or an option holds a special token; the message names it.
    """
    check_permute(permute, predictor.style)
    refuse_special(questions, special_of(predictor))
    shown = {question.id: _orders(question, permute) for question in questions}
    asked = [variant for variants in shown.values() for variant in variants]
    where = {each.id: clips.positions[name] for name, own in shown.items() if name in clips.positions for each in own}
    with AnswerLog(folder / "answers.jsonl") as log:
        answers = predict_all(predictor, asked, where, methods, log, name)
    return [
        _item(question, [answers[variant.id] for variant in shown[question.id]], predictor, clips)
        for question in questions
    ]


def check_permute(permute: bool, style: str) -> None:
    """Refuse other orders of options where no options are shown.

    Raises:
        SettingError: `permute` with the style `cloze`.
    """
    if permute and style != "letters":
        raise SettingError("--permute has no effect with --style cloze, which shows no options; leave one of them out.")


def special_of(predictor: Predictor) -> frozenset[str]:
    """Special tokens of a predictor's tokenizer; none where it is not known, as behind an endpoint."""
    model = getattr(predictor, "model", None)
    tokenizer = getattr(model, "tokenizer", None) or getattr(getattr(model, "processor", None), "tokenizer", None)
    return frozenset() if tokenizer is None else special_tokens(tokenizer)


def chosen_methods(*, generate: bool, text_only: bool) -> tuple[str, ...]:
    """Methods of choosing an option: likelihood always, the others if wanted."""
    return tuple(method for method, on in zip(METHODS, (True, generate, text_only), strict=True) if on)


def longest_reply(style: str) -> int:
    """Longest reply in tokens, by default."""
    return TEXT_TOKENS if style == "cloze" else LETTER_TOKENS


def select_questions(questions: Sequence[Question], tasks: Sequence[str], limit: int | None) -> list[Question]:
    """The questions of some tasks, at most `limit` of each, in the file's order.

    Raises:
        DataError: A question can't be scored.
        SettingError: No question has one of the tasks, or the limit is not positive.
    """
    check_questions(questions, "the benchmark")
    present = dict.fromkeys(question.task for question in questions)
    unknown = [task for task in tasks if task not in present]
    if unknown:
        raise SettingError(f"No question has the task {unknown[0]}; the file has {', '.join(present)}.")
    if limit is not None and limit < 1:
        raise SettingError(f"--limit is {limit}; it must be at least 1.")
    taken: Counter[str] = Counter()
    chosen = []
    for question in questions:
        taken[question.task] += 1
        if (not tasks or question.task in tasks) and taken[question.task] <= (limit or len(questions)):
            chosen.append(question)
    return chosen


def _orders(question: Question, permute: bool) -> list[Question]:
    """The question as the file has it and, with `permute`, in the other rotations of its options."""
    others = rotations(len(question.choices))[1:] if permute else []
    return [
        question,
        *(replace(reordered(question, order), id=f"{question.id}~{n}") for n, order in enumerate(others, start=1)),
    ]


def _item(
    question: Question,
    answers: Sequence[Mapping[str, Sequence[Answer]]],
    predictor: Predictor,
    clips: ResolvedClips,
) -> Item:
    """Everything known about one question; `answers` maps methods to the answer for each window, order by order."""
    read = parse_text if predictor.style == "cloze" else parse_reply
    shown = [question, *_orders(question, True)[1:]][: len(answers)]
    found = [
        {method: pool(each, partial(_read_as, read, as_shown)) for method, each in own.items()}
        for as_shown, own in zip(shown, answers, strict=True)
    ]
    likelihood, generation, text_only = (
        _over_orders(question, [own.get(method, PooledAnswer()) for own in found]) for method in METHODS
    )
    position = clips.positions.get(question.id)
    clip_id, clip_path = (None, "") if position is None else predictor.clip(single_positions(position)[0])
    windows: tuple[str, ...] = ()
    if isinstance(position, WindowRows) and clip_id is not None:
        windows, clip_id = tuple(predictor.clip(row)[0] for row in position.rows), whole_id(clip_id)
    absent = ""
    if position is None:
        absent = clips.absent.get(question.id, "its clip has neither video nor audio in the store")
    everywhere = [method for method in found[0] if all(own[method].failed for own in found)]
    failed = "; ".join(dict.fromkeys(own[method].failed for method in everywhere for own in found))
    return Item(
        question,
        clip_id=clip_id,
        clip_path=clip_path,
        absent=absent or failed,
        logprobs=likelihood.logprobs,
        reply=generation.reply,
        reply_letter=generation.answer,
        text_logprobs=text_only.logprobs,
        windows=windows,
        orders=_logprobs_by_order(found) if len(found) > 1 else (),
    )


def _read_as(read: Callable[[str, Question], str | None], as_shown: Question, reply: str) -> str | None:
    return read(reply, as_shown)


def _over_orders(question: Question, found: Sequence[PooledAnswer[str]]) -> PooledAnswer[str]:
    """One answer from those in each order of the options: mean log-probabilities, and the option named most often."""
    if len(found) == 1:
        return found[0]
    orders = rotations(len(question.choices))
    scored = [
        in_file_order(answer.logprobs, order)
        for answer, order in zip(found, orders, strict=True)
        if answer.logprobs is not None
    ]
    named = [letter_in_file(answer.answer, order, question) for answer, order in zip(found, orders, strict=True)]
    chosen = pool_answers(named)
    return PooledAnswer(
        logprobs=tuple(mean_logprobs(scored)) if len(scored) == len(orders) else None,
        reply=found[named.index(chosen)].reply,
        answer=chosen,
    )


def _logprobs_by_order(found: Sequence[Mapping[str, PooledAnswer[str]]]) -> tuple[tuple[float, ...], ...]:
    """Log-probabilities of the options as they were shown, order by order; empty where options were not scored."""
    values = [own.get("likelihood", PooledAnswer()).logprobs for own in found]
    return tuple(value for value in values if value is not None)
