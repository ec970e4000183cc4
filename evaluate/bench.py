"""`avem bench emorealm`: ask a model every question on a store's clips, keep its answers, judge them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avem.cache.windows import whole_id
from avem.errors import SettingError
from avem.evaluate.emorealm.parse import parse_reply, parse_text
from avem.evaluate.emorealm.questions import check_questions
from avem.evaluate.emorealm.results import WAYS, BenchResult, Item, judge
from avem.evaluate.emorealm.statistics import RESAMPLES
from avem.evaluate.predict.clips import Clips, resolve_clips
from avem.evaluate.predict.feature_model import Asker, Questioner
from avem.evaluate.predict.log import AnswerLog, kept_or_spare
from avem.evaluate.predict.pooling import POOLING, PooledAnswer, WindowRows, pool_records
from avem.guards.special_tokens import refuse_special, special_tokens
from avem.progress import stage
from avem.records import Question

if TYPE_CHECKING:
    from avem.cache.store import FeatureStore
    from avem.train.model.audiovisual import AudiovisualLM

LETTER_TOKENS = 8
TEXT_TOKENS = 32
"""Longest replies by style, in tokens: a letter with its option's first words, or an option's text."""


def bench_emorealm(
    model: AudiovisualLM,
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
    max_new_tokens: int | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> BenchResult:
    """Ask a model a benchmark's questions over a store and judge its answers.

    Every question is asked by option log-likelihood, by greedy generation and, as a baseline, by log-likelihood without
    media. Answers are kept in `answers.jsonl` under a hash of everything they depend on, so that a killed bench goes on
    where it was and a changed model, prompt or store never meets old answers.

    Args:
        model: An `avem.train.AudiovisualLM`.
        store: An `avem.cache.FeatureStore`.
        questions: See `avem.evaluate.emorealm.scoring.read_questions`.
        style: `letters` (the reference's prompt, options shown) or `cloze` (question alone, option texts weighed).
        out_dir: Where `answers.jsonl` and `result.json` go; None keeps nothing.
        name: Short name of the model for tables.
        tasks: Only these tasks; empty for all.
        limit: At most so many questions a task, the first of the file.
        generate: Whether to generate replies.
        text_only: Whether to ask without media.
        max_new_tokens: Longest reply in tokens; None for 8 with letters and 32 with texts.
        resamples: Bootstrap resamples for the intervals.
        seed: Seed of the bootstrap.

    Returns:
        The result; questions without a clip in the store count as wrong and say why in `absent`.

    Raises:
        DataError: A question can't be judged.
        SettingError: The style or a task is unknown.
        FingerprintError: The model was trained on other features than the store's.
    """
    chosen = select_questions(questions, tasks, limit)
    asker = Asker(model, store, style, max_new_tokens or longest_reply(style))
    model.eval()
    ways = chosen_ways(generate=generate, text_only=text_only)
    return bench_questions(
        asker, chosen, place_clips(asker, chosen), ways, out_dir, name=name, resamples=resamples, seed=seed
    )


def place_clips(asker: Asker, questions: Sequence[Question]) -> Clips:
    """Where a questioner's store has the questions' clips, without those that it has no media of.

    Of a clip that the store holds as windows, the windows with media.
    """
    resolved = resolve_clips(asker.store.clips, questions)
    places: dict[str, Any] = {name: row for name, row in resolved.rows.items() if asker.has_media(row)}
    for name, windows in resolved.windows.items():
        if shown := tuple(row for row in windows.rows if asker.has_media(row)):
            places[name] = WindowRows(shown)
    return Clips(places, resolved.absent)


def bench_questions(
    asker: Questioner,
    questions: Sequence[Question],
    clips: Clips,
    ways: Sequence[str],
    out_dir: Path | None = None,
    *,
    name: str = "model",
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> BenchResult:
    """Ask whoever can be asked, keep the answers, judge them, and write `result.json`.

    Args:
        asker: A model over a store, over media files, or behind an endpoint.
        questions: Chosen and checked questions.
        clips: Where each question's clip is.
        ways: Some of `avem.evaluate.emorealm.results.WAYS`; those that `asker` can't answer in are left out.
        out_dir: Where `answers.jsonl` and `result.json` go; None keeps nothing.
        name: Short name of the model for tables.
        resamples: Bootstrap resamples for the intervals.
        seed: Seed of the bootstrap.

    Raises:
        PromptError: A question or an option holds a special token; the message names it.
    """
    refuse_special(questions, special_of(asker))
    with kept_or_spare(out_dir) as folder:
        with AnswerLog(folder / "answers.jsonl") as log:
            heard = hear(asker, questions, clips.places, ways, log, name)
        items = [_item(question, heard[question.id], asker, clips) for question in questions]
        pooled = sum(bool(item.windows) for item in items)
        result = judge(
            items,
            resamples=resamples,
            seed=seed,
            name=name,
            style=asker.style,
            **asker.about(),
            pooling={"questions": pooled, **POOLING} if pooled else {},
        )
        result.write(folder / "result.json")
    return result


def special_of(asker: Questioner) -> frozenset[str]:
    """Special tokens of the tokenizer behind a questioner; none where that is not known, as behind an endpoint."""
    model = getattr(asker, "model", None)
    tokenizer = getattr(model, "tokenizer", None) or getattr(getattr(model, "processor", None), "tokenizer", None)
    return frozenset() if tokenizer is None else special_tokens(tokenizer)


def chosen_ways(*, generate: bool, text_only: bool) -> tuple[str, ...]:
    """Ways of choosing an option: the likeliest one always, the others if wanted."""
    return tuple(way for way, on in zip(WAYS, (True, generate, text_only), strict=True) if on)


def longest_reply(style: str) -> int:
    """How many tokens a reply may have unless told otherwise."""
    return TEXT_TOKENS if style == "cloze" else LETTER_TOKENS


def select_questions(questions: Sequence[Question], tasks: Sequence[str], limit: int | None) -> list[Question]:
    """The questions of some tasks, at most `limit` of each, in the file's order.

    Raises:
        DataError: A question can't be judged.
        SettingError: No question has one of the tasks, or the limit is not positive.
    """
    check_questions(questions, "the benchmark")
    present = dict.fromkeys(question.task for question in questions)
    unknown = [task for task in tasks if task not in present]
    if unknown:
        raise SettingError(f"No question has the task {unknown[0]}; the file has {', '.join(present)}.")
    if limit is not None and limit < 1:
        raise SettingError(f"--limit is {limit}; it has to be at least 1.")
    taken: Counter[str] = Counter()
    chosen = []
    for question in questions:
        taken[question.task] += 1
        if (not tasks or question.task in tasks) and taken[question.task] <= (limit or len(questions)):
            chosen.append(question)
    return chosen


def hear(
    asker: Questioner,
    questions: Sequence[Question],
    places: Mapping[str, Any],
    ways: Sequence[str],
    log: AnswerLog,
    name: str,
) -> dict[str, dict[str, dict[str, Any]]]:
    """Ask every question in every way, each distinct thing once, and only what the log does not hold yet.

    Args:
        asker: Who is asked.
        questions: What is asked.
        places: Question id to the place of its clip, or to the `WindowRows` of its windows, each of which is asked;
            questions without one are asked without media alone.
        ways: Some of `avem.evaluate.emorealm.results.WAYS`.
        log: Keeps every answer as it comes.
        name: What the progress bar calls the model.

    Returns:
        Question id to way to the log's record, or to `{"failed": reason}` where there is no answer; of a clip in
        windows, `{"windows": [...]}` with such a record for each.
    """
    asks = [
        asker.ask(question, way, place)
        for way in ways
        for question in questions
        if way in asker.ways and (way == "text_only" or question.id in places)
        for place in ([None] if way == "text_only" else _single_places(places[question.id]))
    ]
    distinct = {ask.key: ask for ask in asks if log.get(ask.key) is None}
    with stage(f"bench {name}", len(distinct), "answers") as bar:

        def keep(found: Mapping[str, dict[str, Any]]) -> None:
            log.append(found)
            bar.advance(len(found))

        failed = asker.answer_all(list(distinct.values()), keep)
    heard: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    for ask in asks:
        record = log.get(ask.key) or {"failed": failed.get(ask.key, "there is no answer")}
        if ask.way != "text_only" and isinstance(places[ask.question.id], WindowRows):
            heard[ask.question.id].setdefault(ask.way, {"windows": []})["windows"].append(record)
        else:
            heard[ask.question.id][ask.way] = record
    return heard


def _single_places(place: Any) -> Sequence[Any]:
    return place.rows if isinstance(place, WindowRows) else [place]


def _item(question: Question, heard: Mapping[str, dict[str, Any]], asker: Questioner, clips: Clips) -> Item:
    """Everything known about one question; `heard` maps ways to records of the log."""
    read = parse_text if asker.style == "cloze" else parse_reply
    found = {way: pool_records(record, lambda reply: read(reply, question)) for way, record in heard.items()}
    likelihood, generation, text_only = (found.get(way, PooledAnswer()) for way in WAYS)
    place = clips.places.get(question.id)
    clip_id, clip_path = (None, "") if place is None else asker.clip(_single_places(place)[0])
    windows: tuple[str, ...] = ()
    if isinstance(place, WindowRows) and clip_id is not None:
        windows, clip_id = tuple(asker.clip(row)[0] for row in place.rows), whole_id(clip_id)
    absent = clips.absent.get(question.id, "its clip has neither video nor audio in the store") if place is None else ""
    failed = "; ".join(dict.fromkeys(answer.failed for answer in found.values() if answer.failed))
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
    )
