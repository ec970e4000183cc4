"""`avem emorealm subtasks`: a model says whether the cue that a stress question names is in the clip (Table 14).

The released benchmark does not say which of its no-questions name a cue that is there (`spurious`) and which one that
is not (`hallucinated`). The model is shown the question with the clip's sound or frames, or with a caption of them.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from avem.endpoint.chat import ChatClient, ChatRequest, ChatSettings, ask_each
from avem.errors import DataError, EndpointError, MediaError, PartialFailure, SettingError
from avem.evaluate.emorealm.questions import read_questions
from avem.evaluate.emorealm.subtasks import HALLUCINATED, SPURIOUS, unlabelled
from avem.evaluate.predict.clips import resolve_clips
from avem.evaluate.predict.endpoint import messages
from avem.evaluate.predict.log import AnswerLog
from avem.evaluate.predict.media_files import find_files
from avem.evaluate.predict.media_model import ClipMedia, MediaRequest
from avem.files import file_sha256, json_sha256, read_json_lines, write_atomic
from avem.guards.output_kinds import BENCH
from avem.guards.ownership import opened
from avem.progress import stage
from avem.records import Question
from avem.tools.prefs.steps.replies import find_json

logger = logging.getLogger(__name__)

PROMPT = (
    "Below is a yes-or-no question about a clip. It names one {cue}, which may or may not be in the clip. Do not "
    "answer the question. Say only whether the {cue} that it names {is_there}, whatever it may mean.\n\n"
    "{shown}\n\nQuestion: {question}\n\n"
    'Reply with one JSON object and nothing around it: {{"cue": "the {cue} that the question names", '
    '"present": true or false, "reason": "what in the clip shows it, or that nothing does"}}'
)
REMINDER = "That was not the JSON object that is needed ({}). Reply with it alone."
REPLY_TOKENS = 300
ATTEMPTS = 3
SIDES = {"reasoning_stress_audio": "audio", "reasoning_stress_video": "video"}
"""Task to the stream that its questions are about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CueOptions:
    """What is labelled, by which model, and where the labels go."""

    questions: Path
    model: ChatSettings
    media: Path | None = None
    """Folder of the clips, whose sound or frames are sent."""
    cache: Path | None = None
    """A store that names the clips' files, where no folder is given."""
    captions: Path | None = None
    """`captions.jsonl` of `avem emorealm build`, whose captions are sent instead of media."""
    frames: int = 8
    out: Path = Path("./subtasks")

    def __post_init__(self) -> None:
        """Refuse settings that can't work.

        Raises:
            SettingError: Neither clips nor captions are given, or both.
        """
        clips = self.media is not None or self.cache is not None
        if clips == (self.captions is not None):
            raise SettingError(
                "The model needs the clips or captions of them; give --media or --captions, not both, or the clips' "
                "store with --cache."
            )


@dataclass(frozen=True, slots=True)
class CueLabels:
    """What a run came to."""

    path: Path
    """The side file, for `--subtasks`."""
    counts: dict[str, Counter[str]]
    """Task to subtask to number."""
    failed: dict[str, str]
    """Question id to the reason why it has no label."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """One question with what the model is shown."""

    question: Question
    key: str
    text: str
    media: MediaRequest | None


def label_cues(options: CueOptions) -> CueLabels:
    """Label the stress questions that carry no subtask; a run that was stopped resumes and asks nothing twice.

    Writes `<out>/subtasks.jsonl` with `id, subtask, cue, reason, labelled_by`, and keeps every reply in
    `<out>/answers.jsonl`.

    Raises:
        DataError: Every question has its subtask, or no clip is found.
        EndpointError: Every further request would fail too; replies so far are kept.
    """
    questions = unlabelled(read_questions(options.questions))
    if not questions:
        raise DataError(f"{options.questions} has no stress question without a subtask; there is nothing to label.")
    reads = [options.questions, options.captions]
    with opened(options.out, BENCH, reads=reads, roots=[options.media], alone=False):
        asked, failed = _prepare(questions, options)
        with AnswerLog(options.out / "answers.jsonl") as log:
            waiting = [each for each in asked if log.get(each.key) is None]
            if waiting:
                failed |= asyncio.run(_ask(waiting, options, log))
            found = [(each.question, log.get(each.key)) for each in asked]
        labelled = [(question, record) for question, record in found if record is not None]
        lines = [_line(question, record, options.model.model) for question, record in labelled]
        path = options.out / "subtasks.jsonl"
        write_atomic(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    counts: dict[str, Counter[str]] = {task: Counter() for task in SIDES}
    for (question, _), line in zip(labelled, lines, strict=True):
        counts[question.task][line["subtask"]] += 1
    return CueLabels(path, counts, failed)


def check_complete(labels: CueLabels) -> None:
    """Say where questions are left without a label.

    Raises:
        PartialFailure: Some are.
    """
    if labels.failed:
        name, reason = next(iter(labels.failed.items()))
        raise PartialFailure(
            f"{len(labels.failed)} questions have no label ({name}: {reason}); run the same command again to retry."
        )


def _line(question: Question, record: Mapping[str, Any], model: str) -> dict[str, Any]:
    subtask = SPURIOUS if record["present"] else HALLUCINATED
    return {
        "id": question.id,
        "subtask": subtask,
        "cue": record["cue"],
        "reason": record["reason"],
        "labelled_by": model,
    }


def _prepare(questions: Sequence[Question], options: CueOptions) -> tuple[list[_Asked], dict[str, str]]:
    """What is asked about each question, and the questions whose clip or caption is not there."""
    known = {"endpoint": options.model.identity, "model": options.model.model}
    asked: list[_Asked] = []
    if options.captions is not None:
        captions = dict(read_json_lines(options.captions, _caption))
        names = list(captions)
        table = pa.table({"clip_id": names, "path": names})
        resolved = resolve_clips(table, questions, str(options.captions))
        failed = dict(resolved.absent)
        for question in questions:
            row = resolved.rows.get(question.id)
            text = "" if row is None else captions[names[row]].get(_side(question), "")
            if text:
                shown = f"What is {'heard' if _side(question) == 'audio' else 'seen'} in the clip: {json.dumps(text)}"
                prompt = _prompt(question, shown)
                asked.append(_Asked(question, json_sha256({**known, "prompt": prompt}), prompt, None))
            elif row is not None:
                failed[question.id] = f"{options.captions} has no caption of its {_side(question)}"
        return asked, failed
    files = find_files(options.media, options.cache or Path())
    resolved = files.resolve(questions)
    for question in questions:
        path = resolved.positions.get(question.id)
        if isinstance(path, Path):
            shown = (
                "The clip's sound is attached." if _side(question) == "audio" else "Frames of the clip are attached."
            )
            prompt, streams = _prompt(question, shown), (_side(question),)
            depends = {**known, "prompt": prompt, "clip": file_sha256(path), "frames": options.frames}
            request = MediaRequest(question.id, "generation", prompt, (), path, streams, REPLY_TOKENS)
            asked.append(_Asked(question, json_sha256(depends), prompt, request))
    return asked, dict(resolved.absent)


def _side(question: Question) -> str:
    return SIDES[question.task]


def _prompt(question: Question, shown: str) -> str:
    heard = _side(question) == "audio"
    return PROMPT.format(
        cue="sound" if heard else "sight",
        is_there="can be heard" if heard else "can be seen",
        shown=shown,
        question=json.dumps(question.question, ensure_ascii=False),
    )


def _caption(entry: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    """A clip's captions by stream, from a line of `captions.jsonl`."""
    captions = entry["captions"]
    return str(entry["clip_id"]), {
        "audio": str(captions.get("audio") or ""),
        "video": str(captions.get("visual") or captions.get("video") or ""),
    }


async def _ask(asked: Sequence[_Asked], options: CueOptions, log: AnswerLog) -> dict[str, str]:
    """Ask in rounds: a reply that can't be used is asked for again. Returns what has no label, with the reason."""
    failed: dict[str, str] = {}
    follow: dict[str, list[dict[str, Any]]] = {each.question.id: [] for each in asked}
    async with ChatClient(options.model) as client:
        with stage("subtasks", len(asked), "questions") as bar:
            for _ in range(ATTEMPTS):
                waiting = {each.question.id: each for each in asked if each.question.id in follow}
                again: dict[str, list[dict[str, Any]]] = {}
                async for name, reply in ask_each(client, _requests(waiting, follow, options.frames, failed)):
                    if isinstance(reply, EndpointError):
                        failed[name] = str(reply)
                        continue
                    try:
                        record = _read(reply.text)
                    except ValueError as error:
                        failed[name] = f"the reply can't be used: {error}"
                        said = {"role": "assistant", "content": reply.text}
                        again[name] = [*follow[name], said, {"role": "user", "content": REMINDER.format(error)}]
                        continue
                    log.append({waiting[name].key: {"id": name, **record}})
                    failed.pop(name, None)
                    bar.advance()
                follow = again
    return failed


def _requests(
    waiting: Mapping[str, _Asked], follow: Mapping[str, list[dict[str, Any]]], frames: int, failed: dict[str, str]
) -> Iterator[tuple[str, ChatRequest]]:
    """Requests in turn; media are decoded when their turn comes, and what can't be decoded is noted."""
    for name, each in waiting.items():
        try:
            media = each.media.media(frames) if each.media else ClipMedia()
        except MediaError as error:
            failed[name] = str(error)
            continue
        yield name, ChatRequest([*messages(each.text, media), *follow[name]], REPLY_TOKENS)


def _read(reply: str) -> dict[str, Any]:
    """The reply's object.

    Raises:
        ValueError: It is something else.
    """
    value = find_json(reply)
    if not isinstance(value, dict) or type(value.get("present")) is not bool:
        raise ValueError("present has to be true or false")
    return {"present": value["present"], "cue": str(value.get("cue") or ""), "reason": str(value.get("reason") or "")}
