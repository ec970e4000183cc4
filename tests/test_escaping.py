"""Each boundary's helper: nothing hostile passes, ordinary text stays, and machines get back what was written."""

from __future__ import annotations

import csv
import io
import json
import re
import xml.etree.ElementTree as ET
from pathlib import PurePath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avem.evaluate.sheets import Sheet, csv_text
from avem.progress import Stage
from avem.text.escaping import (
    CONTROL,
    LONGEST_NAME,
    csv_cell,
    csv_value,
    file_name,
    markdown_cell,
    script_json,
    terminal_block,
    terminal_text,
    xml_text,
)
from avem.text.terminal import show, show_block
from tests.hostile_kit import HOSTILE
from tests.table_kit import read_csv

ANY = st.text(st.characters(codec=None), max_size=60)
"""Any text, halves of characters included."""
SPECIAL = st.text(alphabet="'=+-@\t\r\n\\u0123abf\x1b\u202e\"|,<", max_size=20)
each = pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)


@given(ANY)
def test_terminals_get_no_codes(text):
    assert not CONTROL.search(terminal_text(text))
    assert set(CONTROL.findall(terminal_block(text))) <= {"\n", "\t"}


@given(st.text(alphabet=st.characters(codec="ascii", categories=["L", "N", "P", "S", "Zs"])))
def test_ordinary_text_stays(text):
    assert terminal_text(text) == terminal_block(text) == text
    assert json.loads(script_json(text)) == text


@given(ANY | SPECIAL)
def test_csv_gives_back_what_was_written_and_no_formula(text):
    cell = csv_cell(text)
    assert csv_value(cell) == text
    assert not re.match(r"[=@\t\r\n]|[+-](?!\d|\.)", cell)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]", cell)
    assert read_csv(csv_text([{"name": text, text: 1}])) == [{"name": text, text: "1"}] if text != "name" else True


def test_csv_numbers_stay_numbers():
    rows = list(csv.reader(io.StringIO(csv_text([{"a": -0.5, "b": "-1.5e-3", "c": None, "d": 3}]))))
    assert rows == [["a", "b", "c", "d"], ["-0.5", "-1.5e-3", "", "3"]]


@given(ANY)
def test_script_json_ends_no_script(text):
    written = script_json({"text": text})
    assert json.loads(written) == {"text": text}
    assert not re.search("[<>&\u2028\u2029\x00-\x1f]", written)
    written.encode()


@given(ANY)
def test_svg_text_is_well_formed(text):
    root = ET.fromstring(f'<svg title="{xml_text(text)}"><text>{xml_text(text)}</text></svg>')
    clean = re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]", "\ufffd", text)
    assert (root[0].text or "") == clean.replace("\r\n", "\n").replace("\r", "\n")


@given(ANY)
def test_markdown_cells_stay_cells(text):
    cell = markdown_cell(text)
    assert not CONTROL.search(cell)
    assert "<" not in cell
    assert not re.search(r"(?<!\\)(\\\\)*\|", cell), "no column mark without an odd number of backslashes"


@given(ANY)
def test_file_names_stay_in_their_folder(text):
    name = file_name(text)
    assert PurePath(name).name == name
    assert name not in (".", "..")
    assert not name.startswith(".")
    assert not CONTROL.search(name)
    assert len(name.encode()) <= LONGEST_NAME
    assert file_name(name) == name


@pytest.mark.parametrize("name", ["Qwen2.5-Omni-7B", "llama3.2:3b", "model-2", "über", "a b (c)"])
def test_ordinary_file_names_stay(name):
    assert file_name(name) == name


def test_long_names_are_told_apart():
    assert file_name("a" * 300 + "b") != file_name("a" * 300 + "c")


@each
def test_everything_shown_is_plain(text, capsys):
    show(f"clip {text}")
    assert len(capsys.readouterr().out.splitlines()) == 1
    show(text, err=True)
    show_block(f"one\n{text}")
    printed = capsys.readouterr()
    sheet = Sheet(text, (text, "n"), ((text, "1"),), ({text: text, "n": 1},))
    table = sheet.table().text()
    for out in (printed.out, printed.err, table, sheet.table().text(80), sheet.form("markdown"), sheet.form("latex")):
        assert set(CONTROL.findall(out)) <= {"\n", "\t"}, out
    assert set(CONTROL.findall(sheet.form("csv"))) <= {"\n", "\t", "\u2028"}
    if "[" in text and "\x1b" not in text:
        assert "[bold red]loud[/] [/nothing]" in table
    assert Stage(text, 1, "clips", None).name == terminal_text(text)


@each
def test_markdown_tables_keep_their_columns(text):
    lines = Sheet("t", ("a", "b"), ((text, text),), ()).form("markdown").splitlines()
    assert len(lines) == 3
    assert [len(re.findall(r"(?<!\\)\|", line)) for line in lines] == [3, 3, 3]
