"""The controlled corpus: real files, a truth that the questions follow, and no answer that the text gives away."""

from __future__ import annotations

import hashlib
import json
import sys
from collections import Counter
from pathlib import Path

import av
import numpy as np
import pytest

from avem.cache import FeatureStore
from avem.errors import DataError, SettingError
from avem.extract import ExtractOptions
from avem.records import Modality
from avem.tools.corpus import rows
from avem.tools.corpus.build import build_corpus, clip_path
from avem.tools.corpus.drawing import draw_frames
from avem.tools.corpus.features import extract_corpus
from avem.tools.corpus.scene import draw_scenes
from avem.tools.corpus.voice import RATE_HZ, synthesise
from avem.tools.demo.models import make_encoders

CLIPS, SEED = 12, 5


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return build_corpus(tmp_path_factory.mktemp("demo") / "corpus", CLIPS, SEED)


def decoded(path: Path) -> tuple[np.ndarray, np.ndarray]:
    with av.open(str(path)) as container:
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    with av.open(str(path)) as container:
        sound = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    return frames, sound


def test_clips_are_h264_and_aac_and_show_what_was_drawn(corpus):
    for scene in draw_scenes(CLIPS, SEED)[:3]:
        path = corpus.root / clip_path(scene)
        with av.open(str(path)) as container:
            assert container.streams.video[0].codec_context.name == "h264"
            assert container.streams.audio[0].codec_context.name == "aac"
        frames, sound = decoded(path)
        drawn = draw_frames(scene, len(frames))
        assert np.abs(frames.astype(int) - drawn).mean() < 6
        spoken = synthesise(scene, 2.5)
        spectrum = [np.abs(np.fft.rfft(signal[: len(spoken)], 1 << 16))[:8000] for signal in (sound, spoken)]
        assert np.corrcoef(spectrum)[0, 1] > 0.9


def test_same_seed_gives_the_same_decoded_frames(corpus, tmp_path):
    again = build_corpus(tmp_path / "again", CLIPS, SEED)
    for scene in draw_scenes(CLIPS, SEED):
        digests = {
            hashlib.sha256(decoded(root / clip_path(scene))[0].tobytes()).hexdigest()
            for root in (corpus.root, again.root)
        }
        assert len(digests) == 1


def test_a_second_run_goes_on_with_missing_clips_and_refuses_other_settings(corpus):
    lost = corpus.root / clip_path(draw_scenes(CLIPS, SEED)[4])
    kept = corpus.root / clip_path(draw_scenes(CLIPS, SEED)[5])
    before = kept.stat().st_mtime_ns
    lost.unlink()
    build_corpus(corpus.root, CLIPS, SEED)
    assert lost.is_file()
    assert kept.stat().st_mtime_ns == before
    with pytest.raises(SettingError, match="other settings"):
        build_corpus(corpus.root, CLIPS, SEED + 1)


def test_foreign_folder_and_tiny_corpus_are_refused(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(SettingError, match="not a corpus"):
        build_corpus(tmp_path, CLIPS, SEED)
    with pytest.raises(SettingError, match="--clips"):
        build_corpus(tmp_path / "new", 3, SEED)
    assert not (tmp_path / "new").exists()


def test_every_cue_changes_the_picture_or_the_sound():
    plain = {scene.clip_id: scene for scene in draw_scenes(200, 1)}
    faces, voices = {}, {}
    for scene in plain.values():
        faces.setdefault(scene.face_cues, scene)
        voices.setdefault(scene.voice_cues, scene)
    assert len(faces) == len(voices) == 7 * 6
    for scene in faces.values():
        bare = draw_frames(_with(scene, face_cues=()), 4)
        assert np.abs(draw_frames(scene, 4).astype(int) - bare).max() > 60
    for scene in voices.values():
        if scene.voice_cues:
            bare = synthesise(_with(scene, voice_cues=()), 2.5)
            assert np.abs(synthesise(scene, 2.5) - bare).max() > 0.01
    assert len(synthesise(scene, 2.5)) == round(2.5 * RATE_HZ)


def _with(scene, **changes):
    from dataclasses import replace

    return replace(scene, **changes)


def test_preference_rows_follow_the_truth():
    for scene in draw_scenes(60, 2):
        for row in rows.preferences(scene):
            if row.task == "modality_agreement":
                assert row.chosen.startswith("Yes") == scene.agrees
                assert row.rejected_video_relevant.startswith("Yes") != scene.agrees
                continue
            there = scene.present(row.modality)
            if "stress" in row.task:
                true = row.question in [cue.asks(scene.shown(row.modality)) for cue in there]
                assert (row.chosen, row.rejected_emotion_relevant) == (("Yes.", "No.") if true else ("No.", "Yes."))
                continue
            assert any(cue.phrase in row.chosen for cue in there)
            assert any(cue.phrase in row.rejected_video_relevant for cue in scene.irrelevant(row.modality))
            assert any(cue.phrase in row.rejected_emotion_relevant for cue in scene.absent(row.modality))


def test_supervised_questions_on_cues_are_right_and_never_about_a_fitting_cue_that_is_absent():
    answers = Counter()
    for scene in draw_scenes(210, 3):
        for row in (row for row in rows.instructions(scene) if row.task == "cue"):
            shown = scene.shown(row.modality)
            assert row.question not in {cue.asks(shown) for cue in scene.absent(row.modality)}
            there = row.question in {cue.asks(shown) for cue in scene.present(row.modality)}
            assert row.answer == ("Yes." if there else "No.")
            answers[row.question, row.answer] += 1
    questions = {question for question, _ in answers}
    assert all(answers[question, "Yes."] and answers[question, "No."] for question in questions)  # text does not tell


def test_benchmark_has_all_tasks_balanced_and_test_clips_only(corpus):
    questions = json.loads(corpus.benchmark.read_text())
    train = {json.loads(line)["clip_id"] for line in corpus.preferences.read_text().splitlines()}
    train |= {json.loads(line)["clip_id"] for line in corpus.instructions.read_text().splitlines()}
    assert all(question["video"].startswith("clips/test/") for question in questions)
    assert not train & {question["id"].split("#")[0] for question in questions}
    scenes = [scene for scene in draw_scenes(400, 0) if scene.split == "test"]
    made = rows.balance([q for scene in scenes for q in rows.questions(scene, clip_path(scene))], 0)
    assert {question.task for question in made} == {
        "reasoning_basic_audio",
        "reasoning_basic_video",
        "modality_agreement",
        "reasoning_stress_audio",
        "reasoning_stress_video",
    }
    for task in ("modality_agreement", "reasoning_stress_audio", "reasoning_stress_video"):
        texts = Counter(
            next(choice[4:] for choice in q.choices if choice[1] == q.answer) for q in made if q.task == task
        )
        assert texts["Yes"] == texts["No"]
    subtasks = Counter(q.extra["subtask"] for q in made if "stress" in q.task)
    assert subtasks["hallucinated"] == subtasks["spurious"] == subtasks["no_hallucination"] / 2


def test_a_cue_is_there_as_often_as_not_whatever_the_emotion():
    counts = Counter()
    for scene in draw_scenes(2800, 4):
        for side in (Modality.AUDIO, Modality.VISUAL):
            counts.update((side, scene.shown(side), cue.name, True) for cue in scene.present(side))
            counts.update((side, scene.shown(side), cue.name, False) for cue in scene.absent(side))
    for side, emotion, name, _ in list(counts):
        there, absent = counts[side, emotion, name, True], counts[side, emotion, name, False]
        assert abs(there - absent) < 4 * (there + absent) ** 0.5


def test_a_corpus_whose_clips_fail_is_refused_and_tried_again(corpus, tmp_path, monkeypatch):
    video, audio = make_encoders(tmp_path / "encoders")
    options = ExtractOptions(video_encoder=video, audio_encoder=audio)
    with monkeypatch.context() as broken:
        broken.setattr(sys, "executable", "/bin/false")  # no decoder starts
        with pytest.raises(
            DataError, match=f"{CLIPS} of the {CLIPS} clips in .*corpus failed, .* because .*run the same command"
        ):
            extract_corpus(corpus, tmp_path / "cache", options)
    extract_corpus(corpus, tmp_path / "cache", options)
    clips = FeatureStore.open(tmp_path / "cache").clips
    assert {status for name in ("video_status", "audio_status") for status in clips[name].to_pylist()} == {"ok"}
