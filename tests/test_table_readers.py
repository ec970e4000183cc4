"""Every reader of a CSV file that users write: its delimiter, encoding and spelling of the header do not matter."""

from __future__ import annotations

import pytest

from avem.cache.exchange.npy import read_labels
from avem.cache.negatives.labels import read_modality_labels
from avem.errors import DataError
from avem.evaluate.emer.rubric import Description, read_references
from avem.evaluate.emorealm.groups import read_clip_columns
from avem.evaluate.harness import vlmevalkit
from avem.evaluate.openset.runner import read_labels as read_open_labels
from avem.evaluate.prefer.pairs import Pair, read_pairs
from avem.extract.datasets.clips_csv import read_clips_table
from avem.tools.prefs.survey.items import read_subtitles

FORMS = {
    "plain": (",", "utf-8", str),
    "semicolons, mark": (";", "utf-8-sig", str),
    "tabs, UTF-16": ("\t", "utf-16", str),
    "semicolons, UTF-16 without a mark, capitals": (";", "utf-16-le", str.upper),
    "capitals, blanks": (",", "utf-8", lambda name: f" {name.replace('_', ' ').title()} "),
    "semicolons, Windows' code page": (";", "cp1252", str.capitalize),
}


def clip_emotions(path):
    return [(clip.path, clip.emotions_raw, clip.source) for clip in read_clips_table(path)]


READERS = {
    "clips.csv": (
        clip_emotions,
        ("path", "emotion", "source"),
        [("a.mp4", "traurig", "é")],
        [("a.mp4", "traurig", "é")],
    ),
    "--groups": (
        lambda path: read_clip_columns(path, ("gender",)),
        ("clip_id", "gender"),
        [("a/b.mp4", "männlich")],
        {"a/b": {"gender": "männlich"}},
    ),
    "--labels of modalities": (
        read_modality_labels,
        ("clip_id", "video", "audio"),
        [("é", "joy", "anger")],
        {"video": {"é": "joy"}, "audio": {"é": "anger"}},
    ),
    "labels of .npy files": (
        read_labels,
        ("clip_id", "emotion", "split"),
        [("é.mp4", "joy", "train")],
        {"é": {"emotion": "joy", "split": "train", "source": ""}},
    ),
    "EMER": (
        read_references,
        ("name", "reason"),
        [("a", "She smiles; her voice, though, is flat: é.")],
        [Description("a", "She smiles; her voice, though, is flat: é.", "a")],
    ),
    "subtitles of a survey": (read_subtitles, ("video", "subtitle"), [("a.mp4", "café; yes")], {"a.mp4": "café; yes"}),
    "VLMEvalKit": (vlmevalkit.read, ("emorealm_id", "prediction"), [("id=q1", "(A) é")], [("q1", "(A) é")]),
    "pairs": (
        read_pairs,
        ("name", "a1", "a2", "preference"),
        [("a", "joy", "café", "a2")],
        [Pair(0, "a", "joy", "café", "a2")],
    ),
    "open labels": (read_open_labels, ("name", "openset"), [("é", "[happy, sad]")], {"é": ["happy", "sad"]}),
}


def written(path, header, rows, delimiter, encoding):
    cells = [[f'"{cell}"' if delimiter in cell else cell for cell in row] for row in (header, *rows)]
    path.write_bytes("".join(delimiter.join(row) + "\r\n" for row in cells).encode(encoding))
    return path


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("reader", READERS)
def test_a_table_is_read_in_every_form(tmp_path, reader, form):
    read, header, rows, expected = READERS[reader]
    delimiter, encoding, spelt = FORMS[form]
    path = written(tmp_path / "table.csv", [spelt(name) for name in header], rows, delimiter, encoding)
    assert read(path) == expected


@pytest.mark.parametrize(
    ("reader", "line"),
    [("--groups", "a,x,y\n"), ("--labels of modalities", "a,x,y,z\n"), ("labels of .npy files", "a,x,y,z\n")],
)
def test_a_cell_too_many_is_named(tmp_path, reader, line):
    read, header, _, _ = READERS[reader]
    path = tmp_path / "table.csv"
    path.write_text(",".join(header) + "\n" + line)
    with pytest.raises(DataError, match=rf"table.csv line 2 has {len(header) + 1} cells and its header has"):
        read(path)


def test_lines_of_clip_frames_and_emotion_are_no_table(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_bytes("a.avi 12 happy\nb 9 sad\n".encode("utf-16"))
    assert read_labels(path) == {"a": {"emotion": "happy"}, "b": {"emotion": "sad"}}
