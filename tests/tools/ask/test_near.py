"""Names that are not there: said without torch, with what may have been meant."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from avem.errors import MissingFileError, UnknownClipError
from avem.tools.ask.inputs import AskedClip, find_asked, find_clip
from avem.tools.ask.near import COMPARED, meant, near_names, need_clips

IDS = ["ravdess/01-03", "ravdess/01-04", "own/anna@0-30", "own/anna@30-42"]


@pytest.fixture
def store(tmp_path):
    """The ids of a store, in two parts."""
    for name, ids in (("clips.parquet", IDS[:2]), ("clips-000001.parquet", IDS[2:])):
        pq.write_table(pa.table({"clip_id": ids}), tmp_path / name)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("ravdess/01-3", "ravdess/01-03"),
        ("01-04", "ravdess/01-04"),
        ("01-04.mp4", "ravdess/01-04"),
        ("other/01-04", "ravdess/01-04"),
        ("own/ana@0-30", "own/anna@0-30"),
    ],
)
def test_a_name_that_is_spelt_alike_or_a_part_comes_first(name, first):
    assert near_names(name, IDS)[0] == first


def test_a_name_like_no_other_shows_how_they_look():
    assert near_names("zzz", IDS) == []
    assert meant("zzz", IDS) == "; they are named like ravdess/01-03."
    assert meant("zzz", []) == "; it is empty."


def test_a_large_store_is_searched_for_parts_alone():
    ids = [f"x/{number}" for number in range(COMPARED + 1)]
    assert near_names("19999", ids) == ["x/19999"]
    assert near_names("x/1999q", ids) == [], "comparing them all would take seconds"


def test_an_unknown_id_is_refused_and_a_clip_in_windows_is_known(store):
    need_clips(["ravdess/01-03", "own/anna"], store)
    assert find_asked(["own/anna", "Why?"], store=store).clips == (AskedClip("own/anna"),)
    with pytest.raises(UnknownClipError, match=r"'ravdess/01-05' is not among the 4 clips.*did you mean ravdess/01-0"):
        find_asked(["ravdess/01-03", "ravdess/01-05", "Why?"], store=store)
    with pytest.raises(UnknownClipError, match="own/ann"):
        find_clip("own/ann", store=store)


def test_a_store_elsewhere_or_one_that_cannot_be_read_is_left_to_its_reader(tmp_path):
    need_clips(["any"], Path("s3://bucket/cache"))
    need_clips(["any"], tmp_path)
    (tmp_path / "clips.parquet").write_bytes(b"no table")
    need_clips(["any"], tmp_path)


def test_a_file_that_is_not_there_suggests_its_neighbours(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("clips").mkdir()
    Path("clips/take1.mp4").touch()
    with pytest.raises(MissingFileError, match=r"did you mean clips/take1\.mp4\?"):
        find_asked(["clips/tke1.mp4", "Why?"])
    with pytest.raises(MissingFileError, match="give a media file"):
        find_asked(["clips/unlike.avi", "Why?"])
