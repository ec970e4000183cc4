"""The page on training runs: curves on common axes, what differs, and what can't be drawn."""

import json
from html.parser import HTMLParser

import numpy as np
import pytest
from typer.testing import CliRunner

from avem.cli import app
from avem.errors import DataError, MissingFileError
from avem.evaluate.report.curves import compare, make_panel
from avem.evaluate.report.runs import distinct_names, write_run_report
from avem.evaluate.report.wording import COMPARED, NATS, PANELS, says


class Cells(HTMLParser):
    """Collects the tables' rows and counts the curves."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.paths, self._open, self._closed = [], 0, False, False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag == "tr":
            self.rows.append([])
        self._closed = self._closed and tag != "tr"
        self._open = tag in ("td", "th", "span")
        self.paths += tag == "path"
        assert tag not in ("script", "img", "iframe")
        assert dict(attrs).get("href", "data:,") == "data:,"

    def handle_endtag(self, tag):
        self._open = False
        self._closed = self._closed or tag == "tr"

    def handle_data(self, data):
        if self._open and self.rows and not self._closed:
            self.rows[-1].append(data)


def make_run(place, steps, slope, *, finished=True, **settings):
    place.mkdir(parents=True)
    lines = [
        {"step": step, "loss": slope / step, "rows_per_s": 2.0, **({"held_loss": slope} if step == 3 else {})}
        for step in range(1, steps + 1)
    ]
    (place / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (place / "config.json").write_text(json.dumps({"settings": {"seed": 0, "out": str(place), **settings}}))
    if finished:
        (place / "final").mkdir()
    return place


@pytest.fixture
def runs(tmp_path):
    one = make_run(tmp_path / "a" / "run", 20, 1.0, beta=0.1, gamma_tpd=0.2)
    return [one, make_run(tmp_path / "b" / "run", 5, 4.0, beta=0.1, gamma_tpd=0.0, finished=False)]


def test_runs_are_compared(runs, tmp_path):
    text = write_run_report(tmp_path / "page.html", runs).read_text()
    page = Cells(text)
    assert "<h1>2 runs</h1>" in text
    assert "a/run: 20 steps; b/run: 5 steps, not finished." in text
    assert ["Option", "a/run", "b/run"] in page.rows
    differing = [row for row in page.rows if row[0] in ("gamma_tpd", "beta", "out")]
    assert differing == [["gamma_tpd", "0.2", "0.0"], ["beta", "0.1", "0.1"], ["gamma_tpd", "0.2", "0.0"]]
    assert ["Loss, held-out clips", "1", "4"] in page.rows
    assert ["Rows a second", "2", "2"] in page.rows
    lines = 2 * (2 + 2) + 2 * (2 + 2)  # thin and thick: two metrics of two runs, together and alone
    assert page.paths == lines + 2 * 3  # dots where there are few: both held-out losses and the loss of five steps


def test_one_run_stands_alone_and_results_are_told_from_runs(runs, tmp_path):
    out = tmp_path / "one.html"
    told = CliRunner().invoke(app, ["report", str(runs[0]), "--out", str(out), "--title", "A <run>"])
    assert told.exit_code == 0, told.output
    text = out.read_text()
    assert "<h1>run</h1>" in text
    assert "A &lt;run&gt;" in text
    assert "Compared" not in text


def test_axes_span_all_runs():
    long, short = np.arange(1.0, 5.0), np.arange(1.0, 3.0)
    panel = compare("Loss", {"long": (long, np.array([1.0, 1.0, 1.0, 1e-9])), "short": (short, np.array([2.0, 2.0]))})
    assert panel.curves[1].raw.startswith("M0.0 ")
    assert panel.curves[1].raw.split("L")[1].startswith("100.0 ")
    assert (panel.low, panel.high, panel.steps) == ("0", "2", 4)
    alone = compare("Held", {"once": (long, np.array([np.nan, 3.0, np.nan, np.nan]))})
    assert alone.curves[0].raw == alone.curves[0].smooth == alone.curves[0].dots == "M100.0 50.0h0"
    many = compare("Loss", {"loss": (np.arange(1.0, 21.0), np.arange(20.0))})
    assert many.curves[0].dots == ""


def test_a_drop_of_log_probability_is_also_shown_as_a_ratio():
    steps, values = np.arange(1.0, 3.0), np.array([np.nan, 0.133])
    panel = make_panel("log p(answer) lost on other input", steps, {"reliance_audio": values})
    assert (panel.curves[0].name, panel.curves[0].last) == (
        "another clip's audio",
        "0.133 nats (1.14 times as probable)",
    )
    panel = make_panel("log p(answer) lost on other input", steps, {"reliance_audio": np.array([0.0, -0.0001])})
    assert panel.curves[0].last.endswith("nats (as probable)")
    assert make_panel("Loss", steps, {"loss": values}).curves[0].last == "0.133"


def test_every_panel_of_training_has_its_sentence():
    titles = [title for title, _ in PANELS] + list(COMPARED.values())
    assert [title for title in titles if not says(title).endswith(".")] == []
    assert {metric for metric in NATS} <= COMPARED.keys()


def test_names_tell_runs_apart(runs, tmp_path):
    assert distinct_names(runs) == ["a/run", "b/run"]
    assert distinct_names([runs[0], runs[0]]) == ["run (1)", "run (2)"]


def test_what_can_not_be_drawn_is_refused(tmp_path):
    with pytest.raises(MissingFileError, match="give run directories"):
        write_run_report(tmp_path / "page.html", [tmp_path])
    with pytest.raises(DataError, match="at least one"):
        write_run_report(tmp_path / "page.html", [])
    (tmp_path / "metrics.jsonl").write_text("")
    with pytest.raises(DataError, match="no step yet"):
        write_run_report(tmp_path / "page.html", [tmp_path])
    assert not (tmp_path / "page.html").exists()


def test_a_reward_on_the_wrong_side_of_zero_is_a_warning(tmp_path):
    run = make_run(tmp_path / "run", 10, 1.0, rejected="weighted")
    steps = [{"step": n, "loss": 1.0, "reward_w": 2.0, "reward_vr": -9.0, "reward_er": 0.8} for n in range(1, 11)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(step) + "\n" for step in steps))
    page = write_run_report(tmp_path / "page.html", [run]).read_text()
    assert "Warning, run: The reward of the emotion-relevant rejected answer ends at 0.80, above 0" in page
    assert "rejected=each" in page
    cells = Cells(page).rows
    assert ["Reward of the chosen answer", "2"] in cells
    assert ["Reward of the emotion-relevant rejected answer", "0.8"] in cells
