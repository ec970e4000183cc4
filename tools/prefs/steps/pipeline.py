"""The steps from labelled clips to questions (sections 3.2 and 3.3, B.1), over whatever models the engine asks."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from avem.errors import MediaError
from avem.extract import probe
from avem.records import Clip, Emotion, Modality
from avem.tools.prefs.asking.engine import Engine, Job, Outcome
from avem.tools.prefs.ledger import Ledger, Rejection
from avem.tools.prefs.media import MediaOptions, attachment
from avem.tools.prefs.steps.replies import Context
from avem.tools.prefs.steps.steps import SIDES, STEPS, Step

MAIN, SOUND = "main", "sound"
"""Names of the engine's clients; text-only guessers have names of their own."""
SUBTASKS = {"present": "no_hallucination", "spurious": "spurious", "hallucinated": "hallucinated"}
"""Kinds of stress question, with the names that benchmark files use."""


class BatchPending(Exception):
    """A step's requests lie in batch files; run the command again once their results are there."""


def code_of(clip_id: str) -> str:
    """What a clip is called towards models: its id may hold the label, as in `happiness/12`."""
    return f"clip-{sha256(clip_id.encode()).hexdigest()[:12]}"


@dataclass(slots=True)
class ClipState:
    """What is known about a clip so far."""

    clip: Clip
    emotion: Emotion
    """Its label."""
    sides: set[Modality] = field(default_factory=set)
    """What it has: sound, pictures."""
    captions: dict[Modality, str] = field(default_factory=dict)
    predicted: dict[Modality, Emotion] = field(default_factory=dict)
    """Emotion told from each caption alone."""

    def shows(self, side: Modality) -> bool:
        """Whether the side's caption alone gives the label."""
        return self.predicted.get(side) == self.emotion

    @property
    def agrees(self) -> bool:
        """The right answer to a question about agreement: whether both captions give the label (B.1)."""
        return all(self.shows(side) for side in SIDES)

    def values(self) -> dict[str, str]:
        """What fills the prompts' placeholders."""
        named = {f"{SIDES[side]}_caption": caption for side, caption in self.captions.items()}
        labels = {"emotion": str(self.emotion), "emotions": ", ".join(Emotion)}
        return {"code": code_of(self.clip.clip_id), **labels, **named}


@dataclass(frozen=True, slots=True)
class Item:
    """A multiple-choice question on a clip."""

    item_id: str
    state: ClipState
    task: str
    subtask: str
    modality: Modality
    question: str
    choices: tuple[str, ...]
    answer: str
    """The right option's letter."""
    explanation: str
    category: str

    @property
    def says_yes(self) -> bool | None:
        """Whether the right answer is yes; None for four-choice questions."""
        return self.answer == "A" if len(self.choices) == 2 else None


class Pipeline:
    """Runs the steps and notes what falls out.

    Args:
        engine: Asks the models.
        ledger: Gets everything that is left out.
        root: The dataset's folder.
        media: How clips are shown.
    """

    def __init__(self, engine: Engine, ledger: Ledger, root: Path, media: MediaOptions) -> None:
        self.engine, self.ledger = engine, ledger
        self._root, self._media = root, media

    async def ask(self, name: str, jobs: Sequence[Job]) -> list[Outcome]:
        """The engine's outcomes.

        Raises:
            BatchPending: Some of them wait in a batch file.
        """
        outcomes = await self.engine.run(name, jobs)
        if waiting := sum(outcome.pending for outcome in outcomes):
            raise BatchPending(f"{waiting} requests of the step '{name}' wait for the batch service")
        return outcomes

    def reject(self, state: ClipState, step: str, outcome: Outcome | str, level: str, item: str = "") -> None:
        """Note something of a clip that is left out."""
        reason, passing = (outcome, False) if isinstance(outcome, str) else (outcome.reason, outcome.passing)
        self.ledger.reject(Rejection(state.clip.clip_id, step, reason, level, item, passing))

    async def look_into(self, states: Sequence[ClipState]) -> None:
        """Find out which clips have sound and which have pictures; a missing side is noted; the clip stays."""
        found = await asyncio.gather(*(asyncio.to_thread(self._sides, state.clip) for state in states))
        for state, (sides, problem) in zip(states, found, strict=True):
            state.sides = sides
            for side, name in SIDES.items():
                if side not in sides:
                    reason = problem or f"the clip has no {'sound' if side == Modality.AUDIO else 'pictures'}"
                    self.reject(state, f"{name}_caption", reason, "side")

    def _sides(self, clip: Clip) -> tuple[set[Modality], str]:
        try:
            info = probe(self._root / clip.path)
            sound = info.has_audio or (bool(clip.audio_path) and probe(self._root / clip.audio_path).has_audio)
        except MediaError as error:
            return set(), str(error)
        return {side for side, there in ((Modality.AUDIO, sound), (Modality.VISUAL, info.frames > 0)) if there}, ""

    async def caption(self, states: Sequence[ClipState]) -> None:
        """(a) Describe sound and pictures, each without the other."""
        for side, name in SIDES.items():
            step, those = STEPS[f"{name}_caption"], [state for state in states if side in state.sides]
            jobs = [
                Job(
                    state.clip.clip_id,
                    step,
                    SOUND if side == Modality.AUDIO else MAIN,
                    {"code": code_of(state.clip.clip_id)},
                    media=attachment(state.clip, self._root, side, self._media),
                )
                for state in those
            ]
            for state, outcome in zip(those, await self.ask(step.name, jobs), strict=True):
                if outcome.value is None:
                    self.reject(state, step.name, outcome, "side")
                else:
                    state.captions[side] = _joined(outcome.value)

    async def predict(self, states: Sequence[ClipState]) -> list[ClipState]:
        """(b) Tell the emotion from each caption alone; clips where neither gives the label are dropped."""
        for side, name in SIDES.items():
            step = STEPS[f"{name}_emotion"]
            those = [state for state in states if side in state.captions and side not in state.predicted]
            jobs = [
                Job(state.clip.clip_id, step, MAIN, state.values() | {"emotions": ", ".join(Emotion)})
                for state in those
            ]
            for state, outcome in zip(those, await self.ask(step.name, jobs), strict=True):
                if outcome.value is None:
                    self.reject(state, step.name, outcome, "side")
                else:
                    state.predicted[side] = Emotion(outcome.value["emotion"])
        kept = []
        for state in states:
            if any(state.shows(side) for side in SIDES):
                kept.append(state)
                continue
            told = ", ".join(f"{SIDES[side]}: {emotion}" for side, emotion in state.predicted.items()) or "none"
            self.reject(state, "emotion", f"no caption gives the label {state.emotion} ({told})", "clip")
        return kept

    async def write_questions(self, states: Sequence[ClipState], tasks: Sequence[str]) -> list[Item]:
        """(c) Write the questions of each task on the clips that are fit for it."""
        items = []
        for side, name in SIDES.items():
            if (task := f"reasoning_basic_{name}") in tasks:
                fit = [state for state in states if state.shows(side)]
                items += await self._questions(STEPS[f"basic_{name}"], fit, task, side)
        if "modality_agreement" in tasks:
            fit = [state for state in states if len(state.predicted) == len(SIDES)]
            items += await self._questions(STEPS["agreement"], fit, "modality_agreement", Modality.AUDIOVISUAL)
        for side, name in SIDES.items():
            if (task := f"reasoning_stress_{name}") not in tasks:
                continue
            for kind, subtask in SUBTASKS.items():
                fit = [
                    state for state in states if side in state.predicted and (state.shows(side) or kind != "present")
                ]
                items += await self._questions(STEPS[f"stress_{name}_{kind}"], fit, task, side, subtask)
        return items

    async def _questions(
        self, step: Step, states: Sequence[ClipState], task: str, modality: Modality, subtask: str = ""
    ) -> list[Item]:
        counts = self.ledger.counts[task]
        jobs = [Job(state.clip.clip_id, step, MAIN, state.values(), Context(state.emotion)) for state in states]
        items = []
        for state, outcome in zip(states, await self.ask(step.name, jobs), strict=True):
            counts["asked"] += 1
            if outcome.value is None:
                counts[column_of(outcome)] += 1
                self.reject(state, step.name, outcome, "item", f"{state.clip.clip_id}#{step.name}")
                continue
            for number, question in enumerate(outcome.value["questions"], start=1):
                item = _item(f"{state.clip.clip_id}#{step.name}-{number}", state, task, subtask, modality, question)
                if task == "modality_agreement" and item.says_yes != state.agrees:
                    counts["contradicted"] += 1
                    told = " and ".join(f"{SIDES[side]}: {emotion}" for side, emotion in state.predicted.items())
                    said = f"the answer {item.choices[0 if item.says_yes else 1][4:]} contradicts the captions ({told})"
                    self.reject(state, step.name, said, "item", item.item_id)
                    continue
                counts["written"] += 1
                items.append(item)
        return items

    async def drop_guessed(self, items: Sequence[Item], guessers: Sequence[str]) -> list[Item]:
        """(d) Let several models guess from the text alone, and drop what all of them get right (section 3.3)."""
        if not guessers or not items:
            return list(items)
        step = STEPS["text_guess"]
        right = [0] * len(items)
        for guesser in guessers:
            jobs = [
                Job(item.item_id, step, guesser, {"question": item.question, "choices": " ".join(item.choices)})
                for item in items
            ]
            for number, outcome in enumerate(await self.ask(f"{step.name} {guesser}", jobs)):
                right[number] += outcome.value is not None and outcome.value["answer"] == items[number].answer
        kept = []
        for item, count in zip(items, right, strict=True):
            if count < len(guessers):
                kept.append(item)
                continue
            self.ledger.counts[item.task]["guessed"] += 1
            said = f"all {len(guessers)} models guess the answer from the text alone"
            self.reject(item.state, step.name, said, "item", item.item_id)
        return kept


def column_of(outcome: Outcome) -> str:
    """Which column of the counts a failed outcome belongs to."""
    if outcome.passing:
        return "unanswered"
    return "declined" if outcome.reason.startswith("the model declined") else "unusable"


def _joined(caption: dict[str, Any]) -> str:
    """Both parts of a caption; the second dwells on what the first may pass over quickly."""
    detailed, emotion = caption["detailed_caption"].strip(), caption["emotion_caption"].strip()
    return detailed if emotion in detailed else f"{detailed} {emotion}"


def _item(
    item_id: str, state: ClipState, task: str, subtask: str, modality: Modality, question: dict[str, Any]
) -> Item:
    return Item(
        item_id,
        state,
        task,
        subtask,
        modality,
        question["question"].strip(),
        tuple(question["choices"]),
        question["answer"],
        question["explanation"].strip(),
        str(question.get("category", "")),
    )
