"""What is left out of mining, pairs for every modality, and the page on it all."""

import json
import re

import numpy as np
import pytest

from avem.cache import FeatureStore, match_all, mine_negatives
from avem.cache.negatives.mine import negatives_attributes, write_negatives
from avem.cache.negatives.report import matrix_svg, write_negatives_report
from avem.cache.negatives.summary import summarise_negatives
from avem.cli import main
from avem.errors import SettingError, StoreError, UnknownClipError
from avem.extract import ExtractOptions, extract
from avem.extract.encoders.random_weights import make_random_languagebind, make_random_whisper
from tests.cache.helpers import make_store
from tests.extract.conftest import write_clip


@pytest.fixture
def store(tmp_path):
    return make_store(tmp_path / "cache", clips=40)


def test_a_benchmarks_clips_have_no_negatives_and_are_none(store):
    left_out = ["toy/003", "toy/008", "toy/021"]
    for recipe in ("hard", "random-emotion", "random-clip"):
        for report in mine_negatives(store, recipe, exclude=left_out):
            assert (report.excluded, report.clips) == (3, 37)
            table = store.negatives(recipe, report.modality)
            assert not np.isin(table, [3, 8, 21]).any()
            assert (table[[3, 8, 21]] == -1).all()
    pairs = match_all(store, exclude=left_out)
    assert set(pairs) == {"audio", "video", "audiovisual"}
    for modality, table in pairs.items():
        assert (table[[3, 8, 21]] == -1).all()
        assert np.array_equal(store.negatives("mutual", modality), table)
    with pytest.raises(UnknownClipError, match="toy/999"):
        mine_negatives(store, exclude=["toy/999"])


def test_recipes_that_name_no_clips_are_left_to_training(store):
    for recipe in ("random-tensor", "diffused"):
        with pytest.raises(SettingError, match="made while training"):
            mine_negatives(store, recipe)


def test_the_numbers_of_what_was_mined(store):
    mine_negatives(store, k=3)
    summary = summarise_negatives(store, "hard", "video", benchmark=[5, 6])
    table = store.negatives("hard", "video")
    assert summary.emotions == ("anger", "happiness", "neutral", "sadness")
    assert summary.matrix.sum() == (table >= 0).sum() == len(summary.cosines)
    assert np.trace(summary.matrix) == 0
    pooled = store.pooled("video")
    assert summary.by_rank[0] == pytest.approx(np.einsum("nd,nd->n", pooled, pooled[table[:, 0]]).mean(), abs=1e-5)
    assert summary.by_rank[0] > summary.by_rank[2] > summary.random_cosines.mean()
    leaks = dict(summary.leaks)
    assert leaks.pop("a clip of the benchmark") == np.isin(table, [5, 6]).sum() > 0
    assert set(leaks.values()) == {0}
    used = [row for example in summary.examples for row in (example.row, example.negative)]
    assert len(set(used)) == len(used) == 24


def test_leaks_are_counted(store):
    mine_negatives(store, k=1)
    table = store.negatives("hard", "video")
    table[:4, 0] = [0, 10, 6, -1]  # itself; the same speaker; the same emotion; none
    write_negatives(store, "hard", {"video": (table, negatives_attributes(store, "hard", "video"))})
    summary = summarise_negatives(store, "hard", "video")
    assert summary.leaks["the clip itself"] == 1
    assert summary.leaks["the same emotion"] == 2
    assert summary.leaks["the same speaker or source"] == 2
    assert summary.leaks["a near-duplicate"] == 1
    assert summary.lacking == 1
    page = write_negatives_report(store, "hard", store.location.local.parent / "page.html").read_text()
    assert "Some negatives are leaks." in page


def test_a_page_without_negatives_or_a_place_to_write(store, tmp_path):
    with pytest.raises(StoreError, match="no hard negatives"):
        write_negatives_report(store, "hard", tmp_path / "page.html")
    mine_negatives(store, k=1)
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="can't be written"):
        write_negatives_report(store, "hard", tmp_path / "file" / "page.html")
    with pytest.raises(SettingError, match="not 'smell'"):
        summarise_negatives(store, "hard", "smell")


def test_a_page_names_clips_whose_file_is_gone(store, tmp_path, caplog):
    mine_negatives(store, k=2)
    asked = []

    def strip(media):
        asked.append(media)
        return "data:image/jpeg;base64,"

    page = write_negatives_report(store, "hard", tmp_path / "page.html")
    assert not caplog.records  # no pictures were asked for
    assert "no picture" not in page.read_text()
    media = tmp_path / "media"
    for row in range(len(store)):
        (media / store.clip(row)["path"]).parent.mkdir(parents=True, exist_ok=True)
        (media / store.clip(row)["path"]).touch()
    write_negatives_report(store, "hard", page, strip=strip, media_root=media)
    assert not caplog.records
    seen = {*asked}
    lost = min(seen)
    lost.unlink()
    write_negatives_report(store, "hard", page, strip=strip, media_root=media)
    (said,) = [record.getMessage() for record in caplog.records]
    assert said == (
        f"1 clip of the page has no picture, such as toy/{lost.stem} (there is no file {lost}); name the clips' folder "
        "with --media-root."
    )
    assert "1 clip has no picture: the file is not where it was at the extraction." in page.read_text()
    caplog.clear()
    write_negatives_report(store, "hard", page, strip=strip, media_root=tmp_path / "moved")
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith(f"{len(seen)} clips of the page have no picture, such as ")


def test_labels_are_escaped_and_shares_are_of_the_row():
    picture = matrix_svg(np.array([[0, 3], [1, 1]]), ["<b>", "fear"])
    assert "&lt;b&gt;" in picture
    assert picture.count("50%") == 2
    assert picture.count("100%") == 1


def test_the_command_mines_leaves_out_and_shows_frames(tmp_path, monkeypatch, capsys):
    for index in range(8):
        write_clip(tmp_path / "corpus" / ("anger", "fear")[index % 2] / f"{index}.mp4", frames=4, sound_s=1, seed=index)
    options = ExtractOptions(
        make_random_languagebind(tmp_path / "v", image_size=32, patch_size=16, layers=1, frames=2, projection_dim=8),
        make_random_whisper(tmp_path / "a", width=16, layers=1, heads=2, positions=50),
        workers=1,
    )
    extract(tmp_path / "corpus", tmp_path / "cache", options)
    question = {
        "id": "q",
        "video": "anger/0.mp4",
        "task": "agreement",
        "question": "?",
        "choices": ["(A) yes", "(B) no"],
        "answer": "A",
    }
    (tmp_path / "bench.json").write_text(json.dumps([question]))
    given = [
        "--cache",
        tmp_path / "cache",
        "--recipe",
        "mutual",
        "--benchmark",
        tmp_path / "bench.json",
        "--report",
        tmp_path / "page.html",
        "--duplicate-cosine",
        "1.1",
        "--k",
        "2",
    ]
    monkeypatch.setattr("sys.argv", ["avem", "cache", "negatives", *map(str, given)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert "video: 6 clips have a partner" in capsys.readouterr().out
    excluded = FeatureStore.open(tmp_path / "cache").rows(
        [name for name in FeatureStore.open(tmp_path / "cache").clips["clip_id"].to_pylist() if name.endswith("/0")]
    )
    assert (FeatureStore.open(tmp_path / "cache").negatives("mutual", "video")[excluded] == -1).all()
    page = (tmp_path / "page.html").read_text()
    assert "1 clip left out" in page
    assert len(re.findall(r'<section id="(audio|video|audiovisual)">', page)) == 3
    assert page.count("data:image/jpeg;base64,") >= 6
    assert "None found." in page
    assert not re.search(r'(src|href)="(?!data:)', page)
