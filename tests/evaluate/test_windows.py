"""Questions on a clip that the store holds as windows: asked on each, pooled as worked out by hand."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from avem.evaluate import bench_emorealm
from avem.evaluate.contrast import ContrastOptions, bench_contrast
from avem.evaluate.emorealm.results import read_result
from avem.evaluate.predict.clips import WindowRows, resolve_clips
from avem.evaluate.predict.feature_model import FeaturePredictor
from avem.evaluate.predict.media_files import files_of_store
from avem.evaluate.predict.pooling import pool, pool_answers, pool_logprobs, pooling_note
from avem.evaluate.predict.predictor import Answer
from avem.evaluate.probes.runner import _on_windows
from avem.evaluate.probes.swap import swap_probe
from avem.evaluate.recognition.bench import bench_recognition
from avem.evaluate.recognition.labelled import clips_of_store, with_files
from avem.evaluate.recognition.labels import EMOTION_SETS
from avem.evaluate.recognition.report import write_recognition_report
from avem.evaluate.recognition.results import read_recognition
from avem.evaluate.report.bench import write_report
from avem.records import Question

RAVDESS = EMOTION_SETS["ravdess"]
CHOICES = ("(A) joy", "(B) grief", "(C) rage")


@pytest.fixture
def store(fake_store):
    """The fake store's rows 0 and 1 as one short clip each, and 2 to 4 as windows of the clip `demo/talk`.

    Row 3 has no audio and row 4, the window from 60 s on, has nothing.
    """
    fake_store.clips = pa.table(
        {
            "clip_id": ["demo/a", "demo/b", "demo/talk@30-60", "demo/talk@0-30", "demo/talk@60-75"],
            "path": ["clips/a.mp4", "clips/b.mp4", *["clips/talk.mp4"] * 3],
            "sha256": ["1" * 64, "2" * 64, *["3" * 64] * 3],
            "start_s": pa.array([None, None, 30.0, 0.0, 60.0], pa.float64()),
            "end_s": pa.array([None, None, 60.0, 30.0, 75.0], pa.float64()),
            "dataset": ["ravdess"] * 5,
            "split": [""] * 5,
            "emotion": ["happiness", "sadness", *["anger"] * 3],
            "emotions_raw": ["happy", "sad", *["angry"] * 3],
            "source": ["", "", *["demo/talk"] * 3],
        }
    )
    return fake_store


@pytest.fixture
def scripted(fake_model):
    """A model that says of each row, by its features' first number, what a table says."""

    def make(logprobs, replies):
        model = fake_model()

        def row_of(item):
            return -1 if item.video is None else int(item.video.float().sum())

        model._like = lambda item: logprobs[row_of(item)][item.answer]
        model.generate = lambda prompts, max_new_tokens: [replies[row_of(item)] for item in prompts]
        return model

    return make


QUESTION = Question("q", "clips/talk.mp4", "reasoning_basic_video", "What is shown?", CHOICES, "B")


def test_pooling_by_hand():
    assert pool_logprobs([[-1.0, -4.0], [-2.0, -1.0], [-3.0, -1.0]]) == [-2.0, -2.0]
    assert pool_answers(["C", None, "B", "B", None]) == "B"
    assert pool_answers(["C", "B", "B", "C"]) == "C"
    assert pool_answers([None, None]) is None
    read = {"it is b": "B", "c": "C", "b!": "B"}.get
    windows = [Answer(reply="?"), Answer(reply="c"), Answer(reply="b!"), Answer(failed="gone"), Answer(reply="it is b")]
    found = pool(windows, read)
    assert (found.reply, found.answer, found.failed, found.logprobs) == ("b!", "B", "", None)
    assert pool([Answer(failed="gone"), Answer(failed="gone")], read).failed == "gone"
    assert pool([Answer(reply="?")], read).reply == "?"
    assert pool([Answer(logprobs=(-1, -2))], read).logprobs == (-1, -2)


def test_a_question_is_pooled_over_the_windows_with_media(store, scripted, tmp_path):
    weights = {
        2: {"A": -1.0, "B": -2.0, "C": -9.0},  # 30 to 60 s: the likeliest is A
        3: {"A": -6.0, "B": -2.5, "C": -3.0},  # 0 to 30 s: B
        -1: {"A": -5.0, "B": -5.0, "C": -1.0},
    }
    model = scripted(weights, {2: "(A)", 3: "(C) rage"})
    result = bench_emorealm(model, store, [QUESTION], out_dir=tmp_path, resamples=0)
    [item] = result.items
    assert item.logprobs == (-3.5, -2.25, -6.0)
    assert item.letter("likelihood") == "B"
    assert (item.reply_letter, item.reply) == ("C", "(C) rage")  # a tie; the window from 0 s on comes first
    assert item.text_logprobs == (-5.0, -5.0, -1.0)
    assert (item.clip_id, item.clip_path) == ("demo/talk", "clips/talk.mp4")
    assert item.windows == ("demo/talk@0-30", "demo/talk@30-60")
    assert result.pooling["questions"] == 1
    assert pooling_note(result.pooling) == (
        "1 question is answered over the windows of a clip: log-probabilities by their mean over windows, written "
        "answers by the majority of the windows whose answer can be read, ties to the earliest window."
    )
    read = read_result(tmp_path)
    assert (read.items[0].windows, read.pooling) == (item.windows, result.pooling)
    page = write_report(tmp_path / "report.html", [result], paper=False, pictures=0, resamples=10).read_text()
    assert pooling_note(result.pooling) in page
    calls = len(model.calls)
    assert bench_emorealm(model, store, [QUESTION], out_dir=tmp_path, resamples=0).items == result.items
    assert len(model.calls) == calls


def test_windows_of_one_file_are_never_each_others_answers(store, fake_model):
    predictor = FeaturePredictor(fake_model(), store, "letters", 8)
    keys = {predictor.request(QUESTION, "likelihood", row).key for row in (2, 3)}
    assert len(keys) == 2


def test_results_without_windows_say_nothing_of_pooling(fake_store, fake_model, questions, tmp_path):
    result = bench_emorealm(fake_model(), fake_store, questions, out_dir=tmp_path, resamples=0)
    assert result.pooling == {}
    assert {item.windows for item in result.items} == {()}


@pytest.mark.parametrize(
    ("video", "row", "windows"),
    [
        ("clips/talk.mp4", None, (3, 2, 4)),
        ("demo/talk", None, (3, 2, 4)),
        ("talk", None, (3, 2, 4)),
        ("demo/talk@60-75", 4, None),
        ("talk@30-60", 2, None),
        ("clips/a.mp4", 0, None),
    ],
)
def test_clips_and_windows_are_found_by_their_names(store, video, row, windows):
    found = resolve_clips(store.clips, [Question("q", video, "t", "?", (), "A")])
    assert found.rows == ({} if row is None else {"q": row})
    assert found.windows == ({} if windows is None else {"q": WindowRows(windows)})
    assert found.all_rows == {*(windows or [row])}


def test_windows_count_where_the_clip_is_whole_too(store):
    both = store.clips.to_pylist()
    both[1] |= {"clip_id": "demo/talk", "path": "clips/talk.mp4"}
    found = resolve_clips(pa.Table.from_pylist(both, store.clips.schema), [QUESTION])
    assert (found.rows, found.windows) == ({}, {"q": WindowRows((3, 2, 4))})


def test_recognition_counts_a_clip_once_and_pools_its_labels(store, scripted, tmp_path):
    labelled = clips_of_store(store, RAVDESS)
    assert [(clip.clip_id, clip.label, clip.source) for clip in labelled.clips] == [
        ("demo/a", "happiness", ""),
        ("demo/b", "sadness", ""),
        ("demo/talk", "anger", ""),
    ]
    assert labelled.clips[2].position == WindowRows((3, 2, 4))
    assert len(clips_of_store(store, RAVDESS, limit=1).clips) == 3

    class Words(dict):
        def __missing__(self, word):
            return -20.0

    weights = {row: Words() for row in range(5)}
    weights[2] |= {"anger": -1.0, "sadness": -2.0}
    weights[3] |= {"anger": -6.0, "sadness": -3.0}
    model = scripted(weights, {0: "happy", 1: "joy and anger", 2: "furious anger", 3: "nothing"})
    predictor = FeaturePredictor(model, store, "cloze", 8)
    result = bench_recognition(predictor, RAVDESS, labelled, "audiovisual", tmp_path, resamples=0)
    item = result.items[2]
    by_label = dict(zip(result.classes, item.logprobs, strict=True))
    # log(e^a + e^b) over a label's spellings in each window, then the mean over windows
    assert by_label["anger"] == pytest.approx(np.mean([np.logaddexp(-1, -20), np.logaddexp(-6, -20)]), abs=1e-9)
    assert by_label["sadness"] == pytest.approx(np.mean([np.logaddexp(-2, -20), np.logaddexp(-3, -20)]), abs=1e-9)
    assert (item.reply_label, item.reply) == ("anger", "furious anger")
    assert item.windows == ("demo/talk@0-30", "demo/talk@30-60")
    assert result.pooling["clips"] == 1
    assert read_recognition(tmp_path / "audiovisual.json").items[2] == item
    page = write_recognition_report(tmp_path / "report.html", [result]).read_text()
    assert "1 clip is answered over the windows" in page


def test_contrastive_decoding_pools_as_well(store, fake_model, tmp_path):
    result = bench_contrast(
        fake_model(), store, [QUESTION], "letters", tmp_path, ContrastOptions(alpha=0.5), resamples=0
    )
    [item] = result.items
    assert item.windows == ("demo/talk@0-30", "demo/talk@30-60")
    assert len(item.logprobs) == 3


def test_models_on_media_files_see_the_whole_clip(store, tmp_path):
    (tmp_path / "clips").mkdir()
    for name in ("a", "b", "talk"):
        (tmp_path / "clips" / f"{name}.mp4").touch()
    store.media_path = lambda row: tmp_path / store.clips["path"][row].as_py()
    files = files_of_store(store)
    assert files.names[tmp_path / "clips" / "talk.mp4"] == ("demo/talk", "clips/talk.mp4")
    assert files.resolve([QUESTION]).positions == {"q": tmp_path / "clips" / "talk.mp4"}
    assert with_files(clips_of_store(store, RAVDESS), store).clips[2].position == tmp_path / "clips" / "talk.mp4"


def test_probes_measure_each_window_and_swap_in_no_other_one(store, fake_model):
    store._has = {"video": np.ones(5, bool), "audio": np.ones(5, bool)}
    questions, rows = _on_windows([QUESTION], resolve_clips(store.clips, [QUESTION]))
    assert [(question.id, rows[question.id]) for question in questions] == [("q#1", 3), ("q#2", 2), ("q#3", 4)]
    kept = {}
    log = SimpleNamespace(get=kept.get, append=kept.update)
    for seed in range(8):
        result = swap_probe(
            FeaturePredictor(fake_model(), store, "letters", 1), questions, rows, log, resamples=0, seed=seed
        )
        assert {item.adversary for item in result.items} <= {"demo/a", "demo/b"}
        assert {item.clip for item in result.items} == {"clips/talk.mp4"}
