"""What is measured besides the answers: swapped modalities, attention, and emotions from one modality alone.

Everything becomes sums over clips, so that it is resampled like the answers are (`counts.resampled`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from avem.cache import FeatureStore
from avem.errors import DataError
from avem.evaluate.bootstrap import Floats
from avem.evaluate.emorealm.questions import polarities
from avem.evaluate.predict.clips import resolve_clips
from avem.evaluate.predict.feature_model import FeaturePredictor
from avem.evaluate.predict.loading import open_model
from avem.evaluate.predict.log import AnswerLog
from avem.evaluate.predict.predictions import predict_all
from avem.evaluate.predict.predictor import STREAMS
from avem.evaluate.probes.attention import attention_probe
from avem.evaluate.probes.swap import ASKED, swap_probe
from avem.files import json_sha256, write_atomic
from avem.records import Emotion, Question
from avem.tools.corpus.rows import sentence
from avem.tools.project.proof.ground.rows import EMOTION
from avem.tools.sweep.run import source_stamp

STYLE = "cloze"
PROBES = {
    "shift_audio": "mean shift in nats, audio questions with another picture",
    "shift_video": "mean shift in nats, visual questions with another sound",
    "attention_audio": "attention on audio of that on media, %, audio questions",
    "attention_video": "attention on video of that on media, %, visual questions",
    "attention_media": "attention on media of all, %",
    "attention_even": "attention on the less attended medium, % of an even share, agreement questions",
    "emotion_both": "emotions told from picture and sound, %",
    "emotion_video": "emotions told from the picture alone, %",
    "emotion_audio": "emotions told from the sound alone, %",
}
"""Every measure and what it is. A shift is the absolute change of the right answer's log-likelihood."""


def probe(model_path: str, cache: Path, questions: Sequence[Question], folder: Path) -> Path:
    """Probe a model; what is there of the same model, store and questions stays.

    Args:
        model_path: The model.
        cache: The feature store.
        questions: Benchmark questions that swap and attention are measured on.
        folder: Where answers and `probes.npz` go.

    Returns:
        The file: `clips`; for each of `PROBES` float64 [clips, 2], how many and their sum; `digest`, of what was
        probed.
    """
    file = folder / "probes.npz"
    store = FeatureStore.open(cache)
    digest = json_sha256([source_stamp(model_path, store), [question.to_json() for question in questions]])
    if file.is_file() and _digest(file) == digest:
        return file
    model = open_model(model_path, "cpu").eval()
    rows = resolve_clips(store.clips, questions).rows
    clips = sorted({question.video for question in questions})
    sums = {name: np.zeros((len(clips), 2)) for name in PROBES}
    index = {clip: number for number, clip in enumerate(clips)}
    predictor = FeaturePredictor(model, store, STYLE, 1)
    with AnswerLog(folder / "swap.jsonl") as log:
        for swapped in swap_probe(predictor, questions, rows, log, resamples=0).items:
            sums[f"shift_{swapped.asked}"][index[swapped.clip]] += (1, abs(swapped.shift))
    for seen in attention_probe(predictor, questions, rows, resamples=0).items:
        media = seen.video + seen.audio
        sums["attention_media"][index[seen.clip]] += (1, 100 * media)
        if asked := ASKED.get(seen.task):
            own = seen.audio if asked == "audio" else seen.video
            sums[f"attention_{asked}"][index[seen.clip]] += (1, 100 * own / media)
        else:
            sums["attention_even"][index[seen.clip]] += (1, evenness(seen.video, seen.audio))
    for streams, shown in {"both": STREAMS, "video": ("video",), "audio": ("audio",)}.items():
        for question, right in _emotions(
            FeaturePredictor(model, store, STYLE, 1, shown), questions, rows, folder / streams
        ):
            sums[f"emotion_{streams}"][index[question.video]] += (1, 100 * right)
    write_atomic(file, _npz(clips, digest, sums))
    return file


def _digest(file: Path) -> str:
    with np.load(file) as content:
        return str(content["digest"]) if "digest" in content else ""


def evenness(first: float, second: float) -> float:
    """The smaller of two shares in percent of half of both: 100 where they are the same, 0 where one is all."""
    return 200 * min(first, second) / (first + second)


def _emotions(
    predictor: FeaturePredictor, questions: Sequence[Question], rows: Mapping[str, int], folder: Path
) -> list[tuple[Question, bool]]:
    """What the person shows, asked where face and voice agree, and whether the likeliest answer is right."""
    letters = dict(zip(Emotion, "ABCDEFG", strict=True))
    options = tuple(f"({letter}) {sentence(f'the person shows {one}')}" for one, letter in letters.items())
    asked, positions = [], {}
    for question in questions:
        if question.task == "modality_agreement" and polarities(question)[question.answer.upper()] == "yes":
            letter = letters[Emotion(question.extra["emotion"])]
            own = Question(f"{question.id}#emotion", question.video, "emotion", EMOTION, options, letter)
            asked.append(own)
            positions[own.id] = rows[question.id]
    with AnswerLog(folder / "answers.jsonl") as log:
        answers = predict_all(predictor, asked, positions, ("likelihood",), log, "emotions")
    found = []
    for question in asked:
        [answer] = answers[question.id]["likelihood"]
        found.append((question, "ABCDEFG"[int(np.argmax(answer.logprobs or ()))] == question.answer))
    return found


def _npz(clips: Sequence[str], digest: str, sums: Mapping[str, Floats]) -> bytes:
    sink = BytesIO()
    arrays: dict[str, Any] = {"clips": np.array(clips), "digest": np.array(digest), **sums}
    np.savez_compressed(sink, **arrays)
    return sink.getvalue()


def read_probes(files: Mapping[str, Sequence[Path]]) -> dict[str, Floats]:
    """Probes of several runs.

    Args:
        files: Run to the file of each seed.

    Returns:
        Run to float64 [seeds, clips, 2, len(PROBES)]: how many, and their sum.

    Raises:
        DataError: Two files are about other clips.
    """
    found, clips = {}, None
    for run, own in files.items():
        stacked = []
        for file in own:
            with np.load(file) as content:
                if clips is not None and clips.tolist() != content["clips"].tolist():
                    raise DataError(f"{file} is about other clips than the first; delete it and run again.")
                clips = content["clips"]
                stacked.append(np.stack([content[name] for name in PROBES], axis=-1))
        found[run] = np.stack(stacked)
    return found


def probe_measures(sums: Floats) -> dict[str, Floats]:
    """Means from sums over clips: float64 [..., 2, len(PROBES)] to `PROBES`, each float64 [...]."""
    with np.errstate(divide="ignore", invalid="ignore"):
        means = sums[..., 1, :] / sums[..., 0, :]
    return dict(zip(PROBES, np.moveaxis(means, -1, 0), strict=True))
