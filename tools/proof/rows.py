"""The proof's training rows: the demo's, with looking for cues added, and an answer that has to do with nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from avem.records import InstructionRow, Modality, PreferenceRow
from avem.tools.corpus import rows
from avem.tools.corpus.cues import BACKDROPS, BACKGROUND_SOUNDS, FURTHER_SOUNDS, HATS, OBJECTS, SHIRTS, Cue
from avem.tools.corpus.scene import EMOTIONS, Scene, pick

ROWS_A_CLIP = 12
EMOTION = "What does the person show?"
MEANINGLESS = {
    Modality.AUDIO: (*BACKGROUND_SOUNDS, *FURTHER_SOUNDS),
    Modality.VISUAL: (*SHIRTS, *BACKDROPS, *HATS, *OBJECTS),
}


def instructions(scene: Scene) -> list[InstructionRow]:
    """Supervised questions: those of `avem.tools.corpus.rows`, and whether a cue is there.

    Looking is learnt without a bias: a fitting cue and a meaningless one that are there, and one of each that are not.
    What a cue shows is still asked of cues that are there or belong to another emotion alone. Where face and voice
    agree, it is also asked what the person shows. Of all these, `ROWS_A_CLIP` are drawn: many clips teach more than
    many questions on each.
    """
    rng = np.random.default_rng((scene.seed, 3))
    made = rows.instructions(scene)
    for side in rows.SIDES:
        there = (pick(scene.present(side), rng), pick(scene.irrelevant(side), rng))
        missing = (pick(scene.absent(side), rng), pick(_absent(scene, side), rng))
        for cue in (*there, *missing):
            number = f"{scene.clip_id}#{len(made)}"
            answer = rows.verdict(cue in there)
            made.append(InstructionRow(number, scene.clip_id, side, "looking", cue.looked_for(), answer))
    if scene.agrees:
        answer = rows.sentence(f"the person shows {scene.face_emotion}")
        number = f"{scene.clip_id}#{len(made)}"
        made.append(InstructionRow(number, scene.clip_id, Modality.AUDIOVISUAL, "emotion", EMOTION, answer))
    kept = rng.permutation(len(made))[:ROWS_A_CLIP]
    return [made[index] for index in sorted(kept)]


def preferences(scene: Scene) -> list[PreferenceRow]:
    """Preference rows of `avem.tools.corpus.rows`, each with an irrelevant rejected answer.

    It names something that is not in the clip and an emotion that the clip does not show (Table 18's y_l^irr).
    """
    rng = np.random.default_rng((scene.seed, 4))
    elsewhere = [emotion for emotion in EMOTIONS if emotion not in (scene.face_emotion, scene.voice_emotion)]
    made = []
    for row in rows.preferences(scene):
        side = rows.SIDES[rng.integers(2)] if row.modality == Modality.AUDIOVISUAL else row.modality
        claim = pick(_absent(scene, side), rng).shows(pick(elsewhere, rng))
        made.append(replace(row, rejected_irrelevant=rows.sentence(claim)))
    return made


def _absent(scene: Scene, side: Modality) -> list[Cue]:
    """Meaningless cues that are not in the clip."""
    return [cue for cue in MEANINGLESS[side] if cue not in scene.irrelevant(side)]
