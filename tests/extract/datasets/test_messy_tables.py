"""Tables of clips as people have them: any delimiter, encoding and spelling of the header give the same clips."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avem.errors import DataError
from avem.extract import read_dataset
from avem.extract.datasets.clips_csv import read_clips_table
from avem.records import Clip, Emotion
from avem.text.csv_tables import DELIMITERS, numbered_rows, table_text

CELLS = st.text(st.sampled_from("abc ,;|\"'é表.\n0"), max_size=12).map(str.strip)
LETTERS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=12)
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be")
SPELLINGS = (str, str.upper, str.title, lambda name: f" {name} ", lambda name: name.replace("_", " ").capitalize())


def written(header, rows, delimiter=",", ends="\n"):
    sheet = io.StringIO()
    writer = csv.writer(sheet, delimiter=delimiter, lineterminator=ends)
    writer.writerows([header, *rows])
    return sheet.getvalue()


@given(
    rows=st.lists(st.tuples(CELLS.filter(bool), CELLS, CELLS), min_size=1, max_size=5),
    delimiter=st.sampled_from(DELIMITERS),
    encoding=st.sampled_from(ENCODINGS),
    spell=st.sampled_from(SPELLINGS),
    ends=st.sampled_from(["\n", "\r\n"]),
    order=st.permutations(range(3)),
)
@settings(max_examples=200)
def test_every_form_of_a_table_gives_the_same_rows(rows, delimiter, encoding, spell, ends, order):
    names = ("path", "clip_id", "emotion")
    header = [spell(names[place]) for place in order]
    data = written(header, [[row[place] for place in order] for row in rows], delimiter, ends).encode(encoding)
    found, cells = numbered_rows(table_text(data), "clips.csv", names)
    assert [dict(zip(found, row, strict=True)) for _, row in cells] == [
        dict(zip(names, row, strict=True)) for row in rows
    ]


@given(LETTERS, st.sampled_from(ENCODINGS))
def test_an_encoding_with_a_mark_or_with_latin_headings_is_known(text, encoding):
    said = f"path,emotion\nx,{text}\n"
    assert table_text(said.encode(encoding)) == said


def test_a_table_of_the_old_windows_code_page():
    assert table_text("path;emotion\ncafé.mp4;colère\n".encode("cp1252")).endswith("café.mp4;colère\n")


@pytest.mark.parametrize("delimiter", DELIMITERS)
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize(
    "header", [("path", "emotion"), ("Path", "EMOTION"), ("Filename", "Label"), ("VIDEO", "Emotion")]
)
def test_clips(tmp_path, delimiter, encoding, header):
    table = tmp_path / "study" / "clips.csv"
    table.parent.mkdir()
    table.write_bytes(written([*header, "Notes"], [["a/1.mp4", "Happy", "x"]], delimiter).encode(encoding))
    assert read_dataset(table.parent) == [Clip("study/a/1", "study", "a/1.mp4", Emotion.HAPPINESS, "Happy")]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8"])
@pytest.mark.parametrize(
    "header",
    [
        ("Dateiname", "Gefühl", "Sprecherin"),
        ("Fichier", "Émotion", "Locuteur"),
        ("Nombre de archivo", "Emocio\N{COMBINING ACUTE ACCENT}n", "Hablante"),
        ("文件名", "情绪", "说话人"),
    ],
)
def test_headings_of_other_languages(tmp_path, header, encoding):
    (tmp_path / "clips.csv").write_bytes(written(header, [["1.mp4", "Happy", "anna"]], ";").encode(encoding))
    (clip,) = read_dataset(tmp_path)
    assert (clip.path, clip.emotion, clip.source) == ("1.mp4", Emotion.HAPPINESS, "anna")


def test_of_several_headings_that_mean_the_file_the_plainest_counts(tmp_path):
    (tmp_path / "clips.csv").write_text("Clip,Video,Filename,Emotion\n7,front,a.mp4,fear\n")
    assert [clip.path for clip in read_dataset(tmp_path)] == ["a.mp4"]
    (tmp_path / "clips.csv").write_text("Clip,File,path\n7,b.mp4,a.mp4\n")
    assert [clip.path for clip in read_dataset(tmp_path)] == ["a.mp4"]


def test_a_table_without_a_column_of_files_says_what_it_may_be_called(tmp_path):
    (tmp_path / "clips.csv").write_text("Where,Emotion\na.mp4,fear\n")
    with pytest.raises(DataError, match=r"its columns are Where, emotion\. Call the column of the files path, file or"):
        read_dataset(tmp_path)


def test_a_table_without_emotions_gives_clips_without_labels(tmp_path):
    (tmp_path / "clips.csv").write_text("Path\na.mp4\n\nb.mp4\n")
    assert [(clip.path, clip.emotion, clip.emotions_raw) for clip in read_dataset(tmp_path)] == [
        ("a.mp4", None, ""),
        ("b.mp4", None, ""),
    ]


def test_the_first_line_of_a_spreadsheet_program(tmp_path):
    (tmp_path / "clips.csv").write_text("sep=;\npath;emotion\na,b.mp4;sad\n")
    (clip,) = read_dataset(tmp_path)
    assert (clip.path, clip.emotion) == ("a,b.mp4", Emotion.SADNESS)


def test_a_cell_too_many_is_refused_with_its_line(tmp_path):
    (tmp_path / "clips.csv").write_text("path,emotion\nx.mp4,sad\na,b.mp4,sad\n")
    with pytest.raises(DataError, match=r"line 3 has 3 cells and its header has 2; quote"):
        read_dataset(tmp_path)


def test_a_row_that_is_there_twice_counts_once(tmp_path, caplog):
    (tmp_path / "clips.csv").write_text("path,emotion,note\na.mp4,sad,x\nb.mp4,sad,\na.mp4, sad,y\n")
    assert [clip.path for clip in read_dataset(tmp_path)] == ["a.mp4", "b.mp4"]
    assert "lists clips twice, which count once: line 4 as line 2." in caplog.text


def test_two_rows_that_disagree_are_refused_with_their_lines(tmp_path):
    (tmp_path / "clips.csv").write_text("path,emotion\na.mp4,sad\nb.mp4,sad\na.mp4,happy\n")
    with pytest.raises(DataError, match=r"lines 2 and 4 say different things of a\.mp4; keep one"):
        read_dataset(tmp_path)


def test_a_table_of_another_name(tmp_path):
    (tmp_path / "my labels.tsv").write_text("FILE\tLABEL\na.mp4\tangry\n")
    (clip,) = read_dataset(tmp_path / "my labels.tsv", name="study")
    assert (clip.clip_id, clip.dataset, clip.emotion) == ("study/a", "study", Emotion.ANGER)


def test_a_column_that_is_there_under_its_name_wins(tmp_path):
    (tmp_path / "clips.csv").write_text("label,emotion,path\nno,sad,a.mp4\n")
    assert read_clips_table(tmp_path / "clips.csv")[0].emotion is Emotion.SADNESS


def test_a_table_without_paths_says_which_columns_it_has(tmp_path):
    (tmp_path / "clips.csv").write_text("who;what\n1;2\n")
    with pytest.raises(DataError, match=r"no column path; its columns are who;what"):
        read_dataset(tmp_path)


def test_the_run_says_which_columns_are_read_as_what(tmp_path, caplog):
    caplog.set_level("INFO")
    table = tmp_path / "clips.csv"
    table.write_bytes(written(("Dateiname", "Gefühl", "PATH2"), [["1.mp4", "Happy", "x"]], ";").encode("utf-16"))
    read_dataset(tmp_path)
    said = [record.message for record in caplog.records]
    assert said == [f"{table}: reads Dateiname as path, Gefühl as emotion."]
    caplog.clear()
    table.write_text("Path,Mood\n1.mp4,Happy\n")
    read_dataset(tmp_path)
    assert [record.message for record in caplog.records] == [
        f"{table} has no column emotion or label; its columns are path, Mood. Its clips get no label."
    ]
