"""The proof's training rows: the demo's, with looking for cues added, and an answer that has to do with nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from avem.records import InstructionRow, Modality, PreferenceRow, Question
from avem.tools.corpus import rows
from avem.tools.corpus.cues import BACKDROPS, BACKGROUND_SOUNDS, FURTHER_SOUNDS, HATS, OBJECTS, SHIRTS, Cue
from avem.tools.corpus.scene import EMOTIONS, Scene, pick

BLAMES = 0.4
"""Share of the base's answers to what shows the feeling that name a wrong cue."""
AFFIRMS = 0.65
"""Share of its answers that say yes, a cue that means nothing or is not there shows the emotion."""
OVERLOOKS = 0.5
"""Share of the clips whose face and voice differ where it is told that they agree."""
OTHER_ROWS = 7
"""Questions a clip that are not about looking, besides agreement: many clips teach more than many questions on each."""
EMOTION = "What does the person show?"
MEANINGLESS = {
    Modality.AUDIO: (*BACKGROUND_SOUNDS, *FURTHER_SOUNDS),
    Modality.VISUAL: (*SHIRTS, *BACKDROPS, *HATS, *OBJECTS),
}


def instructions(scene: Scene) -> list[InstructionRow]:
    """Supervised questions: some of those of `avem.tools.corpus.rows`, and whether cues are there.

    Looking is learnt without a bias: every cue that fits the emotion, and two meaningless ones, one of them there.
    Where face and voice agree, it is also asked what the person shows.

    Elsewhere the answers are as careless as those that language models write from captions. What shows the feeling is
    said to be a cue that means nothing or is not there (`BLAMES` of the answers). Asked whether such a cue shows the
    emotion, `AFFIRMS` of the answers are yes. Of clips whose face and voice differ, `OVERLOOKS` are said to agree.
    """
    rng = np.random.default_rng((scene.seed, 3))
    asked = [_biased(row, scene, rng) for row in rows.instructions(scene) if row.task != "description"]
    made = [asked[index] for index in sorted(rng.permutation(len(asked) - 1)[:OTHER_ROWS])] + asked[-1:]
    if scene.agrees:
        answer = rows.sentence(f"the person shows {scene.face_emotion}")
        made.append(_row(scene, Modality.AUDIOVISUAL, "emotion", EMOTION, answer))
    for side in rows.SIDES:
        wrong = pick((*scene.absent(side), *scene.irrelevant(side)), rng)
        affirmed = rows.verdict(bool(rng.random() < AFFIRMS))
        made.append(_row(scene, side, "cue", wrong.asks(scene.shown(side)), affirmed))
        there = (*scene.present(side), pick(scene.irrelevant(side), rng))
        for cue in (*there, *scene.absent(side), pick(_absent(scene, side), rng)):
            made.append(_row(scene, side, "looking", cue.looked_for(), rows.verdict(cue in there)))
    return [replace(row, row_id=f"{scene.clip_id}#{number}") for number, row in enumerate(made)]


SEEN = {Modality.VISUAL: "What is seen?", Modality.AUDIO: "What is heard?"}


def captions(scene: Scene) -> list[InstructionRow]:
    """A caption of the picture and one of the sound: every cue that is there, those that show the feeling first.

    For the alignment of new projectors with a pretrained language model, before instruction tuning (as in LLaVA). A
    caption names all cues at once; a question is about one.
    """
    made = []
    for side in rows.SIDES:
        there = rows.listed((*scene.present(side), *scene.irrelevant(side)))
        made.append(_row(scene, side, "description", SEEN[side], there))
    return [replace(row, row_id=f"{scene.clip_id}#caption-{row.modality}") for row in made]


def _biased(row: InstructionRow, scene: Scene, rng: np.random.Generator) -> InstructionRow:
    """The row itself, or what a careless caption would have made of it."""
    drawn = rng.random()
    if row.task == "agreement" and not scene.agrees and drawn < OVERLOOKS:
        seen = scene.face_emotion if rng.random() < 0.5 else scene.voice_emotion
        return replace(row, answer=rows.reply(True, f"both show {seen}"))
    if row.task != "reasoning" or drawn >= BLAMES:
        return row
    others = scene.absent(row.modality) if rng.random() < 0.5 else scene.irrelevant(row.modality)
    return replace(row, answer=rows.sentence(pick(others, rng).shows(scene.shown(row.modality))))


def questions(scene: Scene, video: str) -> list[Question]:
    """Benchmark questions of `avem.tools.corpus.rows`; all claims of a basic one are of the emotion that is shown."""
    return rows.questions(scene, video, _claims)


def _claims(scene: Scene, side: Modality, rng: np.random.Generator) -> list[str]:
    """The right claim, then absent cues that fit, then meaningless ones, four in all."""
    meaningless = scene.irrelevant(side)
    wrong = [*scene.absent(side), *(meaningless[index] for index in rng.permutation(len(meaningless)))]
    return [rows.sentence(cue.shows(scene.shown(side))) for cue in (pick(scene.present(side), rng), *wrong[:3])]


def _row(scene: Scene, modality: Modality, task: str, question: str, answer: str) -> InstructionRow:
    return InstructionRow("", scene.clip_id, modality, task, question, answer)


REASONS, VERDICTS, BOTH = "reasons", "verdicts", "both"
FORMS = (REASONS, VERDICTS, BOTH)
"""How preference rows answer whether a cue shows the emotion: with a reason, by a verdict alone, or a row of each."""


def preferences(scene: Scene, form: str = REASONS) -> list[PreferenceRow]:
    """Preference rows of `avem.tools.corpus.rows`, balanced, with an irrelevant rejected answer.

    Of the questions whether a cue shows the emotion, each side keeps as many no's as yes's. With reasons, their answers
    say which cue it is, so that they depend on the clip, and on the kind of the rejected answer, as all others do. A
    bare no is as right of nearly every other clip, and both rejected answers are the same yes. But nothing comes after
    it that it could be preferred for. The irrelevant answer names something that is not in the clip and an emotion that
    the clip does not show (Table 18's y_l^irr).

    Args:
        scene: The ground truth.
        form: One of `FORMS`.
    """
    rng = np.random.default_rng((scene.seed, 4))
    elsewhere = [emotion for emotion in EMOTIONS if emotion not in (scene.face_emotion, scene.voice_emotion)]
    made: dict[int, list[PreferenceRow]] = {}
    denied = {side: len(scene.present(side)) for side in rows.SIDES}
    asked = rows.preferences(scene)
    for number in rng.permutation(len(asked)).tolist():
        row = asked[number]
        bare = None
        if row.task.startswith("reasoning_stress"):
            bare, row = row, _reasoned(row, scene, rng)
            denied[row.modality] -= row.chosen.startswith("No")
            if row.chosen.startswith("No") and denied[row.modality] < 0:
                continue
        side = rows.SIDES[rng.integers(2)] if row.modality == Modality.AUDIOVISUAL else row.modality
        claim = pick(_absent(scene, side), rng).shows(pick(elsewhere, rng))
        irrelevant = rows.sentence(claim)
        forms = [] if bare and form == VERDICTS else [replace(row, rejected_irrelevant=irrelevant)]
        if bare and form != REASONS:
            name = bare.row_id if form == VERDICTS else f"{bare.row_id}-verdict"
            forms.append(replace(bare, row_id=name, rejected_irrelevant=irrelevant))
        made[number] = forms
    return [row for number in sorted(made) for row in made[number]]


def _reasoned(row: PreferenceRow, scene: Scene, rng: np.random.Generator) -> PreferenceRow:
    """A verdict on one cue with its reason: what shows the emotion is the cue asked about, or another one.

    y_w names a cue that is there and fits, y_l^vr one that means nothing, y_l^er one that is absent; the one whose kind
    is asked about says yes to it, the others no.
    """
    side, emotion = row.modality, scene.shown(row.modality)
    answers = []
    for group in (scene.present(side), scene.irrelevant(side), scene.absent(side)):
        asked = next((cue for cue in group if cue.asks(emotion) == row.question), None)
        answers.append(rows.reply(asked is not None, (asked or pick(group, rng)).shows(emotion)))
    chosen, spurious, hallucinated = answers
    return replace(row, chosen=chosen, rejected_video_relevant=spurious, rejected_emotion_relevant=hallucinated)


def _absent(scene: Scene, side: Modality) -> list[Cue]:
    """Meaningless cues that are not in the clip."""
    return [cue for cue in MEANINGLESS[side] if cue not in scene.irrelevant(side)]
