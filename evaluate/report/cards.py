"""The report's explorer: a card a clip with its pictures, its questions, and what each model makes of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from avem.evaluate.emorealm.questions import letters, option_text, task_name
from avem.evaluate.emorealm.results import BenchResult, Item
from avem.evaluate.report.media import ClipPicture, find_media, picture
from avem.progress import stage


@dataclass(frozen=True, slots=True)
class OptionView:
    """One option of a question."""

    letter: str
    text: str
    right: bool
    shares: tuple[float | None, ...]
    """Each model's probability in percent."""
    chosen: tuple[bool, ...]
    """Whether each model's answer is this option."""


@dataclass(frozen=True, slots=True)
class ReplyView:
    """What one model wrote."""

    model: str
    text: str
    letter: str
    """Empty: it can't be read."""
    right: bool


@dataclass(frozen=True, slots=True)
class QuestionView:
    """One question as the explorer shows and filters it."""

    id: str
    task: str
    task_name: str
    subtask: str
    question: str
    options: tuple[OptionView, ...]
    replies: tuple[ReplyView, ...]
    verdicts: tuple[bool, ...]
    """Whether each model is right."""
    outcome: str
    """`right` or `wrong` for one model; for several, first against last: `both`, `gained`, `lost`, `neither`."""
    differs: bool
    """Whether a model's likeliest and written options differ."""
    absent: str


@dataclass(frozen=True, slots=True)
class CardView:
    """A clip with its questions."""

    clip: str
    link: str
    """Address of the media file relative to the page; empty where it is not in the page's folder or below."""
    picture: ClipPicture
    questions: tuple[QuestionView, ...]


def make_cards(
    results: Sequence[BenchResult], roots: Sequence[Path], page: Path, pictures: int, media: Path | None = None
) -> tuple[CardView, ...]:
    """One card a clip, the clips on which the models differ first.

    Args:
        results: On the same questions.
        roots: Folders that clips' paths may be relative to.
        page: Where the page will be, for links to clips in its folder or below.
        pictures: How many cards, from the first, get pictures.
        media: The folder that `--media` names.
    """
    items = [{item.question.id: item for item in result.items} for result in results]
    clips: dict[str, list[QuestionView]] = {}
    sources: dict[str, tuple[str, str]] = {}
    for item in results[0].items:
        views = [found[item.question.id] for found in items]
        video = item.question.video
        clips.setdefault(video, []).append(view_question(results, views))
        for view in views:
            if view.clip_path:
                sources[video] = (view.clip_id or video, view.clip_path)
    ordered = sorted(clips, key=lambda clip: -_interest(clips[clip]))
    cards = []
    with stage("report", min(pictures, len(ordered))) as bar:
        for number, clip in enumerate(ordered):
            name, media_path = sources.get(clip, (clip, clip))
            named = f"{name.removesuffix(suffix)}{suffix}" if (suffix := PurePosixPath(media_path).suffix) else name
            file = find_media(media_path, (), media) or find_media(named, (), media) or find_media(media_path, roots)
            shown = picture(file) if number < pictures else ClipPicture()
            cards.append(CardView(name, _link(file, page), shown, tuple(clips[clip])))
            if number < pictures:
                bar.advance()
    return tuple(cards)


def view_question(results: Sequence[BenchResult], items: Sequence[Item]) -> QuestionView:
    """One question and every model's item on it, as shown."""
    question = items[0].question
    chosen = [item.letter(result.method) for result, item in zip(results, items, strict=True)]
    shares = [item.probabilities() for item in items]
    options = tuple(
        OptionView(
            letter,
            option_text(choice),
            letter == question.answer.upper(),
            tuple(None if share is None else 100 * share[index] for share in shares),
            tuple(letter == choice_of for choice_of in chosen),
        )
        for index, (letter, choice) in enumerate(zip(letters(question), question.choices, strict=True))
    )
    verdicts = tuple(letter == question.answer.upper() for letter in chosen)
    return QuestionView(
        id=question.id,
        task=question.task,
        task_name=task_name(question.task),
        subtask=str(question.extra.get("subtask") or "").replace("_", " "),
        question=question.question,
        options=options,
        replies=tuple(
            _reply(result.name, item) for result, item in zip(results, items, strict=True) if item.reply is not None
        ),
        verdicts=verdicts,
        outcome=_outcome(verdicts),
        differs=any(_differs(item) for item in items),
        absent=next((item.absent for item in items if item.absent), ""),
    )


def _differs(item: Item) -> bool:
    return bool(item.logprobs) and item.reply is not None and item.letter("likelihood") != item.reply_letter


def _reply(model: str, item: Item) -> ReplyView:
    return ReplyView(
        model, item.reply or "", item.reply_letter or "", item.reply_letter == item.question.answer.upper()
    )


def _outcome(verdicts: Sequence[bool]) -> str:
    first, last = verdicts[0], verdicts[-1]
    if len(verdicts) == 1:
        return "right" if first else "wrong"
    return {(True, True): "both", (False, True): "gained", (True, False): "lost", (False, False): "neither"}[
        first, last
    ]


def _interest(questions: Sequence[QuestionView]) -> int:
    return sum(view.outcome in ("gained", "lost") for view in questions)


def _link(media: Path | None, page: Path) -> str:
    if media is None:
        return ""
    relative = os.path.relpath(media.resolve(), page.resolve().parent)
    return "" if relative.startswith("..") else quote(relative.replace(os.sep, "/"))
