"""Columns that no run could fill keep the paper's figures, with a sentence."""

from avem.tools.sweep.grid import read_grid
from avem.tools.sweep.outcome import make_sheet
from avem.tools.sweep.run import RunResult


def test_columns_without_subtasks_stay_and_say_why(tmp_path):
    grid = read_grid("table5")
    found = RunResult("w/o PMP", 0, {"basic": 81.0, "agree": 50.0, "stress": 70.0}, tmp_path)
    sheet = make_sheet(grid, [found])
    assert "paper: Spur." in sheet.header
    (row,) = sheet.rows
    assert row[sheet.header.index("Spur.")] == ""
    assert row[sheet.header.index("paper: Spur.")] == "86.2"
    assert sheet.note.startswith("Spur. and Hall.: the questions carry no subtasks; `avem emorealm subtasks`")
    assert sheet.note in sheet.form("markdown")
    full = RunResult("w/o PMP", 0, dict.fromkeys(grid.columns, 1.0), tmp_path)
    assert make_sheet(grid, [full]).note == ""
