"""Of fewer items than an interval needs, no page writes or draws one: it shows the points."""

from __future__ import annotations

import re

import numpy as np
import pytest

from avem.cache.negatives.report import FEW, histogram_svg
from avem.evaluate import write_report
from avem.evaluate.emer.bench import EmerResult
from avem.evaluate.emer.report import write_emer_report
from avem.evaluate.emer.rubric import grade_means, load_rubric
from avem.evaluate.emorealm.results import score_items
from avem.evaluate.intervals import FEWEST, drawn, range_text
from avem.evaluate.probes.densities import Sample, density_svg
from avem.evaluate.probes.violins import Violin, violin_svg
from avem.evaluate.recognition.report import write_recognition_report
from avem.evaluate.recognition.results import LabelItem, RecognitionResult, score_clips
from tests.evaluate.emer.test_report import make_item
from tests.evaluate.report.test_bench_page import make_items

BETWEEN = re.compile(r"\d\.\d+ to [+\N{MINUS SIGN}]?\d")
"""An interval in words."""


def bench_page(folder, clips):
    chosen = {"base": 3, "new": 1}
    results = [score_items(make_items(n, clips=clips), resamples=100, name=name) for name, n in chosen.items()]
    return write_report(folder / "report.html", results, resamples=100, paper=False, pictures=0)


def recognition_page(folder, clips):
    classes = ("happiness", "anger")
    items = [LabelItem(f"{n}", f"{n}.mp4", classes[n % 2], "", "", (-1.0, -2.0), "", None) for n in range(clips)]
    scores = score_clips(items, classes, resamples=50)
    result = RecognitionResult("small", "ravdess", "audio", classes, tuple(items), scores)
    return write_recognition_report(folder / "recognition.html", [result])


def emer_page(folder, clips):
    rubric = load_rubric()
    items = [{**make_item(number % 9), "id": f"clip{number}"} for number in range(clips)]
    graded = [item["grades"] for item in items]
    means = grade_means(graded, rubric.names, 100)
    titles = {each["name"]: each["title"] for each in rubric.content["criteria"]}
    result = EmerResult("tiny", "judge", rubric.digest, titles, means, tuple(items))
    return write_emer_report(folder / "emer.html", result, rubric)


@pytest.mark.parametrize("write", [bench_page, recognition_page, emer_page])
def test_few_items_have_no_interval_on_the_page(write, tmp_path):
    """The bench's items are two a clip, one of each task; its average is over all of them."""
    few = write(tmp_path / "few", 4).read_text()
    main = few.partition("<main>")[2]
    assert "too few" in few
    assert not BETWEEN.search(re.sub(r"<style>.*?</style>|<script>.*?</script>", "", few, flags=re.DOTALL))
    assert '<i class="span"' not in main
    many = write(tmp_path / "many", 4 * FEWEST).read_text()
    assert BETWEEN.search(many)
    assert "too few clips for" not in many
    assert "too few questions" not in many
    if write is not recognition_page:
        assert '<i class="span"' in many
        assert few.count('<i class="dot"') == many.count('<i class="dot"') > 0


def test_the_rule_is_one_for_terminal_and_pages():
    assert drawn((1.0, 2.0), FEWEST) == (1.0, 2.0)
    assert drawn((1.0, 2.0), FEWEST - 1) is None
    assert range_text((-1.0, 2.0), FEWEST, signed=True) == "\N{MINUS SIGN}1.0 to +2.0"
    assert range_text((None, None), 3) == ""


@pytest.mark.parametrize(("count", "points"), [(FEWEST - 1, True), (FEWEST, False)])
def test_few_values_are_points_and_no_density(count, points):
    values = np.linspace(10.0, 60.0, count)
    density = density_svg([Sample("own", values, "own"), Sample("other", values, "other")], "t", "nats")
    violin = violin_svg([Violin("v", values, "video")], "t", "percent")
    for svg, kind, each in ((density, "own", 1), (density, "other", 1), (violin, "video", 1)):
        assert svg.count(f'<circle class="{kind}"') == each * count * points
        assert (f'<path class="{kind}"' in svg) != points


def test_equal_values_do_not_hide_each_other():
    svg = violin_svg([Violin("v", np.full(3, 40.0), "video")], "t", "percent")
    assert len(set(re.findall(r'<circle class="video" cx="([\d.]+)"', svg))) == 3


@pytest.mark.parametrize("count", [FEW - 1, 4 * FEW])
def test_few_negatives_are_points_inside_the_picture(count):
    values = np.linspace(0.1, 0.9, count, dtype=np.float32)
    svg = histogram_svg(values, np.linspace(0.0, 1.0, 500, dtype=np.float32))
    assert svg.count('<circle class="bar"') == (count if count < FEW else 0)
    assert ("<rect" in svg) == (count >= FEW)
    assert "<polyline" in svg, "there are many pairs"
    places = [float(x) for x in re.findall(r'<circle class="bar" cx="([\d.]+)"', histogram_svg(values[:2], values[:2]))]
    assert all(5 <= x <= 415 for x in places)


def test_long_titles_and_names_are_whole():
    """A title that is wider than the picture, and names of more parts than three."""
    title = "a-model-with-a-long-name: visual questions about what is seen, mean |shift| 0.123 nats"
    svg = density_svg([Sample("own", np.array([1.0, 2.0]), "own")], title, "nats")
    lines = re.findall(r"<text[^>]*>([^<]*)</text>", svg)
    assert " ".join(lines[:2]) == title
    assert all(len(line) <= 64 for line in lines)
    names = violin_svg([Violin("Basic, visual, avem-dpo, video", np.arange(3.0), "video")], title, "percent")
    assert all(f">{part}<" in names for part in ("Basic", "visual", "avem-dpo", "video"))
    width = float(re.search(r'viewBox="0 0 (\d+)', names)[1])
    assert width > 6 * len(title)
