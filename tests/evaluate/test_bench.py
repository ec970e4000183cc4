"""The bench: what is asked, what is kept, what is counted."""

import json
import os
import signal

import pyarrow as pa
import pytest

from avem.errors import DataError, FingerprintError, SettingError
from avem.evaluate.bench import bench_emorealm, select_questions
from avem.evaluate.emorealm.results import read_result
from avem.evaluate.predict.clips import resolve_clips
from avem.records import Question


def run(model, store, questions, folder, **options):
    return bench_emorealm(model, store, questions, out_dir=folder, resamples=50, **options)


def test_every_question_is_counted(fake_model, fake_store, questions, tmp_path):
    result = run(fake_model(), fake_store, questions, tmp_path)
    assert [item.question.id for item in result.items] == [question.id for question in questions]
    absent = {item.question.id: item.absent for item in result.items if item.absent}
    assert absent.keys() == {"q4-0", "q4-1", "q5-0", "q5-1"}
    assert "no clip clips/c5.mp4" in absent["q5-0"]
    assert "neither video nor audio" in absent["q4-0"]
    assert result.scores["likelihood"]["missing"] == ["q4-0", "q4-1", "q5-0", "q5-1"]
    assert result.scores["likelihood"]["n"] == 12
    assert result.scores["text_only"]["missing"] == []
    assert result.scores["generation"]["tasks"]["reasoning_basic_video"]["missing"] == 2
    assert "intervals" in result.scores["likelihood"]
    assert "`avem extract media --cache memory://store --retry-failed` extracts these 2 clips" in result.remedy


def test_letters_style_shows_the_options(fake_model, fake_store, questions, tmp_path):
    model = fake_model()
    run(model, fake_store, questions[:2], tmp_path)
    first = model.calls[0][1]
    assert [item.answer for item in first] == ["A", "B", "A", "B", "C", "D"]
    assert first[0].question == "Question ? (A) Yes (B) No"
    assert all(item.video is first[0].video for item in first), "questions on one clip share its features"
    assert first[0].audio.shape == (6, 4)


def test_cloze_style_weighs_the_texts(fake_model, fake_store, questions, tmp_path):
    model = fake_model()
    run(model, fake_store, questions[:2], tmp_path, style="cloze")
    first = model.calls[0][1]
    assert [item.answer for item in first] == ["Yes", "No", "a smile", "a frown", "tears", "wide eyes"]
    assert first[0].question == "Question ?"


def test_clip_without_audio_is_asked_without(fake_model, fake_store, questions, tmp_path):
    model = fake_model()
    run(model, fake_store, [question for question in questions if question.id == "q3-0"], tmp_path)
    assert model.calls[0][1][0].audio is None
    assert model.calls[0][1][0].video is not None


def test_calls_hold_several_clips_and_text_only_has_no_media(fake_model, fake_store, questions, tmp_path):
    model = fake_model()
    run(model, fake_store, questions, tmp_path)
    kinds = [kind for kind, _ in model.calls]
    assert kinds == ["logprobs", "generate", "logprobs"]
    assert len(model.calls[0][1]) == 4 * 6
    assert {item.video for item in model.calls[2][1]} == {None}


def test_generation_is_read_strictly(fake_model, fake_store, questions, tmp_path):
    result = run(fake_model(), fake_store, questions, tmp_path)
    by_id = {item.question.id: item for item in result.items}
    assert (by_id["q0-0"].reply, by_id["q0-0"].reply_letter) == ("no idea", None)
    assert by_id["q1-0"].reply_letter == "B"
    assert "q0-0" in result.scores["generation"]["unreadable"]
    assert result.disagreement()["reasoning_basic_video"]["n"] == 4


def test_result_file_reads_back(fake_model, fake_store, questions, tmp_path):
    result = run(fake_model(), fake_store, questions, tmp_path, name="base")
    again = read_result(tmp_path)
    assert again == result
    entry = json.loads((tmp_path / "result.json").read_text())["items"][0]
    assert sum(entry["probabilities"]) == pytest.approx(1)
    assert entry["letter"] in "AB"


def test_finished_bench_asks_nothing(fake_model, fake_store, questions, tmp_path):
    first = run(fake_model(), fake_store, questions, tmp_path)
    again = fake_model()
    assert run(again, fake_store, questions, tmp_path) == first
    assert again.calls == []


def test_changed_model_prompt_or_features_are_asked_again(fake_model, fake_store, questions, tmp_path):
    run(fake_model(), fake_store, questions, tmp_path)
    other = fake_model(name="other")
    run(other, fake_store, questions, tmp_path)
    assert len(other.calls) == 3
    changed = [Question(q.id, q.video, q.task, q.question + "!", q.choices, q.answer) for q in questions]
    same = fake_model()
    run(same, fake_store, changed, tmp_path)
    assert len(same.calls) == 3
    fake_store.fingerprint = lambda kind: {"encoder": "newer"}
    same = fake_model()
    run(same, fake_store, questions, tmp_path)
    assert [kind for kind, _ in same.calls] == ["logprobs", "generate"], "without media nothing changed"


def test_killed_bench_goes_on(fake_model, fake_store, questions, tmp_path):
    whole = run(fake_model(), fake_store, questions, tmp_path / "whole")
    if (child := os.fork()) == 0:
        doomed = fake_model(die_at=2, on_death=lambda: os.kill(os.getpid(), signal.SIGKILL))
        run(doomed, fake_store, questions, tmp_path)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert not (tmp_path / "result.json").exists()
    with (tmp_path / "answers.jsonl").open("a") as file:
        file.write('{"key": "torn by the ki')
    again = fake_model()
    assert run(again, fake_store, questions, tmp_path) == whole
    assert [kind for kind, _ in again.calls] == ["generate", "logprobs"]


def test_damaged_log_is_named(fake_model, fake_store, questions, tmp_path, caplog):
    (tmp_path / "answers.jsonl").write_text('{"key": "a", "id": "q0"}\n[]\n')
    run(fake_model(), fake_store, questions, tmp_path)
    assert "answers.jsonl: line 2" in caplog.text
    (tmp_path / "answers.jsonl").write_text('{"id": "q0"}\n')
    with pytest.raises(DataError, match=r"answers.jsonl line 1 is not a kept answer"):
        run(fake_model(), fake_store, questions, tmp_path)


def test_features_of_another_encoder(fake_model, fake_store, questions, tmp_path):
    with pytest.raises(FingerprintError, match="trained on others"):
        run(fake_model(features="others"), fake_store, questions, tmp_path)


def test_tasks_and_limit(questions):
    assert len(select_questions(questions, [], 2)) == 4
    chosen = select_questions(questions, ["reasoning_basic_video"], 3)
    assert [question.id for question in chosen] == ["q0-1", "q1-1", "q2-1"]
    with pytest.raises(SettingError, match="nothing"):
        select_questions(questions, ["nothing"], None)
    with pytest.raises(SettingError, match="at least 1"):
        select_questions(questions, [], 0)


def test_unknown_style(fake_model, fake_store, questions):
    with pytest.raises(SettingError, match="letters or cloze"):
        bench_emorealm(fake_model(), fake_store, questions, style="essay")


def test_clips_resolve_by_id_path_and_unique_end():
    clips = pa.table(
        {
            "clip_id": ["dfew/1", "b", "x/2", "y/2", "same"],
            "path": ["Clip/original/part_1/1.mp4", "b.mp4", "x/2.mp4", "y/2.mp4", "z/same.mp4"],
        }
    )
    asked = {"part_1/1.mp4": 0, "dfew/1": 0, "./b.mp4": 1, "y/2.mp4": 3, "same": 4}
    questions = [Question(video, video, "t", "?", (), "A") for video in [*asked, "2.mp4", "art_1/1.mp4"]]
    places = resolve_clips(clips, questions)
    assert places.rows == asked
    assert "fits 2 clips of the store (x/2, y/2)" in places.absent["2.mp4"]
    assert "no clip art_1/1.mp4" in places.absent["art_1/1.mp4"]
