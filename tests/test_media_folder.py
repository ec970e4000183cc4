"""`--media` takes the clips' folder, whatever it is called now, or the one around it; in all commands alike."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from avem.cache import FeatureStore
from avem.errors import MissingFileError
from avem.evaluate.emorealm.results import Item, score_items
from avem.evaluate.predict.media_files import files_of_folder
from avem.evaluate.report.cards import make_cards
from avem.evaluate.report.media import find_media
from avem.extract.known_clips import folder_of
from avem.files import file_sha256
from avem.guards.inside import media_file
from avem.records import Question
from avem.tools.prefs.languages import find_languages
from avem.tools.prefs.survey.pages import SurveyOptions, make_survey
from tests.cache.helpers import make_store
from tests.extract.conftest import write_clip

NAME = "clips/cam1/1.mp4"
"""As questions and rows name the clip."""


@pytest.fixture(params=["around", "own", "renamed"])
def folder(request, tmp_path, monkeypatch):
    """A folder that may be given, and the clip's file in it."""
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / NAME, frames=4)
    (tmp_path / "clips" / "cam2").mkdir()
    shutil.copy(NAME, "clips/cam2/2.mp4")
    if request.param == "around":
        return Path()
    if request.param == "own":
        return Path("clips")
    Path("clips").rename("moved")
    return Path("moved")


def questions(*videos):
    return [Question(video, video, "t", "?", ("(A) Yes.", "(B) No."), "A") for video in videos]


def test_the_rule(folder):
    found = media_file(folder, NAME)
    assert found.is_file()
    assert found.parts[-2:] == ("cam1", "1.mp4")
    assert find_media(NAME, [], folder) == found
    assert find_media("clips/cam1/3.mp4", [], folder) is None


def test_models_on_files_find_it(folder):
    resolved = files_of_folder(folder).resolve(questions(NAME, "clips/cam1/1", "clips/cam1/3.mp4"))
    assert resolved.positions[NAME] == resolved.positions["clips/cam1/1"] == media_file(folder, NAME)
    assert resolved.absent.keys() == {"clips/cam1/3.mp4"}


def test_a_survey_copies_it(folder):
    items = [{"id": "q", "video": NAME, "task": "t", "question": "?", "choices": ["(A) a", "(B) b"], "answer": "A"}]
    Path("q.json").write_text(json.dumps(items))
    make_survey(SurveyOptions(source=Path("q.json"), out=Path("survey"), media=folder))
    assert Path("survey/media", NAME).is_file()
    Path("q.json").write_text(json.dumps([{**items[0], "video": "clips/cam1/3.mp4"}]))
    with pytest.raises(MissingFileError, match=rf"no clips/cam1/3.mp4 in {folder}/\); name with --media") as said:
        make_survey(SurveyOptions(source=Path("q.json"), out=Path("other"), media=folder))
    assert "clips/clips" not in str(said.value)


def test_languages_are_heard_in_it(folder):
    found = find_languages([NAME, "../x.mp4"], folder, lambda samples: ("en", 1.0, ""), Path("l.csv"))
    assert (dict(found.counts), found.failed) == ({"en": 1}, 1)
    assert "leads out of its folder" in Path("l.csv").read_text()


def test_a_store_finds_it(folder):
    """A store's paths begin below the dataset's folder; its own name is the dataset's."""
    entry = {"dataset": "clips", "path": "cam1/1.mp4", "size_bytes": 0, "modified_ns": 0}
    file = media_file(folder, NAME)
    entry["sha256"] = file_sha256(file)
    found = folder_of(make_store(Path("cache"), clips=1), entry, folder)
    assert found is not None
    assert (found / "cam1" / "1.mp4").samefile(file)
    assert folder_of(FeatureStore.open("cache"), {**entry, "dataset": "../x", "path": "no.mp4"}, folder) is None
    assert media_file(folder, "cam1/1.mp4", dataset="clips").samefile(file)


def test_a_clip_that_is_missing_is_no_other_clip(tmp_path):
    write_clip(tmp_path / "clips" / "1.mp4", frames=4)
    (tmp_path / "clips" / "cam1").mkdir()
    shutil.copy(tmp_path / "clips" / "1.mp4", tmp_path / "clips" / "cam1" / "2.mp4")
    assert not media_file(tmp_path / "clips", "cam1/1.mp4").exists(), "its folder is there, and it is not"
    assert find_media("cam1/1.mp4", [], tmp_path / "clips") is None
    resolved = files_of_folder(tmp_path / "clips").resolve(questions("cam1/1.mp4"))
    assert resolved.absent.keys() == {"cam1/1.mp4"}


def test_a_report_links_it(folder):
    """Its results have the clip's id, and its path as the store has it."""
    for path in ("cam1/1.mp4", NAME):
        item = Item(*questions("1"), "clips/cam1/1", path, "", (0.0, -1.0))
        results = [score_items([item], resamples=2, name="m", style="letters")]
        (card,) = make_cards(results, [], Path("page.html"), 0, folder)
        assert card.link
        assert Path(card.link).samefile(media_file(folder, NAME))
        (card,) = make_cards(results, [], Path("page.html"), 0)
        assert not card.link
