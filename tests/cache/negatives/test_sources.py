"""Negatives that nearly all come from one other source are a leak: of the terminal, the page and its verdict."""

import logging

import numpy as np
import pytest
from typer.testing import CliRunner

from avem.cache import ClipRecord, FeatureStore, RowDetails, StoreWriter, ensure_negatives, mine_negatives
from avem.cache.negatives.mine import write_negatives
from avem.cache.negatives.report import write_negatives_report
from avem.cache.negatives.sources import OneSource, one_source_negatives, one_source_sentence, source_warnings
from avem.cache.negatives.summary import ONE_SOURCE, summarise_negatives
from avem.cli import app
from tests.cache.negatives.test_mine import VIDEO, angles, store_of

EMOTIONS = ("anger", "fear", "sadness", "happiness")
TOLD = "come from one other source (camA from camB and camB from camA)"


def two_cameras(path, emotions=EMOTIONS):
    """24 clips of two cameras, each with all emotions."""
    clips = [(emotions[i % len(emotions)], "train", "cam" + "AB"[i // 4 % 2]) for i in range(24)]
    return store_of(path, clips, video=angles(*range(0, 240, 10)))


def negatives(cache, *options):
    done = CliRunner().invoke(app, ["cache", "negatives", "--cache", str(cache), *options])
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize("recipe", ["hard", "random-emotion", "random-clip", "mutual"])
def test_two_sources_are_a_leak_in_the_terminal_and_on_the_page(tmp_path, recipe):
    two_cameras(tmp_path / "cache")
    said = negatives(tmp_path / "cache", "--k", "2", "--recipe", recipe, "--report", str(tmp_path / "page.html"))
    count = 24 if recipe == "mutual" else 48
    assert f"Warning: video negatives: all {count} negatives of 24 clips {TOLD}" in said
    assert said.count("--same-source") == 1
    named = "" if recipe == "hard" else f" --recipe {recipe}"
    assert f"mine again with `avem cache negatives{named} --same-source`" in said
    page = (tmp_path / "page.html").read_text()
    assert f"<p>All {count} negatives of 24 clips {TOLD}" in page
    assert f"<code>avem cache negatives{named} --same-source</code>" in page
    assert "`" not in page.partition("<body>")[2]
    assert "None found" not in page
    assert "Some negatives are leaks." in page
    assert TOLD in page
    summary = summarise_negatives(FeatureStore.open(tmp_path / "cache"), recipe, "video")
    assert summary.leaks[ONE_SOURCE] == count


def test_the_named_option_cures_it(tmp_path):
    store = two_cameras(tmp_path / "cache")
    said = negatives(tmp_path / "cache", "--k", "2", "--same-source", "--report", str(tmp_path / "page.html"))
    assert "Warning" not in said
    assert "None found." in (tmp_path / "page.html").read_text()
    assert not source_warnings(store, "hard")


def test_sources_of_one_emotion_need_clips_not_an_option(tmp_path):
    clips = [("anger", "train", "camA") if i % 2 else ("fear", "train", "camB") for i in range(8)]
    store_of(tmp_path / "cache", clips, video=angles(*range(0, 80, 10)))
    for option in ((), ("--same-source",)):
        said = negatives(tmp_path / "cache", "--k", "2", *option)
        cure = "mine again with `avem cache negatives --same-source`"
        assert f"add clips of another emotion of camA and camB, and {cure}" in said, option


def test_one_source_of_many_is_found_by_its_share(tmp_path):
    store = store_of(
        tmp_path / "cache",
        [(EMOTIONS[i % 4], "train", f"s{i // 10}") for i in range(40)],
        video=angles(*range(0, 120, 3)),
    )
    table = np.full((40, 2), -1, dtype=np.int32)
    table[:10] = 11, 12  # all of s0 from s1
    table[10:30, 0] = np.arange(20) + 5  # s1 and s2 from several
    for from_another, expected in ((0, 20), (2, 18), (3, None)):
        table[:from_another, 0] = 35
        found = one_source_negatives(store, table, "video")
        assert [(one.name, one.other, one.found) for one in found] == (
            [] if expected is None else [("s0", "s1", expected)]
        ), from_another
    table[:10, 1] = -1  # ten negatives are too few to judge one of several sources
    table[:10, 0] = 11
    assert one_source_negatives(store, table, "video") == ()


def test_clips_without_a_source_are_no_sources(tmp_path):
    store = store_of(
        tmp_path / "cache",
        [(EMOTIONS[i % 2], "train", "") for i in range(2)],
        video=angles(0, 60),
    )
    mine_negatives(store, k=1)
    assert summarise_negatives(store, "hard", "video").leaks[ONE_SOURCE] == 0


def test_datasets_are_checked_like_sources(tmp_path):
    writer = StoreWriter.open(tmp_path / "cache")
    writer.add_clips(
        [
            ClipRecord(f"{name}/{i}", name, f"{i}.mp4", f"{i:064x}", emotion=emotion, split="train", source=f"s{i}")
            for name, emotion, clips in (("lab", "anger", range(12)), ("film", "fear", range(12, 24)))
            for i in clips
        ],
        root=tmp_path,
    )
    stream = writer.stream(VIDEO)
    vectors = angles(*range(0, 240, 10)).astype(np.float32)
    for shard in stream.pending():
        rows = list(shard.rows)
        stream.write(
            shard, np.zeros((len(rows), *VIDEO.row_shape), np.float32), vectors[rows], [RowDetails()] * len(rows)
        )
    writer.finish()
    store = FeatureStore.open(tmp_path / "cache")
    mine_negatives(store, k=2)
    (said,) = source_warnings(store, "hard")
    assert "one other dataset (film from lab and lab from film)" in said
    assert "add clips of another emotion of film and lab" in said


def test_whoever_needs_negatives_is_warned_though_they_were_mined_before(tmp_path, caplog):
    store = two_cameras(tmp_path / "cache")
    for _ in range(2):  # mined, and found
        with caplog.at_level(logging.WARNING):
            ensure_negatives(store, "hard")
        assert [TOLD in record.getMessage() for record in caplog.records] == [True]
        caplog.clear()


def test_negatives_of_ones_own_are_judged_and_unusable_ones_are_left_to_who_reads_them(tmp_path):
    store = two_cameras(tmp_path / "cache")
    mine_negatives(store, k=2)
    table = store.negatives("hard", "video")
    write_negatives(store, "own", {"video": (table, {}), "audio": (table[:-1], {})})
    (said,) = source_warnings(store, "own")
    assert said.startswith("video negatives: all 48 negatives of 24 clips")
    assert said.endswith("; choose negatives of the same source too.")


def test_one_negative_is_one(tmp_path):
    two_cameras(tmp_path / "cache")
    assert "video: 24 of 24 clips have 1 negative." in negatives(tmp_path / "cache", "--k", "1")
    one = OneSource("source", "a", "b", 1, 1, 1, one_emotion=False)
    assert one_source_sentence([one], same_source=False, recipe="hard").startswith("the only negative of 1 clip comes ")


def test_a_page_escapes_names_and_nothing_found_says_nothing(tmp_path):
    clips = [(EMOTIONS[i % 4], "train", f"<b>{i // 4 % 2}") for i in range(16)]
    store = store_of(tmp_path / "cache", clips, video=angles(*range(0, 160, 10)))
    mine_negatives(store, k=2)
    page = write_negatives_report(store, "hard", tmp_path / "page.html").read_text()
    assert "&lt;b&gt;0 from &lt;b&gt;1" in page
    assert one_source_sentence((), same_source=False, recipe="hard") == ""
