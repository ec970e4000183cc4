"""What the stand-in server says in each step, from a scene's ground truth, and the ways in which it is spoilt."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

from avem.records import Emotion, Modality
from avem.tools.corpus.cues import FACE_CUES, VOICE_CUES, Cue
from avem.tools.corpus.rows import AGREEMENT, REASONING, reply, sentence
from avem.tools.corpus.scene import Scene

CODE = re.compile(r"clip-[0-9a-f]{12}")
CATALOGUES = {Modality.AUDIO: VOICE_CUES, Modality.VISUAL: FACE_CUES}
VERBS = {Modality.AUDIO: "heard", Modality.VISUAL: "seen"}
AWKWARD = 'A sign reads "{open}" and \\"$emotion\\" beside {"a": [1]}.'
CHINESE = "这段描述没有使用英语因此不能采用"
SPANISH = "La mujer habla con voz fuerte porque siente mucha rabia ahora"


class Witness:
    """Knows what is in every clip.

    Args:
        scenes: Ground truth by the code that prompts call a clip.
        awkward: Put marks into captions that a careless prompt would stumble over.
    """

    def __init__(self, scenes: Mapping[str, Scene], awkward: bool) -> None:
        self._scenes, self._awkward = scenes, awkward

    def emotion(self, prompt: str) -> Emotion | None:
        """The label of the clip that a prompt is about; None where it names none."""
        code = CODE.search(prompt)
        return self._scenes[code.group()].emotion if code else None

    def answer(self, step: str, prompt: str, model: str) -> dict[str, Any] | str:
        """The reply to a prompt: a JSON object, or words where the step can not be done."""
        if step == "text_guess":
            return guess(prompt, model)
        scene = self._scenes[CODE.search(prompt).group()]  # type: ignore[union-attr]  # every other prompt has a code
        side = Modality.AUDIO if "audio" in step else Modality.VISUAL
        if step.endswith("_caption"):
            return self._caption(scene, side)
        if step.endswith("_emotion"):
            return {"emotion": emotion_in(given(prompt, "Heard" if side == Modality.AUDIO else "Seen"), side)}
        if step.startswith("basic"):
            return _basic(scene, side)
        if step == "agreement":
            return _yes_no(AGREEMENT, scene.agrees, _agreement(scene), step)
        if step.startswith("stress"):
            return _stress(scene, side, step.rpartition("_")[2])
        if step == "description":
            return {"description": describe(scene.face_cues[0], scene.voice_cues[0], scene.emotion)}
        return _rejected(scene, side, step, prompt)

    def _caption(self, scene: Scene, side: Modality) -> dict[str, str]:
        there = " and the ".join(cue.phrase for cue in scene.present(side))
        rest = " and the ".join(cue.phrase for cue in scene.irrelevant(side))
        further = f" {AWKWARD}" if self._awkward else ""
        verb = VERBS[side]
        return {
            "detailed_caption": f"In this clip the {there} can be {verb}. The {rest} can be {verb} too.{further}",
            "emotion_caption": f"What stands out is the {there}.",
        }


def given(prompt: str, label: str) -> str:
    """A value that a prompt holds as a JSON string after `label: `."""
    start = prompt.index(f"\n{label}: ") + len(label) + 3
    return str(json.JSONDecoder().raw_decode(prompt[start:])[0])


def emotion_in(caption: str, side: Modality) -> Emotion:
    """The emotion whose cues a caption names most often."""
    found = Counter(
        emotion for emotion, cues in CATALOGUES[side].items() for cue in cues if f"the {cue.phrase}" in caption
    )
    return found.most_common(1)[0][0]


def guess(prompt: str, model: str) -> dict[str, Any]:
    """A guess that only depends on the text: none in a third of the cases, otherwise a letter out of the blue."""
    drawn = sha256(f"{model} {given(prompt, 'Question')} {given(prompt, 'Options')}".encode()).digest()[0]
    letters = "ABCD" if "(D)" in given(prompt, "Options") else "AB"
    return {"answer": None if drawn % 3 == 0 else letters[drawn % len(letters)], "reason": "a hunch"}


def describe(face: Cue, voice: Cue, emotion: Emotion) -> str:
    """A description of the emotion by one cue of each side."""
    return sentence(f"{face.shows(emotion)} and {voice.shows(emotion)}")


def _basic(scene: Scene, side: Modality) -> dict[str, Any]:
    asked = []
    for number, cue in enumerate(scene.present(side)):
        claims = [cue, _missing(scene, side, scene.emotion), scene.irrelevant(side)[0]]
        claims.append(_missing(scene, side, _other(scene.emotion)))
        texts = [sentence(claim.shows(scene.emotion)) for claim in claims]
        position = (scene.seed + number) % 4
        texts = texts[-position:] + texts[:-position] if position else texts
        asked.append(
            {
                "question": REASONING[side],
                "choices": [f"({'ABCD'[n]}) {text}" for n, text in enumerate(texts)],
                "answer": "ABCD"[position],
                "explanation": sentence(cue.shows(scene.emotion)),
                "category": "cue",
            }
        )
    return {"questions": asked[: 1 + scene.seed % 2]}


def _stress(scene: Scene, side: Modality, kind: str) -> dict[str, Any]:
    cues: Sequence[Cue] = {
        "present": scene.present(side),
        "spurious": scene.irrelevant(side),
        "hallucinated": (_missing(scene, side, scene.emotion),),
    }[kind]
    cue = cues[scene.seed % len(cues)]
    verb = "are" if cue.plural else "is"
    there = "not there" if kind == "hallucinated" else f"{VERBS[side]} in the clip"
    reason = f"the {cue.phrase} {verb} {there}"
    return _yes_no(cue.asks(scene.emotion), kind == "present", sentence(reason), kind)


def _yes_no(question: str, yes: bool, explanation: str, category: str) -> dict[str, Any]:
    item = {"question": question, "choices": ["(A) Yes", "(B) No"], "answer": "A" if yes else "B"}
    return {"questions": [item | {"explanation": explanation, "category": category}]}


def _agreement(scene: Scene) -> str:
    if scene.agrees:
        return reply(True, f"both show {scene.face_emotion}")
    return reply(False, f"the face shows {scene.face_emotion} but the voice {scene.voice_emotion}")


def _rejected(scene: Scene, side: Modality, step: str, prompt: str) -> dict[str, Any]:
    question = given(prompt, "Question")
    if step == "rejected_agreement":
        opposite = not scene.agrees
        shown = [
            scene.irrelevant(side)[0],
            _missing(scene, side, scene.emotion),
            _missing(scene, side, _other(scene.emotion)),
        ]
        texts = [_agreement(scene), *(reply(opposite, cue.shows(scene.emotion)) for cue in shown)]
    else:
        there = next(cue for cue in scene.present(side) if f"the {cue.phrase}" in given(prompt, "Right answer").lower())
        cues = [
            there,
            scene.irrelevant(side)[0],
            _missing(scene, side, scene.emotion),
            _missing(scene, side, _other(scene.emotion)),
        ]
        texts = [sentence(cue.shows(scene.emotion)) for cue in cues]
        if not given(prompt, "Options"):
            texts = [_described(scene, side, cue) for cue in cues]
    names = ("correct", "video_relevant", "emotion_relevant", "irrelevant")
    return {"question": question, **dict(zip(names, texts, strict=True))}


def _described(scene: Scene, side: Modality, cue: Cue) -> str:
    face, voice = (scene.face_cues[0], cue) if side == Modality.AUDIO else (cue, scene.voice_cues[0])
    return describe(face, voice, scene.emotion)


def _missing(scene: Scene, side: Modality, emotion: Emotion) -> Cue:
    """A cue that would show the emotion and is not in the clip."""
    options = [cue for cue in CATALOGUES[side][emotion] if cue not in scene.present(side)]
    return options[scene.seed % len(options)]


def _other(emotion: Emotion) -> Emotion:
    everyone = list(Emotion)
    return everyone[(everyone.index(emotion) + 1) % len(everyone)]


def spoil(kind: str, value: Any, step: str, emotion: Emotion | None) -> tuple[str, str]:
    """A reply gone wrong, with its finish reason.

    Args:
        kind: `prose`, `fenced`, `error`, `truncated`, `language`, `few_choices` or `leaked`.
        value: The right reply.
        step: The step it belongs to.
        emotion: The clip's label, for replies that leak it.
    """
    text = json.dumps(value, ensure_ascii=False)
    if kind == "prose":
        return "I would say that there is a lot of emotion in this one.", "stop"
    if kind == "fenced":
        return f"```json\n{text}\n```", "stop"
    if kind == "error":
        return "ERROR: there is too little to go by", "stop"
    if kind == "truncated":
        return text[: len(text) // 2], "length"
    if kind == "language":
        return json.dumps(_translated(value), ensure_ascii=False), "stop"
    if kind == "few_choices" and "questions" in value:
        return json.dumps(
            {"questions": [item | {"choices": item["choices"][:1]} for item in value["questions"]]}
        ), "stop"
    if kind == "leaked" and step.startswith("basic"):
        leaked = [item | {"question": f"What shows the {emotion}?"} for item in value["questions"]]
        return json.dumps({"questions": leaked}), "stop"
    return text, "stop"


def _translated(value: Any) -> Any:
    """The reply with its free texts in other languages."""
    free = {
        "detailed_caption": CHINESE,
        "emotion_caption": SPANISH,
        "question": SPANISH,
        "explanation": CHINESE,
        "correct": SPANISH,
        "description": SPANISH,
    }
    if isinstance(value, dict):
        return {name: free.get(name, _translated(item)) for name, item in value.items()}
    return [_translated(item) for item in value] if isinstance(value, list) else value
