"""Every export comes back without loss, fits what the other program documents, and its own files are read."""

import json
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from avem.cli import app
from avem.errors import DataError, SettingError
from avem.files import json_lines
from avem.records import Emotion, Modality, PreferenceRow
from avem.tools.prefs.exchange.base import ClipFiles
from avem.tools.prefs.exchange.registry import FORMATS, WRITTEN, export_rows, import_rows, rejected_clips
from avem.train.data.rows import read_preferences

ROWS = [
    PreferenceRow("r1", "dfew/a", Modality.AUDIO, "reasoning", "Why?\nSay so.", "A cry.", "A smile.", "A sob.",
                  "It rains.", Emotion.SADNESS, {"sha256": {"a": 1}, "model": "m"}),
    PreferenceRow("r2", "dfew/b", Modality.VISUAL, "", "What? “x”", "A frown.", "A hat.", "Tears."),
    PreferenceRow("r3", "dfew/c", Modality.AUDIOVISUAL, "", "And?", "Both.", "One.", "One."),
]  # fmt: skip
FILES = ClipFiles("/media/{clip}.mp4", "/media/{clip}.wav", {"r1": "dfew/x", "r2": "dfew/y"})
ENTRIES = {"trl": 6, "llama-factory": 6, "ms-swift": 8, "verl-omni": 6}
"""r1 has three rejected answers, r2 two, r3 one; ms-swift has two rejected inputs as well."""


def exported(folder, form):
    source, out = folder / "rows.jsonl", folder / f"out.{'parquet' if form == 'verl-omni' else 'jsonl'}"
    source.write_text(json_lines(row.to_json() for row in ROWS))
    assert out in export_rows(source, out, form, FILES)
    return out


def entries_of(path):
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("form", WRITTEN)
def test_every_export_comes_back(tmp_path, form):
    out = exported(tmp_path, form)
    assert len(entries_of(out)) == ENTRIES[form]
    assert FORMATS[form].read(out) == ROWS
    assert import_rows(out, tmp_path / "back.jsonl", form) == 3
    assert read_preferences(tmp_path / "back.jsonl") == ROWS


@pytest.mark.parametrize("form", WRITTEN)
def test_without_our_column_pairs_come_back(tmp_path, form):
    """As another program would write the file: no trace of the row."""
    out = exported(tmp_path, form)
    entries = [{k: v for k, v in entry.items() if k not in ("avem", "rejected_kind")} for entry in entries_of(out)]
    entries = [entry for entry in entries if "rejected_messages" not in entry]
    if form == "verl-omni":
        pq.write_table(pa.Table.from_pylist(entries), out)
    else:
        out.write_text(json_lines(entries))
    rows = FORMATS[form].read(out)
    assert [(row.question, row.chosen, row.rejected_video_relevant) for row in rows] == [
        (row.question, row.chosen, answer)
        for row, answers in zip(
            ROWS, (("A smile.", "A sob.", "It rains."), ("A hat.", "Tears."), ("One.",)), strict=True
        )
        for answer in answers
    ]
    assert rows[0].clip_id == "media/dfew/a"
    assert rows[0].rejected_emotion_relevant == rows[0].rejected_video_relevant
    assert rows[0].modality == (Modality.AUDIO if form == "verl-omni" else Modality.AUDIOVISUAL)


def test_trl_is_conversational(tmp_path):
    first = entries_of(exported(tmp_path, "trl"))[0]
    assert first["prompt"] == [{"role": "user", "content": "Why?\nSay so."}]
    assert first["chosen"] == [{"role": "assistant", "content": "A cry."}]
    assert first["rejected"] == [{"role": "assistant", "content": "A smile."}]


def test_llama_factory_finds_the_file(tmp_path):
    out = exported(tmp_path, "llama-factory")
    first = entries_of(out)[0]
    described = json.loads((tmp_path / "dataset_info.json").read_text())["out"]
    assert described["ranking"] is True
    assert described["formatting"] == "sharegpt"
    assert set(described["columns"].values()) <= first.keys()
    assert len(first["conversations"]) % 2 == 1  # a ranking entry ends with the question
    assert first["conversations"][0]["value"].count("<video>") == len(first["videos"])
    assert first["conversations"][0]["value"].count("<audio>") == len(first["audios"])
    assert first["chosen"]["from"] == first["rejected"]["from"] == "gpt"


def test_ms_swift_rejects_the_media_that_the_question_is_about(tmp_path):
    entries = entries_of(exported(tmp_path, "ms-swift"))
    answers = [entry for entry in entries if "rejected_response" in entry]
    assert all(entry["rejected_response"] != entry["messages"][-1]["content"] for entry in answers)
    audio, visual = (entry for entry in entries if "rejected_messages" in entry)
    assert audio["rejected_messages"] == audio["messages"]
    assert (audio["rejected_videos"], audio["rejected_audios"]) == (["/media/dfew/a.mp4"], ["/media/dfew/x.wav"])
    assert (visual["rejected_videos"], visual["rejected_audios"]) == (["/media/dfew/y.mp4"], ["/media/dfew/b.wav"])


def test_verl_omni_has_as_many_marks_as_media(tmp_path):
    entries = entries_of(exported(tmp_path, "verl-omni"))
    for entry in entries:
        text = entry["prompt"][0]["content"]
        assert text.count("<video>") == len(entry["videos"])
        assert text.count("<audio>") == len(entry["audios"])
        assert entry["extra_info"]["modality"] in ("audio", "video")
    assert entries[0]["audios"] == ["/media/dfew/a.wav"]
    assert entries[0]["prompt"][0]["content"] == "<audio>Why?\nSay so."
    assert entries[0]["reward_model"] == {"style": "preference"}


def omni(better="B", field="videos", media="/data/academic_source/Charades/2D98B.mp4"):
    candidates = "Candidate A: A dog\nruns.\nCandidate B: A cat."
    context = f"Rate them.\n### Context\nVideo file: {media}\nQuestion: What is shown?\n{candidates}"
    solution = json.dumps({"score_A": 6, "score_B": 8, "better": better, "reasoning": "..."})
    return {field: [media], "messages": [{"role": "user", "content": context}], "solution": solution}


def test_omni_preference(tmp_path):
    path = tmp_path / "final_rl_data.jsonl"
    sound = omni("A", "audios", "/data/audio/Lake.wav")
    path.write_text(json_lines([omni(), omni("equal"), {**omni(), "images": ["x.jpg"]}, sound]))
    first, second = FORMATS["omni-preference"].read(path)
    assert (first.question, first.chosen, first.rejected_video_relevant) == ("What is shown?", "A cat.", "A dog\nruns.")
    assert (first.clip_id, first.modality) == ("academic_source/Charades/2D98B", Modality.VISUAL)
    assert first.provenance == {"source": "omni-preference", "better": "B", "score_A": 6, "score_B": 8}
    assert (second.chosen, second.modality, second.clip_id) == ("A dog\nruns.", Modality.AUDIO, "audio/Lake")
    path.write_text(json_lines([{**omni(), "messages": [{"role": "user", "content": "no context"}]}]))
    with pytest.raises(DataError, match="has no ### Context with Question"):
        FORMATS["omni-preference"].read(path)


def test_emoprefer(tmp_path):
    path = tmp_path / "track3_emoprefer.csv"
    path.write_text("name,a1,a2,preference\ns1,calm,sad,a2\ns2,glad,angry,same\n")
    [row] = FORMATS["emoprefer"].read(path)
    assert (row.row_id, row.clip_id, row.chosen, row.rejected_video_relevant) == (
        "track3_emoprefer-0",
        "mer2026/s1",
        "sad",
        "calm",
    )
    path.write_text("name,a1,a2,preference\ns1,calm,sad,\n")
    with pytest.raises(DataError, match="has no preferences"):
        FORMATS["emoprefer"].read(path)


def test_the_first_mined_negative_is_the_rejected_clip():
    negatives = {"audio": np.array([[2, 1], [-1, -1], [0, 1]]), "visual": np.array([[-1], [0], [1]])}
    store = SimpleNamespace(
        clips={"clip_id": pa.array(["dfew/a", "dfew/b", "dfew/c"])},
        negatives=lambda recipe, modality: negatives[modality],
        location=SimpleNamespace(url="store"),
    )
    assert rejected_clips(ROWS[:2], store, "hard") == {"r1": "dfew/c", "r2": "dfew/a"}
    with pytest.raises(DataError, match="None of the rows"):
        rejected_clips([PreferenceRow("r", "other", Modality.AUDIO, "", "?", "a", "b", "c")], store, "hard")


def test_faults_are_named_and_nothing_is_overwritten(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"prompt": [{"content": "?"}], "chosen": [{"content": "a"}]}\n')
    with pytest.raises(DataError, match="entry 1 is no preference of this format"):
        FORMATS["trl"].read(path)
    out = exported(tmp_path, "trl")
    with pytest.raises(SettingError, match="--to reference is not known"):
        export_rows(tmp_path / "rows.jsonl", out, "reference", FILES)
    before = out.read_text()
    run = CliRunner().invoke(app, ["prefs", "export", str(tmp_path / "rows.jsonl"), str(out), "--to", "ms-swift"])
    assert isinstance(run.exception, SettingError)
    assert out.read_text() == before
    run = CliRunner().invoke(app, ["prefs", "import", str(out), str(tmp_path / "in.jsonl"), "--from", "trl"])
    assert run.exit_code == 0, run.output
    assert read_preferences(tmp_path / "in.jsonl") == ROWS
