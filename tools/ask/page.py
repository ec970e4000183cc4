"""Answers as a page that needs no network: frames, waveform, the clip itself, bars, and what the answers depend on."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import ChoiceLoader, Environment, PackageLoader
from markupsafe import Markup

from avem import __version__
from avem.errors import MediaError
from avem.evaluate.page import page_environment, short_path
from avem.evaluate.report.media import FRAMES, ClipPicture, frame_strip, wave_path
from avem.extract.decode.media import read_sound, read_video
from avem.files import save_page
from avem.tools.ask.results import LABELS, AskedModel, ClipAnswer, Condition, Emotions, QuestionAnswer, Span
from avem.tools.ask.summary import summary_tables
from avem.tools.ask.text import WORTH, clip_facts, said, signed_nats, span_words, times, verdict
from avem.tools.ask.worth.sentences import worth

EMBED_BYTES = 8 * 2**20
"""Larger clips are not put into the page; where they lie in its folder or below, it links to them."""
TYPES = {".mp4": "video/mp4", ".m4v": "video/mp4", ".mov": "video/mp4", ".webm": "video/webm"}
SOUND_TYPES = {".wav": "audio/wav", ".mp3": "audio/mpeg", ".m4a": "audio/mp4", ".flac": "audio/flac"}
"""What browsers play."""


@dataclass(frozen=True, slots=True)
class Played:
    """How a page plays a clip; all empty where it does not."""

    kind: str = ""
    """`video` or `audio`."""
    src: str = ""
    """Data URI of the file."""
    link: str = ""
    """Address of the file, where it is too large to be in the page."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A condition of an answer, or of an emotion."""

    tone: int
    """Number of its colour."""
    words: str
    value: float
    """Of an emotion its share; of a change in nats its size compared with the largest one."""
    number: str
    says: tuple[str, ...] = ()
    """What the model says then, window by window."""
    likely: str = ""
    more: bool = False
    """Whether the answer becomes more likely."""


@dataclass(frozen=True, slots=True)
class PictureView:
    """A clip, or a window of it."""

    when: str
    """Empty for a whole clip."""
    picture: ClipPicture


@dataclass(frozen=True, slots=True)
class EmotionView:
    """One emotion's bars: the clip as it is first."""

    name: str
    bars: tuple[Bar, ...]
    """Lengths are shares of the axis."""


@dataclass(frozen=True, slots=True)
class AnswerView:
    """One question."""

    question: str
    parts: tuple[tuple[str, str, bool], ...]
    """Window, answer, and whether it was cut."""
    verdict: str
    changes: tuple[Bar, ...]


def write_page(path: Path, model: AskedModel, clips: Sequence[ClipAnswer]) -> Path:
    """Write a page with a card for each clip.

    Args:
        path: The page; an older page of avem's is replaced.
        model: What answered.
        clips: The answers.

    Raises:
        SettingError: The file is there and is no page that avem made.
        WriteError: It can't be written.
    """
    cards = [render_card(clip, media(clip.path, path)) for clip in clips]
    names = [clip.name for clip in clips]
    questions = list(dict.fromkeys(answer.question for clip in clips for answer in clip.answers))
    template = ask_environment().get_template("ask.html.jinja")
    page = template.render(
        model=model,
        cards=cards,
        names=names,
        questions=questions,
        tables=summary_tables(clips),
        version=__version__,
    )
    save_page(path, page)
    return path


def ask_environment() -> Environment:
    """The templates of this package and, for their styles, those of the bench's page."""
    environment = page_environment()
    assert environment.loader is not None, "pages are made from templates"
    environment.loader = ChoiceLoader([PackageLoader("avem.tools.ask"), environment.loader])
    return environment


def render_card(clip: ClipAnswer, played: Played) -> Markup:
    """One clip's card.

    Args:
        clip: The answers.
        played: From `media`.
    """
    template = ask_environment().get_template("ask_card.html.jinja")
    pictures = () if clip.failed else tuple(_picture(clip.path, span) for span in clip.spans)
    return Markup(
        template.render(
            clip=clip,
            facts=clip_facts(replace(clip, source=" ".join(map(short_path, clip.source.split(" ", 1))))),
            pictures=pictures,
            played=played,
            answers=[_answer(answer) for answer in clip.answers],
            legend=_legend(clip.emotions),
            emotions=_emotions(clip.emotions),
            axis=f"{100 * _axis(clip.emotions):.0f}",
            named=_named(clip.emotions),
            asked=clip.emotions.question if clip.emotions is not None else "",
            worth=worth(replace(clip, known=replace(clip.known, labelled_in=short_path(clip.known.labelled_in)))),
            worth_title=WORTH,
        )
    )


def media(path: Path | None, page: Path) -> Played:
    """How a page plays a clip: from the page itself, or by a link where the file lies in its folder or below.

    Args:
        path: The media file.
        page: Where the page will be.
    """
    if path is None or not path.is_file():
        return Played()
    suffix = path.suffix.lower()
    kind = "video" if suffix in TYPES else "audio" if suffix in SOUND_TYPES else ""
    if kind and path.stat().st_size <= EMBED_BYTES:
        encoded = base64.b64encode(path.read_bytes()).decode()
        return Played(kind, f"data:{(TYPES | SOUND_TYPES)[suffix]};base64,{encoded}")
    relative = os.path.relpath(path.resolve(), page.resolve().parent)
    if relative.startswith(".."):
        return Played()
    return Played(link=quote(os.fsencode(relative).replace(os.sep.encode(), b"/")))


def _picture(path: Path | None, span: Span | None) -> PictureView:
    """Frames and sound of a clip or a window; what can't be decoded is left out."""
    strip, width, height, wave = "", 0, 0, ""
    if path is not None:
        with suppress(MediaError):
            strip, width, height = frame_strip(read_video(path, FRAMES, span=span).frames)
        with suppress(MediaError):
            wave = wave_path(read_sound(path, span=span).samples)
    return PictureView("" if span is None else span_words(span), ClipPicture(strip, width, height, wave))


def _answer(answer: QuestionAnswer) -> AnswerView:
    others = [each for each in answer.conditions if each != Condition.FULL]
    found = {each: answer.change(each) for each in others}
    widest = max((abs(value) for value in found.values() if value is not None), default=0.0)
    changes = []
    for each in others:
        change = found[each]
        says = tuple(said(part.readings[each].answer) for part in answer.parts)
        if change is None:
            changes.append(Bar(_tone(each), each.words, 0.0, "", says))
        else:
            share = abs(change) / widest if widest else 0.0
            number = signed_nats(change).replace("-", "\N{MINUS SIGN}")
            changes.append(Bar(_tone(each), each.words, share, number, says, times(change), change > 0))
    parts = tuple(
        ("" if part.span is None else span_words(part.span), said(part.answer), part.cut) for part in answer.parts
    )
    return AnswerView(answer.question, parts, verdict(answer), tuple(changes))


def _emotions(emotions: Emotions | None) -> list[EmotionView]:
    """The seven, the likeliest first; none where log-probabilities are not known."""
    if emotions is None or not emotions.logprobs:
        return []
    shares = {each: emotions.shares(each) or () for each in emotions.conditions}
    axis = _axis(emotions)
    ordered = sorted(range(len(LABELS)), key=lambda number: -shares[Condition.FULL][number])
    return [
        EmotionView(
            LABELS[number],
            tuple(
                Bar(_tone(each), each.words, values[number] / axis, f"{100 * values[number]:.1f}")
                for each, values in shares.items()
            ),
        )
        for number in ordered
    ]


def _axis(emotions: Emotions | None) -> float:
    """Share at which the bars end: a quarter, a half or all, so that bars of even shares can be told apart."""
    known = [] if emotions is None else [emotions.shares(each) or () for each in emotions.conditions]
    largest = max((share for shares in known for share in shares), default=1.0)
    return next(end for end in (0.25, 0.5, 1.0) if largest <= end or end == 1.0)


def _named(emotions: Emotions | None) -> list[tuple[str, str]]:
    """Condition and the emotion that is named under it, where there are no bars."""
    if emotions is None or emotions.logprobs:
        return []
    return [
        (each.words, " / ".join(name or "none of the seven" for name in emotions.named[each]))
        for each in emotions.conditions
    ]


def _legend(emotions: Emotions | None) -> list[dict[str, Any]]:
    conditions = () if emotions is None else emotions.conditions
    return [{"tone": _tone(each), "words": each.words} for each in conditions]


def _tone(condition: Condition) -> int:
    """Number of a condition's colour in `report.css`."""
    return {
        Condition.FULL: 1,
        Condition.NO_SOUND: 4,
        Condition.NO_PICTURE: 2,
        Condition.TEXT: 0,
        Condition.OTHER_SOUND: 5,
        Condition.OTHER_PICTURE: 3,
    }[condition]
