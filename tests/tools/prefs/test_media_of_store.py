"""Commands that need clips take them from where the store was made from; `--media` is for clips that were moved."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from avem.cli import app
from avem.endpoint.chat import ChatSettings
from avem.errors import MissingFileError, PartialFailure
from avem.evaluate.predict.media_files import find_files
from avem.files import write_json_lines
from avem.records import InstructionRow, Modality, Question
from avem.tools.prefs.cue_labels import CueOptions, label_cues
from avem.tools.prefs.frames_study import MEASURES, FramesOptions, frames_study
from avem.tools.prefs.languages import find_languages
from tests.cache.helpers import make_store
from tests.endpoint_kit import stand_in
from tests.extract.conftest import write_clip

CHOICES = ["(A) Yes, rain.", "(B) No, no rain."]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a store of four clips, of which the last one's file is gone, and questions about three."""
    make_store(tmp_path / "cache", clips=4)
    for number in range(3):
        write_clip(tmp_path / "clips" / f"{number:03d}.mp4", frames=4, seed=number)
    questions = [
        {
            "id": f"q{number}",
            "video": f"{number:03d}.mp4",
            "task": "reasoning_stress_audio",
            "question": "Does rain show joy?",
            "choices": CHOICES,
            "answer": "B",
        }
        for number in (0, 1, 3)
    ]
    (tmp_path / "q.json").write_text(json.dumps(questions))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(app, [*map(str, arguments)])


def page_data(out):
    page = (out / "index.html").read_text()
    return json.loads(page.partition('type="application/json">')[2].partition("</script>")[0])


@pytest.mark.parametrize("given", [(), ("--cache", "elsewhere")])
def test_a_survey_copies_the_clips_of_the_store(folder, given):
    if given:
        shutil.move("cache", "elsewhere")
    done = run("prefs", "survey", "q.json", *given)
    assert isinstance(done.exception, PartialFailure), done.output
    copied = sorted(path.name for path in (folder / "survey" / "media").rglob("*.mp4"))
    assert copied == ["000.mp4", "001.mp4"]
    shown = {item["video"] for item in page_data(folder / "survey")["items"].values() if item["video"]}
    assert shown == {"media/000.mp4", "media/001.mp4", "003.mp4"}
    gone = folder / "clips" / "003.mp4"
    assert str(done.exception) == (
        f"The survey has no copy of 1 of 3 clips, such as 003.mp4 (its media file {gone} does not exist); name the "
        "folder of all clips with --media, and run the same command again."
    )


def write_rows():
    """Instruction rows and descriptions about the clips of the questions."""
    rows = [InstructionRow(str(n), f"{n:03d}", Modality.VISUAL, "description", "What?", "A face.") for n in (0, 1, 3)]
    write_json_lines(Path("rows.jsonl"), [row.to_json() for row in rows])
    for name in ("one", "two"):
        Path(f"{name}.json").write_text(json.dumps({f"{n:03d}": f"{name} on {n}" for n in (0, 1, 3)}))


SURVEYS = {
    "rows": ("prefs", "survey", "q.json"),
    "instructions": ("instruct", "survey", "rows.jsonl"),
    "study": ("study", "make", "one.json", "two.json"),
}


@pytest.mark.parametrize("command", SURVEYS.values(), ids=SURVEYS)
def test_missing_clips_are_said_alike_by_all_surveys(folder, command):
    write_rows()
    partly = [run(*command, *given, "--out", "s").exception for given in ((), ("--media", "clips"))]
    for said in partly:
        assert isinstance(said, PartialFailure), said
        assert str(said).startswith("The survey has no copy of 1 of 3 clips, such as 003.mp4 (")
    assert sorted(path.name for path in Path("s/media").rglob("*.mp4")) == ["000.mp4", "001.mp4"]
    Path("elsewhere").mkdir()
    shutil.move("clips", "moved")
    refused = run(*command, "--media", "elsewhere", "--out", "none").exception
    assert isinstance(refused, MissingFileError), refused
    assert str(refused).startswith(
        "None of the survey's clips is there, such as 000.mp4 (there is no 000.mp4 in elsewhere/"
    )
    assert not Path("none").exists()
    gone = run(*command, "--out", "without")
    assert gone.exit_code == 0, gone.output
    assert "beside it: None of the media files that cache was made from exists; name their folder" in gone.output
    assert not Path("without/media").exists()
    shutil.rmtree("cache")
    done = run(*command, "--out", "bare")
    assert done.exit_code == 0, done.output
    assert "The survey has no clips, and expects them beside it; --media FOLDER or --cache STORE copies" in done.output
    assert not Path("bare/media").exists()


def test_a_survey_does_not_take_a_store_that_is_not_there(folder):
    done = run("prefs", "survey", "q.json", "--cache", "none", "--out", "other")
    assert isinstance(done.exception, MissingFileError)
    assert "There is no feature store at none" in str(done.exception)


def test_a_study_copies_clips_by_id_with_the_suffix_that_they_have(folder):
    shutil.move("clips/000.mp4", "clips/000.mkv")
    make_store(folder / "mkv", clips=1)
    for name in ("one", "two"):
        (folder / f"{name}.json").write_text(json.dumps([{"id": "toy/001", "text": f"{name}'s description"}]))
    done = run("study", "make", "one.json", "two.json")
    assert done.exit_code == 0, done.output
    assert (folder / "study" / "media" / "toy" / "001.mp4").is_file()


def test_languages_are_heard_in_the_clips_of_the_store(folder):
    found = find_languages(
        ["000.mp4", "003.mp4"], None, lambda samples: ("en", 1.0, ""), folder / "l.csv", folder / "cache"
    )
    assert (dict(found.counts), found.failed) == ({"en": 1}, 1)
    assert "003.mp4 does not exist; name the clips' folder with --media" in (folder / "l.csv").read_text()


def test_subtasks_are_labelled_on_the_clips_of_the_store(folder):
    with stand_in(lambda body: json.dumps({"cue": "rain", "present": False, "reason": "none"})) as server:
        settings = ChatSettings(endpoint=server.endpoint, model="judge", retries=0, pause_s=0.0, parallel=1)
        labels = label_cues(
            CueOptions(questions=folder / "q.json", model=settings, cache=folder / "cache", out=folder / "out")
        )
    assert sum(labels.counts["reasoning_stress_audio"].values()) == 2
    assert "003.mp4 does not exist; name the clips' folder with --media" in labels.failed["q3"]


def test_frames_are_studied_on_the_clips_of_the_store(folder):
    (folder / "emer.csv").write_text("name,reason\n000,a smile\n001,a frown\n")
    reply = json.dumps({"detailed_caption": "A face.", "emotion_caption": "Joy."})
    with stand_in(lambda body: reply) as server:
        options = FramesOptions(
            references=folder / "emer.csv",
            media=None,
            cache=folder / "cache",
            model=ChatSettings(endpoint=server.endpoint, model="m", retries=0, pause_s=0.0, parallel=1),
            counts=(1, 2),
            out=folder / "o",
            resamples=20,
        )
        sheet = frames_study(options, lambda captions, references: dict.fromkeys(MEASURES, [1.0] * len(captions)))
    assert [record["clips"] for record in sheet.records] == [2, 2]
    assert (folder / "o" / "frames.md").is_file()


@pytest.mark.parametrize(
    "command",
    [
        ("emorealm", "languages", "--questions", "q.json", "--whisper", "w.pt"),
        ("emorealm", "frames-study", "--references", "emer.csv", "--model", "m"),
    ],
)
def test_neither_folder_nor_store_is_said_at_once(folder, command):
    shutil.rmtree("cache")
    for name in ("w.pt", "emer.csv"):
        (folder / name).touch()
    said = str(run(*command).exception)
    assert (
        said == "There are no clips; name their folder with --media, or the store that was made from them with --cache."
    )


def test_a_clip_of_the_store_whose_file_is_gone_is_not_said_to_be_unknown(folder):
    files = find_files(None, folder / "cache")
    asked = [Question(video, video, "", "", (), "") for video in ("002.mp4", "003.mp4", "009.mp4")]
    found = files.resolve(asked)
    assert list(found.positions) == ["002.mp4"]
    assert "003.mp4 does not exist; name the clips' folder with --media" in found.absent["003.mp4"]
    assert "no clip 009.mp4 in" in found.absent["009.mp4"]
