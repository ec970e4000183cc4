"""Answers kept in a folder, so that an `avem ask` about many clips that was stopped resumes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from avem.evaluate.predict.log import AnswerLog
from avem.files import json_sha256
from avem.guards.output_kinds import ASK
from avem.guards.outputs import Reads
from avem.guards.ownership import opened
from avem.tools.ask.inputs import AskedClip, as_other
from avem.tools.ask.results import (
    LABELS,
    AskedModel,
    ClipAnswer,
    Condition,
    Emotions,
    Known,
    PartAnswer,
    QuestionAnswer,
    Reading,
    Span,
)
from avem.tools.ask.session import AskSession

LOG = "answers.jsonl"
"""File in the folder; one line a clip and question."""
VERSION = 1
"""Raised when the same key would mean another answer."""


class KeptSession:
    """A session whose answers are kept, and whose kept answers are not made again.

    A kept answer is found by everything that it depends on: the content of the clip and of the one it is compared with,
    the model, the features or frames it is shown, the question, and the options.

    Args:
        session: What answers.
        log: Where answers are kept.
    """

    def __init__(self, session: AskSession, log: AnswerLog) -> None:
        self.session, self.log = session, log
        self._identity = session.identity()

    @property
    def about(self) -> AskedModel:
        """The model."""
        return self.session.about

    def identity(self) -> dict[str, Any]:
        """As of the session within."""
        return self._identity

    def content(self, clip: AskedClip) -> dict[str, Any]:
        """As of the session within."""
        return self.session.content(clip)

    def known(self, clip: AskedClip, questions: Sequence[str]) -> Known:
        """As of the session within; labels and training may have changed since an answer was kept."""
        return self.session.known(clip, questions)

    def ask(self, clip: AskedClip, questions: Sequence[str], against: AskedClip | None = None) -> ClipAnswer:
        """Ask about one clip what is not kept yet; see `avem.tools.ask.features.FeatureSession.ask`."""
        depends: dict[str, Any] = {"version": VERSION, **self._identity, "clip": self.content(clip), "against": None}
        if against is not None:
            with as_other(against):
                depends["against"] = self.content(against)
        keys = {question: json_sha256({**depends, "question": question}) for question in questions}
        missing = [question for question, key in keys.items() if self.log.get(key) is None]
        if missing:
            found = self.session.ask(clip, missing, against)
            alone = {answer.question: replace(found, answers=(answer,)) for answer in found.answers}
            self.log.append({keys[question]: to_record(answer) for question, answer in alone.items()})
        found = _joined([self.log.get(keys[question]) or {} for question in questions], clip, against)
        return replace(found, known=self.known(clip, questions))


@contextmanager
def keeping(session: AskSession, folder: Path, roots: Reads = ()) -> Iterator[KeptSession]:
    """Keep a session's answers in a folder; one into which nothing was written is removed again.

    Args:
        session: What answers.
        folder: Of this command alone; see `avem.guards.ownership.opened`.
        roots: Folders of clips, in which it may be.

    Raises:
        SettingError: The folder holds something else, or another run writes it.
        WriteError: It can't be written.
    """
    with opened(folder, ASK, roots=roots):
        log = folder / LOG
        try:
            with AnswerLog(log) as answers:
                yield KeptSession(session, answers)
        finally:
            if log.is_file() and not log.stat().st_size:
                log.unlink()


def to_record(answer: ClipAnswer) -> dict[str, Any]:
    """An answer to one question as JSON; `from_record` gives it back."""
    return {"path": None if answer.path is None else str(answer.path), **answer.to_json()}


def from_record(record: Mapping[str, Any]) -> ClipAnswer:
    """The answer that `to_record` wrote."""
    windows = tuple((float(start), float(end)) for start, end in record["windows"])
    return ClipAnswer(
        record["clip"],
        None if record["path"] is None else Path(record["path"]),
        windows or (None,),
        record["duration_s"],
        record["features"],
        None if record["emotions"] is None else _emotions(record["emotions"]),
        tuple(_answer(answer) for answer in record["answers"]),
        record["other"] or "",
        tuple(record["notes"]),
    )


def _joined(records: Sequence[Mapping[str, Any]], clip: AskedClip, against: AskedClip | None) -> ClipAnswer:
    """One clip's answers to several questions, under the names that its files have now."""
    found = [from_record(record) for record in records]
    return replace(
        found[0],
        name=clip.name,
        path=clip.path or found[0].path,
        answers=tuple(answer for each in found for answer in each.answers),
        other="" if against is None else against.name,
    )


def _emotions(record: Mapping[str, Any]) -> Emotions:
    logprobs = {
        Condition(name): tuple(tuple(part[label] for label in LABELS) for part in parts)
        for name, parts in record["logprobs"].items()
    }
    named = {Condition(name): tuple(names) for name, names in record["named"].items()}
    return Emotions(record["question"], logprobs, named)


def _answer(record: Mapping[str, Any]) -> QuestionAnswer:
    parts = []
    for part in record["parts"]:
        readings = {Condition(name): Reading(**reading) for name, reading in part["conditions"].items()}
        span: Span | None = None if part["window"] is None else (part["window"][0], part["window"][1])
        parts.append(PartAnswer(readings, span, part["cut"]))
    return QuestionAnswer(record["question"], tuple(parts))
