"""Emotion recognition over a store: labels, streams, what is counted, the page."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pytest
import torch
from typer.testing import CliRunner

from avem.commands.bench.app import bench_app
from avem.errors import DataError, SettingError
from avem.evaluate.predict.feature_model import FeaturePredictor
from avem.evaluate.recognition.bench import bench_recognition
from avem.evaluate.recognition.confusion import confusion_svg
from avem.evaluate.recognition.labelled import clips_of_folder, clips_of_store
from avem.evaluate.recognition.labels import EMOTION_SETS, SEVEN, STREAM_CHOICES, parse_label, spellings
from avem.evaluate.recognition.report import recognition_sheet, write_recognition_report
from avem.evaluate.recognition.results import label_logprobs, read_recognition
from avem.evaluate.recognition.runner import RecognitionOptions, run_recognition
from avem.evaluate.recognition.scoring import label_rates, score_labels
from tests.train.model_kit import tiny_model

RAVDESS = EMOTION_SETS["ravdess"]


@pytest.fixture
def labelled_store(fake_store):
    """The fake store's five clips as RAVDESS: one calm, row 3 without audio, row 4 without anything."""
    extra = {
        "dataset": ["ravdess"] * 5,
        "split": [""] * 5,
        "emotion": ["happiness", "", "anger", "anger", "sadness"],
        "emotions_raw": ["happy", "calm", "angry", "angry", "sad"],
        "source": [f"actor-{n}" for n in range(5)],
    }
    table = fake_store.clips
    for name, values in extra.items():
        table = table.append_column(name, pa.array(values))
    fake_store.clips = table
    return fake_store


def bench(model, store, folder, streams="audiovisual"):
    predictor = FeaturePredictor(model, store, "cloze", 8, STREAM_CHOICES[streams])
    return bench_recognition(predictor, RAVDESS, clips_of_store(store, RAVDESS), streams, folder, resamples=50)


def test_clips_labels_and_what_is_left_out(labelled_store):
    found = clips_of_store(labelled_store, RAVDESS)
    assert [(clip.clip_id, clip.label) for clip in found.clips] == [
        ("demo/clips/c0", "happiness"),
        ("demo/clips/c2", "anger"),
        ("demo/clips/c3", "anger"),
        ("demo/clips/c4", "sadness"),
    ]
    assert found.left_out == {"calm": 1}
    assert len(clips_of_store(labelled_store, RAVDESS, limit=1).clips) == 3
    with pytest.raises(DataError, match=r"no clips of DFEW, only ravdess.*avem extract"):
        clips_of_store(labelled_store, EMOTION_SETS["dfew"])
    with pytest.raises(SettingError, match="split 'test'"):
        clips_of_store(labelled_store, RAVDESS, "test")


def test_streams_decide_what_is_shown(fake_model, labelled_store, tmp_path):
    model = fake_model()
    # The clip without sound is shown the same video again, so its answer is known by then.
    for streams, video, audio in (("audiovisual", 3, 2), ("video", 2, 0), ("audio", 0, 2)):
        model.calls.clear()
        bench(model, labelled_store, tmp_path, streams)
        shown = [sequence for kind, call in model.calls if kind == "generate" for sequence in call]
        assert sum(item.video is not None for item in shown) == video
        assert sum(item.audio is not None for item in shown) == audio
        assert (tmp_path / f"{streams}.json").is_file()
    again = fake_model()
    bench(again, labelled_store, tmp_path, "audio")
    assert again.calls == [], "answers are kept for each choice of streams"


def test_missing_and_unreadable_clips_are_wrong_and_listed(fake_model, labelled_store, tmp_path):
    result = bench(fake_model(), labelled_store, tmp_path, "audio")
    assert {item.clip_id: item.absent for item in result.items if item.absent} == {
        "demo/clips/c3": "the clip has no audio in the store",
        "demo/clips/c4": "the clip has no audio in the store",
    }
    assert result.scores["generation"]["unreadable"] == 4  # "(B) it is" and "no idea" name no emotion
    assert result.scores["generation"]["war"] == 0
    assert result.score["n"] == 4
    assert read_recognition(tmp_path / "audio.json") == result
    (tmp_path / "audio.json").write_text("{}")
    with pytest.raises(DataError, match="not a recognition result"):
        read_recognition(tmp_path / "audio.json")


def test_scores_by_hand():
    truth = ["happiness"] * 4 + ["sadness"] * 2
    said = ["happiness", "happiness", "sadness", None, "sadness", "sadness"]
    score = score_labels(truth, said, SEVEN, resamples=200)
    assert score["recall"]["happiness"] == 50
    assert score["uar"] == pytest.approx(75)
    assert score["war"] == pytest.approx(100 * 4 / 6)
    f1 = {"happiness": 2 * 1 * 0.5 / 1.5, "sadness": 2 * (2 / 3) / (5 / 3)}
    assert score["weighted_f1"] == pytest.approx(100 * (4 * f1["happiness"] + 2 * f1["sadness"]) / 6)
    assert score["recall"]["anger"] is None
    assert score["confusion"][0] == [2, 1, 0, 0, 0, 0, 0, 1]
    low, high = score["intervals"]["war"]
    assert low < score["war"] < high
    with pytest.raises(DataError, match="1 labels and 0 predictions"):
        score_labels(["fear"], [], SEVEN)


def test_speakers_widen_the_intervals():
    truth = ["anger", "fear"] * 60
    right = [number // 12 % 2 == 0 for number in range(120)]  # whole speakers are right or wrong
    said = [label if ok else "neutral" for label, ok in zip(truth, right, strict=True)]
    sources = [f"actor-{number // 6}" for number in range(120)]
    widths = {}
    for name, given in (("clips", ()), ("sources", sources)):
        score = score_labels(truth, said, SEVEN, sources=given, resamples=500)
        assert score["resampled"] == name
        widths[name] = np.ptp(score["intervals"]["war"])
    assert widths["sources"] > 1.5 * widths["clips"]


def test_rates_of_many_confusions_at_once():
    confusion = np.zeros((3, 2, 3), dtype=int)
    confusion[:, 0, 0], confusion[:, 1, 2] = 1, [1, 2, 3]
    assert label_rates(confusion)["war"].tolist() == pytest.approx([50, 100 / 3, 25])


@pytest.mark.parametrize(
    ("reply", "label"),
    [
        ("Happy", "happiness"),
        ("The person looks angry.", "anger"),
        ("Surprised. Later she is sad.", "surprise"),
        ("angry and sad", None),
        ("not happy", None),
        ("She isn't angry but frightened", "fear"),
        ("I know nothing", None),
        ("", None),
        ("**Disgusted**!", "disgust"),
    ],
)
def test_labels_are_read_strictly(reply, label):
    assert parse_label(reply, SEVEN) == label


def test_label_outside_the_set_is_nobodys():
    assert parse_label("surprised", EMOTION_SETS["crema-d"].classes) is None


def test_spellings_add_up():
    classes = ("happiness", "neutral")
    assert spellings(classes) == ("happiness", "happy", "neutral")
    assert label_logprobs([np.log(0.1), np.log(0.2), np.log(0.4)], classes) == pytest.approx(np.log([0.3, 0.4]))


def test_page_and_tables(fake_model, labelled_store, tmp_path):
    results = [bench(fake_model(), labelled_store, tmp_path, streams) for streams in STREAM_CHOICES]
    text = write_recognition_report(tmp_path / "page.html", results).read_text()
    assert text.count('<svg xmlns="http://www.w3.org/2000/svg"') == 6
    assert "1 calm" in text
    assert "audio: 2 clips have no answer" in text
    assert "EmotionLLaMA*" in text, "the paper's figures"
    assert (tmp_path / "confusion-model-audio-likelihood.svg").read_text().startswith("<svg")
    sheet = recognition_sheet(results)
    assert len(sheet.rows) == 6
    assert json.loads(sheet.form("json"))["rows"][0]["streams"] == "audiovisual"
    assert sheet.form("csv").startswith("model,dataset,streams,way,uar,")
    assert sheet.form("latex").startswith("\\begin{tabular}{lrrrr")
    rows, note = sheet.form("markdown").rstrip().split("\n\n")
    assert rows.count("\n") == 7
    assert "at least 10" in note


def test_picture_escapes_its_words():
    svg = confusion_svg([[1, 0, 0], [0, 0, 3]], ["a<b", "c"], 'x"y')
    assert "a&lt;b" in svg
    assert "x&quot;y" in svg
    assert ">3</text>" in svg


def test_unknown_streams():
    with pytest.raises(SettingError, match="--streams takes"):
        run_recognition(RecognitionOptions(dataset="ravdess", models=("m",), streams=("smell",)))


def test_ravdess_end_to_end(shared, tmp_path):
    """Real clips through random encoders into a store, and a tiny random model over it, by the command."""
    from avem.extract import ExtractOptions, extract
    from avem.extract.encoders.random_weights import make_random_languagebind, make_random_whisper

    root = tmp_path / "ravdess"
    shutil.copytree(shared / "data" / "ravdess", root)
    video = make_random_languagebind(tmp_path / "video", frames=2, layers=2)
    audio = make_random_whisper(tmp_path / "audio", positions=200)
    report = extract(
        root, tmp_path / "cache", ExtractOptions(video_encoder=video, audio_encoder=audio, device="cpu", workers=1)
    )
    assert (report.clips, report.failures) == (13, [])
    model = tiny_model(
        dtype=torch.float32,
        video_hidden_size=32,
        audio_hidden_size=64,
        video_projector="linear",
        audio_projector="stack-mlp",
    )
    model.save(tmp_path / "model")
    given = ("--model", tmp_path / "model", "--cache", tmp_path / "cache", "--out", tmp_path / "bench")
    shown = CliRunner().invoke(
        bench_app,
        ["ravdess", *map(str, given), "--streams", "all", "--device", "cpu", "--json"],
        catch_exceptions=False,
    )
    rows = json.loads(shown.stdout)["rows"]
    assert [(row["streams"], row["way"], row["n"]) for row in rows] == [
        (streams, way, 13) for streams in STREAM_CHOICES for way in ("likelihood", "generation")
    ]
    results = {
        streams: read_recognition(tmp_path / "bench" / "ravdess" / "model" / f"{streams}.json")
        for streams in STREAM_CHOICES
    }
    assert all(item.logprobs and item.reply is not None for result in results.values() for item in result.items)
    assert results["video"].items[0].logprobs != results["audio"].items[0].logprobs
    assert sum(map(sum, results["audio"].score["confusion"])) == 13
    assert (tmp_path / "bench" / "ravdess" / "report.html").is_file()
    assert len(clips_of_folder(root, RAVDESS).clips) == 13
