"""Tables of any cells at any width: no line is too long, no sign is lost, and no two rows look alike."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avem.text.tables import Table, wrapped
from tests.table_kit import check_layouts

CELLS = st.text(st.sampled_from("ab _/[],.-0123456789é表情"), max_size=60).map(lambda text: " ".join(text.split()))


@st.composite
def tables(draw):
    columns = draw(st.integers(1, 9))
    row = st.lists(CELLS, min_size=columns, max_size=columns)
    return Table.of([f"{cell}h" for cell in draw(row)], draw(st.lists(row, max_size=4)), draw(CELLS), draw(CELLS))


@given(tables(), st.integers(20, 140))
@settings(max_examples=150)
def test_nothing_is_lost_at_any_width(table, width):
    check_layouts(table, (width,))


@given(st.lists(st.text("abc_", min_size=30, max_size=60), min_size=2, max_size=4, unique=True), st.integers(20, 100))
@settings(max_examples=50)
def test_rows_that_differ_look_different(names, width):
    shown = [Table.of(["clip", "n"], [[name, "1"]]).text(width) for name in names]
    assert len(set(shown)) == len(names)


def test_columns_that_do_not_fit_follow_below_with_the_first_again():
    numbers = [f"emotion number {n}" for n in range(12)]
    table = Table.of(["model", *numbers], [["base", *["12.5 [10.0, 15.0]"] * 12], ["tuned", *["1.0"] * 12]])
    parts = table.text(80).split("\n\n")
    assert len(parts) > 1
    for part in parts:
        first = [line.split()[0] for line in part.splitlines() if line and not line.startswith(" ")]
        assert [word for word in first if word in ("base", "tuned")] == ["base", "tuned"]


def test_rows_are_numbered_where_their_first_cells_do_not_tell_them_apart():
    table = Table.of(["same", "same", *["c" * 24] * 6], [["a", "b", *"123456"], ["a", "b", *"654321"]])
    for part in table.text(80).split("\n\n"):
        lines = part.splitlines()
        assert (lines[0].split()[0], lines[2].split()[0], lines[3].split()[0]) == ("row", "1", "2")


def test_headings_and_intervals_break_between_words():
    assert wrapped("reasoning about sound", 10) == ["reasoning", "about", "sound"]
    assert wrapped("85.3 [80.1, 90.2]", 12) == ["85.3", "[80.1, 90.2]"]
    assert wrapped("bench/avem-dpo/final", 10) == ["bench/", "avem-dpo/", "final"]


def test_numbers_end_in_one_line_and_words_begin_in_one():
    assert Table.of(["task", "n"], [["audio", 5], ["video", 120]]).text().splitlines()[2:] == [
        "audio    5",
        "video  120",
    ]


PRINT = (
    "from avem.text.tables import Table; from avem.text.terminal import show_table; "
    "show_table(Table.of(['clip', 'reason'], [['a', 'word ' * 40]]))"
)


def test_a_pipe_gets_one_line_for_each_row_even_if_columns_is_set():
    done = subprocess.run(
        [sys.executable, "-c", PRINT], capture_output=True, text=True, env={**os.environ, "COLUMNS": "40"}
    )
    assert done.stdout.splitlines()[2] == f"a     {'word ' * 40}".rstrip()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pty")
def test_a_terminal_gets_lines_of_its_width():
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": "60"}
    done = subprocess.run([sys.executable, "-c", PRINT], stdout=theirs, env=environment)
    os.close(theirs)
    with os.fdopen(ours, "rb") as terminal:
        said = terminal.read1(10_000).decode()
    assert done.returncode == 0
    assert max(map(len, said.split("\r\n"))) <= 60
    assert said.count("word") == 40
