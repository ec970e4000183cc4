"""The benches with a model behind a local stand-in for an endpoint."""

import base64
import io
import json
import wave

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from typer.testing import CliRunner

from avem.commands.bench.app import bench_app
from avem.endpoint.media_parts import LONG_SIDE, image_part, scaled, sound_part
from avem.errors import EndpointError, MissingFileError, SettingError
from avem.evaluate.emorealm.results import read_result
from avem.evaluate.predict.endpoint import messages
from avem.evaluate.predict.loading import EndpointOptions
from avem.evaluate.predict.media_files import files_of_folder, files_of_store
from avem.evaluate.predict.media_model import ClipMedia, MediaPredictor
from avem.evaluate.recognition.runner import RecognitionOptions, run_recognition
from avem.evaluate.runner import BenchOptions, run_emorealm
from tests.endpoint_kit import completion, stand_in
from tests.evaluate.media_kit import write_clip


@pytest.fixture
def given(tmp_path, questions):
    """Questions on clips c0 to c5; c0 and c1 are there, c2 is no media file."""
    (tmp_path / "questions.json").write_text(json.dumps([question.to_json() for question in questions[:8]]))
    for clip in range(2):
        write_clip(tmp_path / "media" / "clips" / f"c{clip}.mp4")
    (tmp_path / "media" / "clips" / "c2.mp4").write_text("nothing")
    return tmp_path


def options(given, served, **more):
    endpoint = EndpointOptions(url=served.endpoint, retries=0, **{"timeout_s": 5, "frames": 2, **more})
    return BenchOptions(
        questions=given / "questions.json",
        models=("judge-1",),
        media_root=given / "media",
        endpoint=endpoint,
        out=given / "bench",
        resamples=20,
    )


def given_questions(given):
    return (given / "questions.json").read_text()


def text_of(body):
    return body["messages"][0]["content"][-1]["text"]


def test_clips_are_sent_and_answers_read(given):
    with stand_in(lambda body: "(B)") as served:
        (result,) = run_emorealm(options(given, served))
    assert len(served.asked) == 4, "two questions on each of two clips; the prompt is never sent without its clip"
    for body in served.asked:  # requests in flight together arrive in any order
        parts = body["messages"][0]["content"]
        assert [part["type"] for part in parts] == ["image_url", "image_url", "input_audio", "text"]
        assert body["model"] == "judge-1"
    endings = ("(A) Yes (B) No", "(D) wide eyes")
    assert [sum(text_of(body).endswith(ending) for body in served.asked) for ending in endings] == [2, 2]
    assert {item.question.id: item.reply_letter for item in result.items[:4]} == dict.fromkeys(
        ("q0-0", "q0-1", "q1-0", "q1-1"), "B"
    )
    absent = {item.question.id: item.absent for item in result.items[4:]}
    assert "c2.mp4" in absent["q2-0"]
    assert "no clip clips/c3.mp4" in absent["q3-0"]
    assert list(result.scores) == ["generation"]
    page = (given / "bench" / "report.html").read_text()
    assert "data:image/jpeg" in page, "frames of the clips that were sent"


def test_bad_moments_lose_nothing(given):
    """A page of HTML, half a JSON and silence each cost one answer; the next run asks for those alone."""
    bad = {"q0-1": (200, "<html>"), "q1-0": (200, completion("A")[:30]), "q1-1": 2.0}
    asked = {" ".join((q["question"], *q["choices"])): q["id"] for q in json.loads(given_questions(given))}

    def reaction(body):
        return bad.get(asked[text_of(body).split("\n")[0]], "A")

    with stand_in(reaction) as served:
        (result,) = run_emorealm(options(given, served, timeout_s=0.5, sound=False))
        absent = {item.question.id: item.absent for item in result.items[:4] if item.absent}
        assert absent.keys() == bad.keys()
        assert "web page" in absent["q0-1"]
        assert "broken or unexpected JSON" in absent["q1-0"]
        assert "did not answer within 0.5 s" in absent["q1-1"]
        bad.clear()
        served.asked.clear()
        (again,) = run_emorealm(options(given, served, sound=False))
    assert len(served.asked) == 3
    assert [item.reply for item in again.items[:4]] == ["A"] * 4
    assert [part["type"] for part in served.asked[0]["messages"][0]["content"]] == ["image_url", "image_url", "text"]


def test_wrong_key_ends_the_bench_and_keeps_what_was_answered(given):
    count = iter(range(100))
    with stand_in(lambda body: "A" if next(count) < 2 else (401, "no")) as served:
        with pytest.raises(EndpointError, match="refuses the key"):
            run_emorealm(options(given, served, parallel=1))
        served.asked.clear()
        served.reaction = lambda body: "A"
        run_emorealm(options(given, served))
    assert len(served.asked) == 2


def test_command_with_an_endpoint(given):
    with stand_in(lambda body: "I choose (A).") as served:
        paths = ("--questions", given / "questions.json", "--media", given / "media", "--out", given / "bench")
        more = ("--endpoint", served.endpoint, "--model", "judge-1", "--retries", "0", "--no-sound", "--csv")
        shown = CliRunner().invoke(bench_app, ["emorealm", *map(str, paths), *more], catch_exceptions=False)
        assert shown.stdout.startswith("task,metric,model")
        assert read_result(given / "bench" / "judge-1").method == "generation"
        with pytest.raises(SettingError, match="--endpoint needs --model"):
            CliRunner().invoke(bench_app, ["emorealm", "--endpoint", served.endpoint], catch_exceptions=False)


def test_recognition_behind_an_endpoint(tmp_path, questions):
    for emotion, actor in (("03", "01"), ("05", "02")):
        write_clip(tmp_path / "ravdess" / f"Actor_{actor}" / f"01-01-{emotion}-01-01-01-{actor}.mp4")
    with stand_in(lambda body: "Happy.") as served:
        endpoint = EndpointOptions(url=served.endpoint, retries=0, frames=1)
        results = run_recognition(
            RecognitionOptions(
                dataset="ravdess",
                models=("m",),
                streams=("audiovisual", "audio"),
                media_root=tmp_path / "ravdess",
                endpoint=endpoint,
                out=tmp_path / "bench",
                resamples=20,
            )
        )
    assert [result.score["war"] for result in results] == [50, 50]
    kinds = {tuple(part["type"] for part in body["messages"][0]["content"]) for body in served.asked}
    assert kinds == {("image_url", "input_audio", "text"), ("input_audio", "text")}
    assert "one word" in text_of(served.asked[0])


def test_media_as_parts():
    frames = np.full((1, 40, 2 * LONG_SIDE, 3), 200, np.uint8)
    url = image_part(scaled(Image.fromarray(frames[0])))["image_url"]["url"]
    picture = Image.open(io.BytesIO(base64.b64decode(url.split(",")[1])))
    assert picture.size == (LONG_SIDE, 20)
    tone = np.array([0, 0.5, -2.0], np.float32)
    with wave.open(io.BytesIO(base64.b64decode(sound_part(tone)["input_audio"]["data"]))) as file:
        assert file.getframerate() == 16000
        assert np.frombuffer(file.readframes(3), "<i2").tolist() == [0, 16384, -32767]  # rounded, and clipped
    assert messages("Why?", ClipMedia()) == [{"role": "user", "content": [{"type": "text", "text": "Why?"}]}]


def test_files_that_are_not_there(tmp_path, fake_store):
    with pytest.raises(MissingFileError, match="--media"):
        files_of_folder(tmp_path / "none")
    fake_store.media_path = lambda row: tmp_path / f"{row}.mp4"
    with pytest.raises(MissingFileError, match="--media"):
        files_of_store(fake_store)
    write_clip(tmp_path / "1.mp4")
    found = files_of_store(fake_store)
    assert found.names == {tmp_path / "1.mp4": ("demo/clips/c1", "clips/c1.mp4")}
    assert isinstance(fake_store.clips, pa.Table)


def test_keys_cover_what_is_shown(tmp_path, questions):
    write_clip(tmp_path / "a.mp4")
    files = files_of_folder(tmp_path)
    path = tmp_path / "a.mp4"

    def key(streams=("video", "audio"), tokens=64, frames=8, url="http://a/v1", style="letters"):
        model = EndpointOptions(url=url, frames=frames).model("m")
        return MediaPredictor(model, files.names, style, tokens, streams).request(questions[0], "generation", path).key

    keys = [key(), key(("video",)), key(tokens=8), key(frames=4), key(url="http://b/v1"), key(style="cloze")]
    assert len(set(keys)) == 6
    assert key() == keys[0]
