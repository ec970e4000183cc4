"""The emotion-wheel metric against small tables that are worked out by hand, from CSV and from Excel files."""

import csv

import pytest
from openpyxl import Workbook
from typer.testing import CliRunner

from avem.cli import app
from avem.errors import DataError, MissingFileError
from avem.evaluate.openset.runner import submission
from avem.evaluate.openset.wheels import label_list, read_wheels, wheel_scores

FORMAT = [("name", "format"), ("joy", "joyful,joyous"), ("anger", "angered,angry"), ("rage", ""), ("calm", "calmly")]
SYNONYM = [
    ("word_run1", "synonym_run1", "word_run2", "synonym_run2"),
    ("happy", "['joy', 'glad']", "happy", "['joy']"),
    ("angry", "['anger']", "mad", "['rage', 'anger']"),
]
FIRST = [("level1", "level2", "level3"), ("good", "happy", "amused"), ("bad", "angry", "mad"), ("", "sad", "tearful")]
OTHER = [("level1", "level2", "level3"), ("up", "happy", "amused"), ("hot", "mad", "furious"), ("cold", "angry", "")]
TABLES = {"format": FORMAT, "synonym": SYNONYM, "wheel1": FIRST, **{f"wheel{n}": OTHER for n in range(2, 6)}}


def written(folder, excel=()):
    folder.mkdir(exist_ok=True)
    for name, rows in TABLES.items():
        if name in excel:
            book = Workbook()
            for row in rows:
                book.active.append([cell or None for cell in row])
            book.save(folder / f"{name}.xlsx")
        else:
            with (folder / f"{name}.csv").open("w", newline="") as file:
                csv.writer(file).writerows(rows)
    return read_wheels(folder)


@pytest.mark.parametrize("excel", [(), ("synonym", "wheel1", "wheel2", "wheel3", "wheel4", "wheel5")])
def test_a_label_goes_three_steps(tmp_path, excel):
    wheels = written(tmp_path / "wheels", excel)
    assert wheels.group("joyous", 0) == "good"  # joyous, joy, happy, good
    assert wheels.group("angered", 0) == "bad"  # anger, then angry or mad: angry is first in the alphabet
    assert wheels.group("angered", 1) == "cold"
    assert wheels.group("rage", 1) == "hot"  # a word is a form of itself
    assert wheels.group("calmly", 0) is None  # calm has no synonym on a wheel
    assert wheels.group("glad", 0) is None  # glad is a synonym, but no form of a word
    assert wheels.inner[0]["tearful"] == "bad"  # an empty cell repeats the one above


def test_scores_by_hand(tmp_path):
    """Wheel 1: a is {good, bad} against {good}, b is {bad} against {bad}. Wheels 2 to 5: b is {cold} against {hot}."""
    wheels = written(tmp_path / "wheels")
    truth = {"a": ["Joy", "angry"], "b": ["anger"], "c": ["calm"]}
    found = wheel_scores(truth, {"a": ["joyful"], "b": ["rage", "unknown"]}, wheels)
    first, second = found["wheels"][:2]
    assert (first["precision"], first["recall"]) == (100.0, 75.0)
    assert first["f1"] == pytest.approx(2 * 100 * 75 / 175)
    assert (second["precision"], second["recall"]) == (50.0, 25.0)
    assert second["f1"] == pytest.approx(2 * 50 * 25 / 75)
    assert found["f1"] == pytest.approx((600 / 7 + 4 * 100 / 3) / 5)
    assert found["n"] == 2
    none = wheel_scores(truth, {}, wheels)
    assert (none["f1"], none["n"]) == (0.0, 2)


def test_lists_in_every_spelling():
    assert label_list("['Happy', \"at ease\"]") == ["happy", "at ease"]
    assert label_list("[a, b,]") == ["a", "b"]
    assert label_list(" ") == []


def test_missing_tables_and_columns_are_named(tmp_path):
    written(tmp_path / "wheels")
    (tmp_path / "wheels/wheel3.csv").unlink()
    with pytest.raises(MissingFileError, match=r"wheel3\.csv or wheel3\.xlsx"):
        read_wheels(tmp_path / "wheels")
    (tmp_path / "wheels/wheel3.csv").write_text("level1,level2\n")
    with pytest.raises(DataError, match="has no column level3"):
        read_wheels(tmp_path / "wheels")


def test_the_command_scores_a_submission(tmp_path):
    written(tmp_path / "wheels")
    truth = {"a": ["joy", "angry"], "b": ["anger"]}
    (tmp_path / "truth.csv").write_text(submission(["a", "b"], truth))
    (tmp_path / "mine.csv").write_text(submission(["a", "b"], {"a": ["joy", "anger"]}))
    arguments = ["bench", "wheels", "--truth", str(tmp_path / "truth.csv"), "--answers", str(tmp_path / "mine.csv")]
    run = CliRunner().invoke(app, [*arguments, "--wheels", str(tmp_path / "wheels"), "--format", "csv"])
    assert run.exit_code == 0, run.output
    head, row = run.output.splitlines()
    values = dict(zip(head.split(","), row.split(","), strict=True))
    assert float(values["f1"]) == pytest.approx(50.0)
    assert float(values["wheel1_f1"]) == pytest.approx(50.0)
