"""Statistics of a benchmark, languages of its clips, captions by frames, and near-duplicates."""

import json

import numpy as np
import pytest

from avem.endpoint.chat import ChatSettings
from avem.errors import CheckpointError, DataError, FingerprintError, MissingFileError, SettingError
from avem.evaluate.emorealm import read_questions
from avem.records import Emotion, Question
from avem.tools.prefs.checks.near import frame_hash, near_pairs
from avem.tools.prefs.frames_study import MEASURES, FramesOptions, frames_study
from avem.tools.prefs.languages import find_languages, load_listener
from avem.tools.prefs.stats import benchmark_stats, write_stats
from tests.cache.helpers import make_store
from tests.endpoint_kit import stand_in
from tests.evaluate.media_kit import write_clip
from tests.table_kit import read_csv

YES_NO = ("(A) Yes", "(B) No")


def test_table_1_by_hand(tmp_path):
    four = ("(A) a", "(B) b", "(C) c", "(D) d")
    asked = [
        Question("1", "a.mp4", "reasoning_basic_audio", "Q", four, "C", {"emotion": "anger"}),
        Question("2", "a.mp4", "reasoning_stress_audio", "Q", YES_NO, "A", {"emotion": "anger"}),
        Question("3", "b.mp4", "reasoning_stress_audio", "Q", YES_NO, "B", {"emotion": "fear", "subtask": "spurious"}),
        Question("4", "c.mp4", "reasoning_stress_audio", "Q", YES_NO, "B"),
    ]
    source = [Emotion.ANGER, Emotion.ANGER, Emotion.ANGER, Emotion.FEAR]
    found = benchmark_stats(asked, source, {"c.mp4": Emotion.FEAR})
    assert found.tasks["all"] == {"questions": 4, "clips": 3, "chance": (25 + 3 * 50) / 4, "yes": 1, "no": 2}
    assert found.tasks["reasoning_stress_audio"]["clips"] == 3
    assert found.subtasks == {"reasoning_stress_audio": {"no_hallucination": 1, "spurious": 1, "unknown": 1}}
    assert found.emotions == {"anger": 1, "fear": 2}
    assert found.distance == pytest.approx(abs(1 / 3 - 3 / 4))
    assert "1 stress questions" in found.sheet().note
    paths = write_stats(found, {"en": 2, "zh": 1}, tmp_path)
    assert {path.name for path in paths} == {
        "stats.json",
        "stats.md",
        "tasks.svg",
        "emotions.svg",
        "subtasks.svg",
        "languages.svg",
    }
    assert json.loads((tmp_path / "stats.json").read_text())["languages"] == {"en": 2, "zh": 1}


def test_the_corpus_is_balanced_as_it_is_built(corpus):
    found = benchmark_stats(read_questions(corpus.benchmark))
    for task, numbers in found.tasks.items():
        if "stress" in task:
            assert abs(numbers["yes"] - numbers["no"]) <= 1
    assert found.sheet().note == ""


def test_languages_resume_and_name_what_can_not_be_heard(tmp_path):
    write_clip(tmp_path / "clips" / "a.mp4")
    heard = []

    def listen(samples):
        heard.append(len(samples))
        return "zh", 0.9, 'Say "no", now.'

    out = tmp_path / "languages.csv"
    found = find_languages(["a.mp4", "a.mp4", "gone.mp4"], tmp_path / "clips", listen, out)
    assert (dict(found.counts), found.failed) == ({"zh": 1}, 1)
    rows = read_csv(out.read_text())
    assert rows[0] == {
        "video": "a.mp4",
        "language": "zh",
        "probability": "0.900",
        "subtitle": 'Say "no", now.',
        "problem": "",
    }
    assert "gone.mp4" in rows[1]["problem"]
    write_clip(tmp_path / "clips" / "gone.mp4")
    assert find_languages(["a.mp4", "gone.mp4"], tmp_path / "clips", listen, out).failed == 0
    assert len(heard) == 2, "what is known is not heard again"
    (tmp_path / "mine.csv").write_text("video,note\na.mp4,dear\n")
    with pytest.raises(SettingError, match="not a file of languages"):
        find_languages(["a.mp4"], tmp_path / "clips", listen, tmp_path / "mine.csv")
    assert "dear" in (tmp_path / "mine.csv").read_text()


def test_a_tiny_whisper_tells_a_language_and_translates(tmp_path):
    import torch
    from whisper.model import ModelDimensions, Whisper

    torch.manual_seed(0)
    dims = ModelDimensions(80, 1500, 16, 2, 1, 51865, 448, 16, 2, 1)
    model = Whisper(dims)
    torch.nn.init.normal_(model.decoder.positional_embedding)  # Whisper leaves it uninitialized.
    torch.save({"dims": dims.__dict__, "model_state_dict": model.state_dict()}, tmp_path / "tiny.pt")
    samples = np.sin(np.arange(16000) / 20).astype(np.float32)
    language, probability, text = load_listener(str(tmp_path / "tiny.pt"))(samples)
    assert len(language) in (2, 3)
    assert 0 < probability < 1
    assert text == ""
    with pytest.raises(MissingFileError, match="--whisper"):
        load_listener(str(tmp_path / "none.pt"))
    (tmp_path / "bad.pt").write_bytes(b"no")
    with pytest.raises(CheckpointError, match="can't be loaded as a Whisper model"):
        load_listener(str(tmp_path / "bad.pt"))


def test_frames_are_counted_and_captions_compared(tmp_path):
    write_clip(tmp_path / "clips" / "a.mp4")
    write_clip(tmp_path / "clips" / "b.mp4")
    (tmp_path / "EMER.csv").write_text("name,reason\na,He smiles.\nb,She cries.\nc,gone\n")

    def reaction(body):
        count = sum(part["type"] == "image_url" for part in body["messages"][0]["content"])
        return json.dumps({"detailed_caption": "x" * count, "emotion_caption": "y"})

    def scorer(captions, references):
        assert references == ["He smiles.", "She cries."]
        values = [len(caption) / 10 for caption in captions]
        return dict.fromkeys(MEASURES, values)

    with stand_in(reaction) as served:
        model = ChatSettings(endpoint=served.endpoint, model="m", retries=0, pause_s=0.01)
        made = {"references": tmp_path / "EMER.csv", "media": tmp_path / "clips", "model": model, "counts": (1, 4)}
        options = FramesOptions(**made, out=tmp_path / "out", resamples=50)
        sheet = frames_study(options, scorer)
        frames_study(options, scorer)
    assert len(served.asked) == 4, "captions are kept"
    assert [record["sbert"] for record in sheet.records] == pytest.approx([0.1, 0.4])
    assert [record["clips"] for record in sheet.records] == [2, 2]
    assert "8: 0.689, 0.860" in sheet.note
    with pytest.raises(SettingError, match="--counts"):
        FramesOptions(**{**made, "counts": (0,)})
    (tmp_path / "EMER.csv").write_text("name,reason\nz,He smiles.\n")
    with pytest.raises(DataError, match="No clip of"):
        frames_study(options, scorer)


def test_copies_are_found_among_others(tmp_path):
    train, benchmark = make_store(tmp_path / "train", clips=6), make_store(tmp_path / "bench", clips=4)
    pairs = near_pairs(train, benchmark, 0.99)
    assert sorted((pair.train, pair.benchmark) for pair in pairs) == [
        (f"toy/{n:03d}", f"toy/{n:03d}") for n in range(4)
    ]
    assert all(pair.same and pair.bits is None and pair.similarity > 0.999 for pair in pairs)
    benchmark.fingerprint = lambda kind: {"other": kind}
    with pytest.raises(FingerprintError, match="share no stream"):
        near_pairs(train, benchmark)


def test_the_hash_survives_what_an_encoder_does_and_nothing_else():
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (9, 12, 3), dtype=np.uint8)
    frame = np.kron(coarse, np.ones((40, 40, 1), dtype=np.uint8))
    noisy = np.clip(frame.astype(int) + rng.integers(-6, 7, frame.shape), 0, 255).astype(np.uint8)[::2, ::2]
    other = np.kron(rng.integers(0, 255, (9, 12, 3), dtype=np.uint8), np.ones((40, 40, 1), dtype=np.uint8))
    assert bin(frame_hash(frame) ^ frame_hash(noisy)).count("1") <= 4
    assert bin(frame_hash(frame) ^ frame_hash(other)).count("1") > 16
