"""Subtitles reach the store from a table and from files, follow their changes, and never take a transcript's place."""

from __future__ import annotations

import shutil

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from avem.cache import ClipRecord, FeatureStore, StoreWriter, store_info
from avem.cache.exchange.hdf5 import export_hdf5, import_hdf5
from avem.cache.manifest.columns import SUBTITLE_COLUMNS, edited_rows
from avem.cache.manifest.subtitles import Subtitle, one_line
from avem.cli import app
from avem.errors import DataError, MissingFileError, StoreError
from avem.extract import ExtractOptions, extract
from avem.tools.transcripts import Transcriber, enter_table, load_transcriber, remove_subtitles, transcribe_store
from tests.extract.long_kit import write_long

SRT = "1\n00:00:00,100 --> 00:00:01,000\n{}\n"


@pytest.fixture(scope="module")
def clips(tmp_path_factory, make_clip):
    root = tmp_path_factory.mktemp("clips")
    for index, name in enumerate("abcd"):
        make_clip(root / f"{name}.mp4", frames=4, sound_s=0.5, seed=index, sound=0 if name == "d" else 0.3)
    return root


@pytest.fixture
def root(clips, tmp_path):
    """Four clips: a text in the table, an .srt beside one, a .vtt beside another, and nothing."""
    folder = tmp_path / "data"
    folder.mkdir()
    for path in clips.glob("*.mp4"):
        (folder / path.name).hardlink_to(path)
    write_table(folder, a='"No, not\n now."')
    (folder / "b.srt").write_bytes(SRT.format("Ça alors !").encode("cp1252"))
    (folder / "c.vtt").write_text("WEBVTT\n\n00:00.000 --> 00:01.000\nCome in.\n")
    return folder


def write_table(folder, **said):
    lines = [f"{name}.mp4,{name},happy,{said.get(name, '')}" for name in "abcd"]
    (folder / "clips.csv").write_text("\n".join(["path,clip_id,emotion,subtitle", *lines]) + "\n")


@pytest.fixture
def run(root, tmp_path, encoders):
    return lambda **more: extract(root, tmp_path / "store", ExtractOptions(**encoders, workers=1, **more))


def held(store):
    table = FeatureStore.open(store).columns(["clip_id", *SUBTITLE_COLUMNS]).to_pylist()
    return {row["clip_id"]: (row["subtitle"], row["subtitle_source"]) for row in table}


FIRST = {
    "a": ("No, not now.", "clips.csv"),
    "b": ("Ça alors !", "srt"),
    "c": ("Come in.", "vtt"),
    "d": (None, None),
}


def test_subtitles_are_extracted_counted_and_follow_the_dataset(root, run, tmp_path):
    dry = run(dry_run=True)
    assert "3 of 4 clips have a subtitle (1 from clips.csv, 1 from srt, 1 from vtt)." in dry.notes
    assert not (tmp_path / "store").exists()
    report = run()
    assert held(tmp_path / "store") == FIRST
    assert report.subtitled == 3
    assert "3 subtitles entered or changed." in report.notes
    assert store_info(FeatureStore.open(tmp_path / "store")).subtitles == {"clips.csv": 1, "srt": 1, "vtt": 1}
    assert run().subtitled == 0
    (root / "b.srt").write_text(SRT.format("Oh!"))
    (root / "c.vtt").unlink()
    (root / "d.SRT").write_text(SRT.format("Well."))
    write_table(root)
    again = run()
    assert again.encoded == {}
    assert "no features to add" in again.summary
    assert held(tmp_path / "store") == {
        "a": (None, None),
        "b": ("Oh!", "srt"),
        "c": (None, None),
        "d": ("Well.", "srt"),
    }
    FeatureStore.open(tmp_path / "store").verify()


def test_a_file_that_cannot_be_used_is_named_and_changes_nothing(root, run, tmp_path):
    run()
    (root / "b.srt").write_text("no subtitles at all")
    report = run()
    assert any(
        "1 subtitle file can't be used: " in note and "b.srt holds no subtitles" in note for note in report.notes
    )
    assert held(tmp_path / "store") == FIRST


def test_an_edited_subtitle_is_noticed(run, tmp_path):
    run()
    path = tmp_path / "store" / "clips.parquet"
    table = pq.read_table(path)
    said = table["subtitle"].to_pylist()
    said[1] = "Something else."
    index = table.schema.get_field_index("subtitle")
    changed = table.set_column(index, table.schema.field("subtitle"), [said])
    assert edited_rows(table) == []
    assert edited_rows(changed) == [1]


def test_windows_get_what_is_said_in_them(tmp_path, encoders):
    root = tmp_path / "talks"
    write_long(root / "long.mov", 61)
    (root / "clips.csv").write_text("path,emotion\nlong.mov,happy\n")
    lines = [("00:00:02,000", "00:00:04,000", "One."), ("00:00:29,000", "00:00:33,000", "Two.")]
    text = "\n\n".join(f"{n}\n{start} --> {end}\n{said}" for n, (start, end, said) in enumerate(lines, 1))
    (root / "long.srt").write_text(text)
    options = ExtractOptions(**encoders, workers=1, batch_size=1, long="windows")
    extract(root, tmp_path / "store", options)
    assert [said for said, _ in held(tmp_path / "store").values()] == ["One.", "Two.", None]
    lengths = []
    remove_subtitles(tmp_path / "store")
    heard = Transcriber("whisper 0123", lambda samples: f"{lengths.append(len(samples)) or len(lengths)}")
    assert transcribe_store(tmp_path / "store", heard).entered == 3
    assert [said for said, _ in held(tmp_path / "store").values()] == ["1", "2", "3"]
    assert [round(length / 16000) for length in lengths] == [30, 30, 1], "each window is listened to by itself"
    (root / "clips.csv").write_text("path,emotion,subtitle\nlong.mov,happy,One and two.\n")
    report = extract(root, tmp_path / "store", options)
    assert any(note.startswith("3 windows have no subtitle: clips.csv does not say when") for note in report.notes)
    assert [said for said, _ in held(tmp_path / "store").values()] == ["1", "2", "3"], "transcripts stay"


def test_subtitles_survive_hdf5_and_a_store_from_before_them_reads_as_without(run, tmp_path):
    run()
    files = export_hdf5(FeatureStore.open(tmp_path / "store"), tmp_path / "export")
    import_hdf5(files, tmp_path / "copy")
    assert held(tmp_path / "copy") == FIRST
    older = tmp_path / "older"
    writer = StoreWriter.open(older)
    writer.add_clips([ClipRecord("a", "data", "a.mp4", sha256="0" * 64)], tmp_path)
    for path in (older / "clips.parquet", older / "ledger" / "clips.parquet"):
        if path.is_file():
            table = pq.read_table(path)
            pq.write_table(table.drop_columns(list(SUBTITLE_COLUMNS)), path)
    assert held(older) == {"a": (None, None)}
    assert StoreWriter.open(older).enter_subtitles({"a": Subtitle("Hm.", "table"), "z": None}) == 1
    assert held(older) == {"a": ("Hm.", "table")}


def transcriber(words, source="whisper 0123"):
    heard = []

    def transcribe(samples):
        heard.append(len(samples))
        return words

    return Transcriber(source, transcribe), heard


def test_transcripts_fill_what_the_dataset_leaves_open(root, run, tmp_path):
    write_table(root)
    (root / "c.vtt").unlink()
    run()
    store = tmp_path / "store"
    small, heard = transcriber("Hello\nthere.")
    done = transcribe_store(store, small)
    assert (done.entered, done.silent, done.kept, done.failed) == (3, 1, {"srt": 1}, {})
    assert len(heard) == 2, "a silent clip is not listened to"
    said = {"a": "Hello there.", "b": "Ça alors !", "c": "Hello there.", "d": ""}
    assert {name: text for name, (text, _) in held(store).items()} == said
    assert transcribe_store(store, small).entered == 0, "nothing is transcribed twice"
    assert run().subtitled == 0, "extraction leaves transcripts"
    large, heard = transcriber("Hello.", "whisper 4567")
    assert transcribe_store(store, large).kept == {"srt": 1, "whisper 0123": 3}
    assert heard == []
    assert transcribe_store(store, large, replace=True).kept == {"srt": 1}
    assert held(store)["a"] == ("Hello.", "whisper 4567")
    write_table(root, a="Hi.")
    assert run().subtitled == 1, "the dataset's own text comes first"
    assert held(store)["a"] == ("Hi.", "clips.csv")
    assert remove_subtitles(store) == 4
    assert set(held(store).values()) == {(None, None)}


def test_a_clip_whose_file_changed_is_not_transcribed(root, run, tmp_path):
    run()
    remove_subtitles(tmp_path / "store")
    (root / "a.mp4").unlink()
    shutil.copy(root / "b.mp4", root / "a.mp4")
    done = transcribe_store(tmp_path / "store", transcriber("Yes.")[0])
    assert done.failed == {"a": "a.mp4 is gone or was changed since it was extracted."}
    assert held(tmp_path / "store")["b"] == ("Yes.", "whisper 0123")


def test_the_command_takes_a_model_or_a_table(root, run, tmp_path):
    run()
    store, out = str(tmp_path / "store"), CliRunner()
    said = out.invoke(app, ["cache", "subtitles", "--cache", store])
    assert said.exit_code != 0
    for options, message in (
        ([], "come from one of --whisper"),
        (["--whisper", str(tmp_path / "none.pt")], "none.pt"),
        (["--table", str(root / "clips.csv"), "--replace"], "belong to --whisper"),
    ):
        with pytest.raises(Exception, match=message):
            out.invoke(app, ["cache", "subtitles", "--cache", store, *options], catch_exceptions=False)
    (tmp_path / "t.csv").write_text("clip_id,subtitle\nd,At last.\nz,Who?\n")
    changed, unknown = enter_table(store, tmp_path / "t.csv")
    assert (changed, unknown) == (1, ["z"])
    assert held(store)["d"] == ("At last.", "table")
    (tmp_path / "t.csv").write_text("clip_id,subtitle\nd,At last.\nd,Who?\n")
    with pytest.raises(DataError, match="d has another subtitle above"):
        enter_table(store, tmp_path / "t.csv")


def test_a_real_whisper_layout_transcribes(root, run, tmp_path):
    import torch
    from whisper.model import ModelDimensions, Whisper

    torch.manual_seed(0)
    dims = ModelDimensions(80, 1500, 16, 2, 1, 51865, 448, 16, 2, 1)
    model = Whisper(dims)
    torch.nn.init.normal_(model.decoder.positional_embedding)  # Whisper leaves it uninitialized
    torch.save({"dims": dims.__dict__, "model_state_dict": model.state_dict()}, tmp_path / "tiny.pt")
    run()
    tiny = load_transcriber(str(tmp_path / "tiny.pt"))
    assert tiny.source.startswith("whisper ")
    remove_subtitles(tmp_path / "store")
    done = transcribe_store(tmp_path / "store", tiny)
    assert done.entered == 4
    assert all(source == tiny.source for _, source in held(tmp_path / "store").values())
    with pytest.raises(MissingFileError, match="--whisper"):
        load_transcriber(str(tmp_path / "none.pt"))


def test_few_clips_of_many_are_looked_up_and_the_rest_is_left(tmp_path):
    writer = StoreWriter.open(tmp_path / "store")
    writer.add_clips([ClipRecord(f"c{n}", "data", f"{n}.mp4", sha256=f"{n:064x}") for n in range(300)], tmp_path)
    everyone = {f"c{n}": Subtitle(f"Line {n}.", "srt") for n in range(300)}
    assert writer.enter_subtitles(everyone) == 300
    few = {"c299": Subtitle("Last.", "srt"), "c7": Subtitle("Line 7.", "srt"), "gone": None}
    assert writer.enter_subtitles(few) == 1
    texts = FeatureStore.open(tmp_path / "store").columns(["subtitle"])["subtitle"].to_pylist()
    assert texts == [*(f"Line {n}." for n in range(299)), "Last."]


@given(st.text(max_size=60))
def test_stored_text_is_one_line_that_utf8_holds(text):
    line = one_line(text)
    assert line == one_line(line) == " ".join(line.split())
    line.encode()
    assert "\x1f" not in line


def test_a_damaged_store_is_refused(run, tmp_path):
    run()
    path = tmp_path / "store" / "clips.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(StoreError):
        transcribe_store(tmp_path / "store", transcriber("x")[0])
