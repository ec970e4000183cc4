"""What models are shown: WAV and eight frames of the clip itself, nothing of the label; silent and broken clips."""

from __future__ import annotations

import base64
import io
import shutil
import wave

import numpy as np
import pytest
from PIL import Image

from avem.errors import DataError, MissingFileError, SettingError
from avem.extract.decode.media import read_waveform, sample_frames
from avem.tools.corpus.build import clip_path
from avem.tools.prefs.asking.estimate import estimate
from avem.tools.prefs.media import MediaOptions, blurred_band, show_frame
from avem.tools.prefs.steps.pipeline import code_of
from avem.tools.project.standin.server import StandIn, text_of
from tests.tools.prefs.conftest import CLIPS, json_lines


def test_models_hear_and_see_the_clip(run, scenes, corpus):
    with StandIn(scenes) as standin:
        run(standin, limit=2, tasks=("modality_agreement",))
    by_code = {code_of(scene.clip_id): scene for scene in scenes}
    heard = seen = 0
    for body in standin.bodies:
        content = body["messages"][0]["content"]
        if isinstance(content, str):
            continue
        scene = next(scene for code, scene in by_code.items() if code in content[0]["text"])
        path = corpus.root / clip_path(scene)
        if content[1]["type"] == "input_audio":
            heard += 1
            assert content[1]["input_audio"]["format"] == "wav"
            with wave.open(io.BytesIO(base64.b64decode(content[1]["input_audio"]["data"]))) as file:
                assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 16000)
                samples = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32767
            assert np.abs(samples - read_waveform(path)).max() < 1e-4
        else:
            seen += 1
            frames = [base64.b64decode(part["image_url"]["url"].partition(",")[2]) for part in content[1:]]
            pixels = np.stack([np.asarray(Image.open(io.BytesIO(frame))) for frame in frames]).astype(int)
            assert len(frames) == 8
            assert np.abs(pixels - sample_frames(path, 8)).mean() < 6
    assert (heard, seen) == (2, 2)


def test_prompts_of_the_blind_steps_hold_neither_label_nor_clip_id(run, scenes):
    with StandIn(scenes) as standin:
        run(standin, limit=4)
    labels = {code_of(scene.clip_id): scene for scene in scenes}
    for body in standin.bodies:
        text = text_of(body)
        assert "demo/" not in text
        if "caption" in text.partition("\n")[0] or "Describe what is" in text.partition("\n")[0]:
            scene = next(scene for code, scene in labels.items() if code in text)
            assert str(scene.emotion) not in text.lower()


def test_burnt_in_captions_are_blurred_and_the_rest_is_kept():
    stripes = np.zeros((100, 80, 3), np.uint8)
    stripes[:, ::4] = 255
    options = MediaOptions(blur_captions=0.25)
    band = blurred_band(stripes[None], options)
    shown = np.asarray(show_frame(Image.fromarray(stripes), options, band)).astype(int)
    assert (shown[:75] == stripes[:75]).all()
    assert shown[77:].std() < 20 < stripes[77:].std()
    large = show_frame(Image.new("RGB", (1920, 1080)), MediaOptions())
    assert large.size == (512, 288)


@pytest.fixture
def odd_folder(corpus, scenes, shared, tmp_path):
    """Three good clips, one without sound, one broken, one without a label, one with a label outside the seven."""
    root = tmp_path / "odd"
    root.mkdir()
    lines = ["path,emotion,clip_id"]
    for number in range(3):
        shutil.copy(corpus.root / clip_path(scenes[number]), root / f"{number}.mp4")
        lines.append(f"{number}.mp4,{scenes[number].emotion},{scenes[number].clip_id}")
    shutil.copy(shared / "data" / "odd" / "no_audio_stream.mp4", root / "silent.mp4")
    (root / "broken.mp4").write_bytes(b"no video at all")
    for number, (name, label) in enumerate((("silent", ""), ("broken", "anger"), ("0", ""), ("1", "boredom")), start=3):
        emotion = label if name != "silent" else str(scenes[number].emotion)
        lines.append(f"{name}.mp4,{emotion},{scenes[number].clip_id}")
    (root / "clips.csv").write_text("\n".join(lines) + "\n")
    return root


def test_silent_broken_and_unlabelled_clips_are_each_accounted_for(run, scenes, odd_folder):
    with StandIn(scenes) as standin:
        result = run(standin, root=odd_folder)
    entries = {(entry["clip_id"], entry["step"]): entry for entry in json_lines(result.out / "rejected.jsonl")}
    silent, broken, unlabelled, bored = (scenes[number].clip_id for number in range(3, 7))
    assert entries[silent, "audio_caption"]["reason"] == "the clip has no sound"
    assert "not a readable media file" in entries[broken, "video_caption"]["reason"]
    assert entries[broken, "emotion"]["level"] == "clip"
    assert entries[unlabelled, "read"]["reason"] == "it has no label"
    assert "boredom" in entries[bored, "read"]["reason"]
    rows = json_lines(result.out / "preferences.jsonl")
    of_silent = [row for row in rows if row["clip_id"] == silent]
    assert {row["modality"] for row in of_silent} <= {"visual"}
    left_out = {name for (name, _), entry in entries.items() if entry["level"] == "clip"}
    assert {row["clip_id"] for row in rows} | left_out == {scene.clip_id for scene in scenes[:7]}


def test_a_dry_run_sends_and_writes_nothing_and_counts_what_a_run_then_sends(run, options, scenes):
    with StandIn(scenes) as standin:
        choice = options(standin)
        before = estimate(choice, price_in=2.0, price_out=8.0)
        assert not standin.bodies
        assert not choice.out.exists()
        rows = {row.step: row for row in before.rows}
        assert rows["audio_caption"].requests == round(CLIPS * 1.05)
        row = rows["audio_caption"]
        assert row.cost == pytest.approx((2 * row.prompt_tokens + 8 * row.reply_tokens) / 1e6)
        assert before.cost == pytest.approx(sum(row.cost for row in before.rows))
        run(standin)
        sent = sum(standin.billed.values())
        after = estimate(choice, price_in=2.0, price_out=8.0)
    assert 0.5 < before.requests / sent < 2
    assert sum(row.answered for row in after.rows) == sent
    assert after.requests < 0.5 * before.requests


def test_prompts_of_a_folder_replace_ours(run, scenes, tmp_path):
    folder = tmp_path / "prompts"
    folder.mkdir()
    title = "Ask whether sound and picture agree on an emotion."
    ours = f"{title}\nAsk briefly. $code $emotion\nHeard: $audio_caption\nSeen: $video_caption\nCosts $$5."
    (folder / "agreement.txt").write_text(ours)
    with StandIn(scenes) as standin:
        run(standin, limit=3, tasks=("modality_agreement",), prompts=folder)
    asked = [text_of(body) for body in standin.bodies if text_of(body).startswith(title)]
    assert asked
    assert all("Ask briefly." in text and text.endswith("Costs $5.") for text in asked)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("agreement.txt", "$code $emotion $audio_caption", r"has no \$video_caption"),
        ("agreement.txt", "$code $emotion $audio_caption $video_caption $label", r"asks for \$label"),
        ("text_guess.txt", "$question $choices costs 5$", "begins no placeholder"),
        ("agree.txt", "$code", "not the prompt of a step"),
    ],
)
def test_unfit_prompts_are_refused_before_anything_is_sent(run, scenes, tmp_path, name, text, said):
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / name).write_text(text)
    with StandIn(scenes) as standin, pytest.raises(DataError, match=said):
        run(standin, prompts=tmp_path / "prompts")
    assert not standin.bodies


def test_wrong_options_are_refused(options, scenes, tmp_path, run):
    with StandIn(scenes) as standin:
        for changes, said in (
            ({"tasks": ("singing",)}, "--tasks singing"),
            ({"response_format": "xml"}, "--response-format"),
            ({"media": MediaOptions(blur_captions=1.5)}, "--blur-captions"),
            ({"limit": 0}, "--limit"),
        ):
            with pytest.raises(SettingError, match=said):
                options(standin, **changes)
        with pytest.raises(MissingFileError, match="prompts"):
            run(standin, prompts=tmp_path / "nowhere")
        with pytest.raises(DataError, match="split"):
            run(standin, split="validation")
