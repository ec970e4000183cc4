"""Makes instructions, preference rows and benchmark questions from a scene's ground truth, with no language model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import TypeAlias

import numpy as np

from avem.records import Emotion, InstructionRow, Modality, PreferenceRow, Question
from avem.tools.corpus.cues import FACE_CUES, VOICE_CUES, Cue
from avem.tools.corpus.scene import Scene, another, pick

Options: TypeAlias = "Callable[[Scene, Modality, np.random.Generator], list[str]]"
REASONING = {
    Modality.VISUAL: "What in the picture shows the feeling?",
    Modality.AUDIO: "What in the sound shows the feeling?",
}
AGREEMENT = "Do the face and the voice show the same feeling?"
SIDES = (Modality.AUDIO, Modality.VISUAL)
CATALOGUES = {Modality.AUDIO: VOICE_CUES, Modality.VISUAL: FACE_CUES}
TASK_NAMES = {Modality.AUDIO: "audio", Modality.VISUAL: "video"}
"""How the released benchmark's task names call a modality."""


def sentence(clause: str) -> str:
    """A clause as a sentence: capital letter and full stop."""
    return f"{clause[0].upper()}{clause[1:]}."


def listed(cues: Sequence[Cue]) -> str:
    """Some cues as a sentence: `The blue shirt and the checked walls.`."""
    return sentence("the " + " and the ".join(cue.phrase for cue in cues))


def verdict(yes: bool) -> str:
    """A yes-or-no answer without a reason."""
    return "Yes." if yes else "No."


def reply(yes: bool, clause: str) -> str:
    """A yes-or-no answer with its reason: `No, the raised fist shows anger.`."""
    return f"{'Yes' if yes else 'No'}, {clause}."


def instructions(scene: Scene) -> list[InstructionRow]:
    """Supervised questions: descriptions, questions about cues that are there, and about a cue of another emotion.

    A cue that fits the emotion shown is always there when it is asked about, and a no is only ever about another
    emotion: the emotion alone seems to tell the answer, though the text alone does not.
    """
    rng = np.random.default_rng((scene.seed, 0))
    asked: list[tuple[Modality, str, str, str]] = []
    for side in SIDES:
        emotion = scene.shown(side)
        part = "voice" if side == Modality.AUDIO else "face"
        asked.append((side, "emotion", f"What does the {part} show?", sentence(f"the {part} shows {emotion}")))
        for cue in scene.present(side):
            asked.append((side, "reasoning", REASONING[side], sentence(cue.shows(emotion))))
            asked.append((side, "cue", cue.asks(emotion), verdict(True)))
        other = another(emotion, rng)
        for claimed in (emotion, other):
            asked.append((side, "emotion", f"Does the {part} show {claimed}?", verdict(claimed == emotion)))
        asked.append((side, "cue", pick(CATALOGUES[side][other], rng).asks(other), verdict(False)))
    asked.append((Modality.AUDIO, "description", "What else is heard?", sentence(f"the {scene.sound.phrase}")))
    asked.append((Modality.VISUAL, "description", "What else is seen?", listed(scene.irrelevant(Modality.VISUAL))))
    asked.append((Modality.AUDIOVISUAL, "agreement", AGREEMENT, _agreement(scene)))
    return [
        InstructionRow(f"{scene.clip_id}#{number}", scene.clip_id, modality, task, question, answer)
        for number, (modality, task, question, answer) in enumerate(asked)
    ]


def preferences(scene: Scene) -> list[PreferenceRow]:
    """Preference rows: what shows the feeling, a yes-or-no question on every fitting cue and one other, agreement.

    y_w names a cue that is there and fits; y_l^vr one that is there and shows nothing; y_l^er one that fits and is
    not there. Asked about one cue, the answer is a verdict alone: the cue is in the question, so the wrong verdict is
    the spurious answer where the cue is irrelevant and the hallucinated one where it is absent, and is used for both.
    """
    rng = np.random.default_rng((scene.seed, 1))
    rows: list[tuple[Modality, str, str, str, str, str]] = []
    for side in SIDES:
        emotion, name = scene.shown(side), TASK_NAMES[side]
        for present, absent in product(scene.present(side), scene.absent(side)):
            claims = [cue.shows(emotion) for cue in (present, pick(scene.irrelevant(side), rng), absent)]
            chosen, spurious, hallucinated = (sentence(claim) for claim in claims)
            rows.append((side, f"reasoning_basic_{name}", REASONING[side], chosen, spurious, hallucinated))
        for cue in (*scene.present(side), *scene.absent(side), pick(scene.irrelevant(side), rng)):
            true = cue in scene.present(side)
            wrong = verdict(not true)
            rows.append((side, f"reasoning_stress_{name}", cue.asks(emotion), verdict(true), wrong, wrong))
    false = list(_false_agreement(scene, rng))
    rows.append((Modality.AUDIOVISUAL, "modality_agreement", AGREEMENT, _agreement(scene), false[0], false[1]))
    return [
        PreferenceRow(
            f"{scene.clip_id}#{number}",
            scene.clip_id,
            modality,
            task,
            question,
            chosen,
            video_relevant,
            emotion_relevant,
            emotion=scene.emotion,
            provenance={"made_by": "controlled corpus"},
        )
        for number, (modality, task, question, chosen, video_relevant, emotion_relevant) in enumerate(rows)
    ]


def questions(scene: Scene, video: str, options: Options | None = None) -> list[Question]:
    """Benchmark questions of all five tasks on one clip, in the released form; `balance` makes the set of them even.

    Args:
        scene: The ground truth.
        video: The clip's file as the benchmark names it.
        options: Makes the claims of a basic question, the right one first; None for `one_of_each`.
    """
    options = options or one_of_each
    rng = np.random.default_rng((scene.seed, 2))
    made: list[tuple[str, str, str, list[str], int]] = []
    for side in SIDES:
        emotion, name = scene.shown(side), TASK_NAMES[side]
        made.append((f"reasoning_basic_{name}", "", REASONING[side], options(scene, side, rng), 0))
        subtasks = zip(("no_hallucination", "hallucinated", "spurious"), kinds(scene, side), strict=True)
        for subtask, cues in subtasks:
            question = pick(cues, rng).asks(emotion)
            made.append(
                (f"reasoning_stress_{name}", subtask, question, ["Yes", "No"], int(subtask != "no_hallucination"))
            )
    made.append(("modality_agreement", "", AGREEMENT, ["Yes", "No"], int(not scene.agrees)))
    return [
        _question(f"{scene.clip_id}#{number}", video, scene.emotion, *fields, rng=rng)
        for number, fields in enumerate(made)
    ]


def balance(questions: Sequence[Question], seed: int) -> list[Question]:
    """Keep as many questions as give every yes-or-no task equally many of both answers, half of the no's per subtask.

    Args:
        questions: Questions of many clips.
        seed: Of the choice of those left out.
    """
    rng = np.random.default_rng(seed)
    groups: dict[tuple[str, str], list[Question]] = {}
    for question in questions:
        text = next(choice[4:] for choice in question.choices if choice[1] == question.answer)
        kind = text if question.task == "modality_agreement" else str(question.extra.get("subtask", ""))
        groups.setdefault((question.task, kind), []).append(question)
    kept: list[Question] = []
    for (task, kind), group in groups.items():
        limit = len(group)
        if task == "modality_agreement":
            limit = min(len(groups.get((task, answer), [])) for answer in ("Yes", "No"))
        elif kind in ("hallucinated", "spurious"):
            limit = len(groups[(task, "no_hallucination")]) // 2
        kept.extend(group[index] for index in sorted(rng.permutation(len(group))[:limit]))
    return sorted(kept, key=lambda question: question.id)


def kinds(scene: Scene, side: Modality) -> tuple[Sequence[Cue], Sequence[Cue], Sequence[Cue]]:
    """Cues that are there and fit, those that fit and are absent, and those that mean nothing."""
    return scene.present(side), scene.absent(side), scene.irrelevant(side)


def _agreement(scene: Scene) -> str:
    if scene.agrees:
        return reply(True, f"both show {scene.face_emotion}")
    return reply(False, f"the face shows {scene.face_emotion} but the voice {scene.voice_emotion}")


def _false_agreement(scene: Scene, rng: np.random.Generator) -> Iterator[str]:
    """The wrong answer twice: with an irrelevant cue as its reason, and with a cue that is not there."""
    for kind in (2, 1):
        cues = [pick(kinds(scene, side)[kind], rng) for side in SIDES]
        cue = cues[rng.integers(2)]
        yield reply(not scene.agrees, cue.shows(scene.shown(cue.modality)))


def one_of_each(scene: Scene, side: Modality, rng: np.random.Generator) -> list[str]:
    """The right claim, a fitting cue that is absent, an irrelevant cue and a cue of another emotion.

    Two claims are of the clip's emotion and two of the other, so counting emotions does not give the answer away.
    """
    emotion = scene.shown(side)
    other = another(emotion, rng)
    present, absent, irrelevant = (pick(cues, rng) for cues in kinds(scene, side))
    claims = (
        present.shows(emotion),
        absent.shows(emotion),
        irrelevant.shows(other),
        pick(CATALOGUES[side][other], rng).shows(other),
    )
    return [sentence(claim) for claim in claims]


def _question(
    identifier: str,
    video: str,
    emotion: Emotion,
    task: str,
    subtask: str,
    text: str,
    options: list[str],
    right: int,
    *,
    rng: np.random.Generator,
) -> Question:
    order = rng.permutation(len(options)).tolist()
    choices = tuple(f"({'ABCD'[position]}) {options[index]}" for position, index in enumerate(order))
    extra = {"emotion": str(emotion), **({"subtask": subtask} if subtask else {})}
    return Question(identifier, video, task, text, choices, "ABCD"[order.index(right)], extra)
