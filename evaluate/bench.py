"""`avem bench emorealm`: ask a model every question on a store's clips, keep its answers, judge them."""

from __future__ import annotations

import tempfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from avem.errors import SettingError
from avem.evaluate.answers import AnswerLog
from avem.evaluate.asking import Ask, Asker
from avem.evaluate.clips import resolve_clips
from avem.evaluate.parse import parse_reply, parse_text
from avem.evaluate.questions import check_questions
from avem.evaluate.results import BenchResult, Item, judge
from avem.evaluate.statistics import RESAMPLES
from avem.progress import stage
from avem.records import Question

LETTER_TOKENS = 8
TEXT_TOKENS = 32
"""Longest replies by style, in tokens: a letter with its option's first words, or an option's text."""


def bench_emorealm(
    model: Any,
    store: Any,
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
        questions: See `avem.evaluate.emorealm.read_questions`.
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
    asker = Asker(model, store, style, max_new_tokens or (TEXT_TOKENS if style == "cloze" else LETTER_TOKENS))
    model.eval()
    places = resolve_clips(store.clips, chosen)
    rows = {name: row for name, row in places.rows.items() if asker.has_media(row)}
    asks = [asker.ask(q, way, rows[q.id]) for way in _media_ways(generate) for q in chosen if q.id in rows]
    asks += [asker.ask(q, "text_only", None) for q in chosen] if text_only else []
    with tempfile.TemporaryDirectory() as spare:
        folder = Path(spare) if out_dir is None else out_dir
        with AnswerLog(folder / "answers.jsonl") as log:
            ask_all(asker, asks, log, name)
            heard = _heard(asks, log)
        items = [_item(question, heard[question.id], store, rows, places.absent, style) for question in chosen]
        about = {"name": name, "style": style, "model": _about_model(model), "store": _about_store(store)}
        result = judge(items, resamples=resamples, seed=seed, **about)
        result.write(folder / "result.json")
    return result


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


def ask_all(asker: Asker, asks: Sequence[Ask], log: AnswerLog, name: str) -> None:
    """Ask what the log does not hold yet, each distinct thing once, and keep every answer as it comes."""
    distinct = {ask.key: ask for ask in asks if log.get(ask.key) is None}
    with stage(f"bench {name}", len(distinct), "answers") as bar:
        for batch in asker.batches(list(distinct.values())):
            log.append(asker.answer(batch))
            bar.advance(len(batch))


def _media_ways(generate: bool) -> tuple[str, ...]:
    return ("likelihood", "generation") if generate else ("likelihood",)


def _heard(asks: Sequence[Ask], log: AnswerLog) -> dict[str, dict[str, dict[str, Any]]]:
    """Question id to way to the log's record."""
    heard: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    for ask in asks:
        heard[ask.question.id][ask.way] = log.get(ask.key) or {}
    return heard


def _item(
    question: Question,
    heard: dict[str, dict[str, Any]],
    store: Any,
    rows: dict[str, int],
    absent: dict[str, str],
    style: str,
) -> Item:
    """Everything known about one question; `heard` maps ways to records of the log."""
    logprobs, text_logprobs = (heard.get(way, {}).get("logprobs") for way in ("likelihood", "text_only"))
    reply = heard.get("generation", {}).get("reply")
    read = parse_text if style == "cloze" else parse_reply
    row = rows.get(question.id)
    return Item(
        question,
        clip_id=None if row is None else store.clips["clip_id"][row].as_py(),
        clip_path="" if row is None else store.clips["path"][row].as_py(),
        absent="" if row is not None else absent.get(question.id, "its clip has neither video nor audio in the store"),
        logprobs=None if logprobs is None else tuple(logprobs),
        reply=reply,
        reply_letter=None if reply is None else read(reply, question),
        text_logprobs=None if text_logprobs is None else tuple(text_logprobs),
    )


def _about_model(model: Any) -> dict[str, Any]:
    return {"source": str(getattr(model, "source", "")), "fingerprint": model.fingerprint()}


def _about_store(store: Any) -> dict[str, Any]:
    return {"path": store.location.url, "clips": len(store.clips), "roots": store.roots}
