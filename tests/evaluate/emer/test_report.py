"""The page of an EMER result: what stands on it, and that it works in a browser."""

import json

import pytest
from typer.testing import CliRunner

from avem.commands.bench.app import bench_app
from avem.errors import DataError
from avem.evaluate.emer.bench import EmerResult
from avem.evaluate.emer.report import bands_of, cards_of, criteria_of, write_emer_report
from avem.evaluate.emer.rubric import grade_means, load_rubric
from tests.endpoint_kit import stand_in
from tests.evaluate.browser_kit import backgrounds, click, open_on_a_phone_without_scripts

RUBRIC = load_rubric()
CLUE, LABEL, *_ = RUBRIC.names
REASON = 'It leaves out <the sigh> & the "broken" voice.'


def make_item(number):
    """Clip 0 is graded 1 everywhere, clip 1 2 and so on; the criterion of cues one better."""
    values = {name: number + 1 + (name == CLUE) for name in RUBRIC.names}
    given = {**values, **{f"{name}_reason": REASON for name in RUBRIC.names}}
    texts = {"reference": f"She frowns {number} times and sighs.", "candidate": "A sad woman: <b>slow</b> words."}
    return {"id": f"clip{number}", **texts, "grades": given}


@pytest.fixture
def result():
    items = [make_item(number) for number in (8, 0, 4)]
    worst = dict.fromkeys(RUBRIC.names, RUBRIC.low)
    items.append(
        {
            "id": "silent",
            "reference": "A sob.",
            "candidate": None,
            "grades": worst,
            "problem": "the model gave no description",
        }
    )
    items.append({"id": "odd", "reference": "A cry.", "candidate": "?", "grades": None, "problem": "it is not JSON"})
    counted = [item["grades"] for item in items if item["grades"]]
    means = grade_means(counted, RUBRIC.names, resamples=100)
    tokens = {"input": 12345, "output": 678}
    return EmerResult(
        "mine", "a judge", RUBRIC.digest, RUBRIC.titles, means, tuple(items), ("silent",), ("odd",), tokens
    )


@pytest.fixture
def page(tmp_path, result):
    return write_emer_report(tmp_path / "report.html", result, RUBRIC)


def test_numbers_of_the_page(result):
    clue, label = criteria_of(result, RUBRIC)[:2]
    assert label.mean == pytest.approx((9 + 1 + 5 + 1) / 4)
    assert label.position == pytest.approx(100 * (4 - 1) / 9)
    assert label.counts == (2, 0, 0, 0, 1, 0, 0, 0, 1, 0), "the clip without a description counts, with the worst grade"
    assert clue.counts == (1, 1, 0, 0, 0, 1, 0, 0, 0, 1)
    assert label.interval == (result.means[LABEL]["low"], result.means[LABEL]["high"])
    assert [card.id for card in cards_of(result, RUBRIC)] == ["clip0", "clip4", "clip8", "silent", "odd"]
    assert cards_of(result, RUBRIC)[0].mean == pytest.approx((2 + 1 + 1 + 1) / 4)
    assert bands_of(RUBRIC) == [("low", "1 to 3"), ("middle", "4 to 6"), ("high", "7 to 10")]


def test_page_without_intervals_and_with_another_scale(tmp_path, result):
    content = {**RUBRIC.content, "low": 0, "high": 2}
    small = type(RUBRIC)(content)
    assert bands_of(small) == [("low", "0"), ("middle", "1"), ("high", "2")]
    bare = {name: {"mean": mean["mean"]} for name, mean in result.means.items()}
    plain = EmerResult("mine", "a judge", "d", RUBRIC.titles, bare, result.items, ("silent",), ("odd",))
    assert "95 % interval" not in write_emer_report(tmp_path / "p.html", plain, RUBRIC).read_text()


def test_rubrics_whose_scale_has_no_length(tmp_path):
    (tmp_path / "rubric.json").write_text(json.dumps({**RUBRIC.content, "high": 1}))
    with pytest.raises(DataError, match="its scale no length"):
        load_rubric(tmp_path / "rubric.json")


def test_words_are_shown_as_they_are(page):
    text = page.read_text()
    assert "&lt;b&gt;slow&lt;/b&gt;" in text
    assert "It leaves out &lt;the sigh&gt; &amp; the &#34;broken&#34; voice." in text
    assert "<b>slow</b>" not in text
    assert "1 of 5 clips has no description; the worst grade counts." in text
    assert "1 of 5 descriptions got no grades" in text
    assert "12,345 tokens read" in text
    assert "http" not in text


def test_command_writes_the_page(tmp_path):
    (tmp_path / "refs.jsonl").write_text(json.dumps({"id": "a", "reference": "A sigh."}) + "\n")
    (tmp_path / "mine.json").write_text(json.dumps({"a": "A sad sigh."}))
    with stand_in(lambda body: json.dumps(make_item(6)["grades"])) as served:
        given = ("--references", tmp_path / "refs.jsonl", "--answers", tmp_path / "mine.json")
        paths = (*given, "--out", tmp_path / "out")
        who = ("--judge", "j", "--endpoint", served.endpoint)
        shown = CliRunner().invoke(bench_app, ["emer", *map(str, paths), *who], catch_exceptions=False)
    place = tmp_path / "out" / "emer" / "mine" / "report.html"
    assert "The report is" in shown.stdout
    assert "report.html" in "".join(shown.stdout.split())
    assert "A sad sigh." in place.read_text()


def visible(browser):
    script = "return [...document.querySelectorAll('.question')].filter(q => q.offsetParent !== null).map(q => q.id)"
    return browser.execute_script(script)


def severe(browser):
    return [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def test_page_in_a_browser(browser, page):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import Select, WebDriverWait

    browser.get(page.as_uri())
    assert browser.find_element(By.TAG_NAME, "h1").text == "mine"
    assert len(browser.find_elements(By.CSS_SELECTOR, ".plot .row")) == 4
    assert browser.find_element(By.ID, "shown").text == "5 clips"
    form = browser.find_element(By.ID, "filters")
    Select(form.find_element(By.NAME, "outcome")).select_by_value(f"{CLUE}-low")
    assert visible(browser) == ["q-clip0"]
    Select(form.find_element(By.NAME, "outcome")).select_by_value(f"{LABEL}-high")
    assert visible(browser) == ["q-clip8"]
    assert browser.find_element(By.ID, "shown").text == "1 of 5 clips"
    click(browser, form.find_element(By.CSS_SELECTOR, "button[type=reset]"))
    WebDriverWait(browser, 5).until(lambda _: len(visible(browser)) == 5)
    click(browser, form.find_element(By.NAME, "differs"))
    assert visible(browser) == ["q-silent", "q-odd"]
    assert severe(browser) == []


def test_page_by_keyboard(browser, page):
    from selenium.webdriver import ActionChains
    from selenium.webdriver.support.ui import WebDriverWait

    def press(keys):
        ActionChains(browser).send_keys(keys).perform()
        return browser.switch_to.active_element

    browser.get(page.as_uri())
    assert press("jj").get_attribute("id") == "q-clip4"
    assert press("k").get_attribute("id") == "q-clip0"
    assert press("/").get_attribute("name") == "text"
    press("frowns 8")
    WebDriverWait(browser, 5).until(lambda _: visible(browser) == ["q-clip8"])


def test_page_fits_a_phone_reads_without_scripts_and_follows_the_readers_colours(browser, page):
    open_on_a_phone_without_scripts(browser, page)
    assert browser.execute_script("return document.documentElement.scrollWidth") == 375
    assert len(visible(browser)) == 5
    assert browser.execute_script("return document.getElementById('filters').hidden")
    assert backgrounds(browser, page) == ["rgb(246, 246, 243)", "rgb(18, 20, 23)"]
