"""The page: what stands on it, and that it works in a browser."""

import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from markupsafe import Markup

from avem.errors import DataError, MissingFileError
from avem.evaluate import write_report
from avem.evaluate.emorealm.cues import cue_records
from avem.evaluate.emorealm.questions import letters
from avem.evaluate.emorealm.results import Item, score_items
from avem.evaluate.emorealm.summary import summarise, to_csv, to_json, to_markdown, to_table
from avem.evaluate.intervals import FEWEST
from avem.evaluate.report.curves import make_panel, smoothed
from avem.evaluate.report.media import frame_strip, wave_path
from avem.records import Question
from tests.evaluate.browser_kit import backgrounds, click, open_on_a_phone_without_scripts
from tests.evaluate.media_kit import write_clip

STRESS, BASIC = "reasoning_stress_video", "reasoning_basic_audio"


def make_items(right_every, clips=6):
    """Two questions a clip; a question is right where its number divides evenly."""
    items = []
    for number in range(2 * clips):
        clip, yes_no = number // 2, number % 2 == 0
        choices = ("(A) Yes", "(B) No") if yes_no else ("(A) a sob", "(B) a <laugh>", "(C) rain", "(D) a sigh")
        task, extra = (STRESS, {"subtask": "spurious"}) if yes_no else (BASIC, {})
        question = Question(f"q{number}", f"clips/{clip}.mp4", task, "What & why?", choices, "AB"[clip % 2], extra)
        if number == 2 * clips - 1:
            items.append(Item(question, absent="no clip in the store"))
            continue
        right = number % right_every == 0
        best = question.answer if right else next(x for x in letters(question) if x != question.answer)
        logprobs = tuple(-1.0 if letter == best else -3.0 for letter in letters(question))
        reply, letter = (f"({best})", best) if number % 3 else ("no idea", None)
        items.append(
            Item(question, f"demo/{clip}", f"clips/{clip}.mp4", "", logprobs, reply, letter, tuple(reversed(logprobs)))
        )
    return items


@pytest.fixture
def results(tmp_path):
    about = {"style": "letters", "store": {"path": "./cache", "clips": 6, "roots": {"demo": str(tmp_path)}}}
    base = score_items(make_items(3), resamples=100, name="base", model={"source": "runs/base"}, **about)
    return [base, score_items(make_items(1), resamples=100, name="trained", model={"source": "runs/new"}, **about)]


def make_run_folder(folder):
    run = folder / "runs" / "avem-dpo"
    run.mkdir(parents=True)
    lines = [{"step": step, "loss": 1 / step, "margin": step - 3.0, "reward_w": 0.1 * step} for step in range(1, 21)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return run


@pytest.fixture
def run_folder(tmp_path):
    return make_run_folder(tmp_path)


@pytest.fixture
def page(tmp_path, results, run_folder):
    write_clip(tmp_path / "clips" / "0.mp4")
    return write_report(tmp_path / "report.html", results, [run_folder], resamples=100)


class Reader(HTMLParser):
    """Collects what a page would fetch, and whether every element is closed."""

    def __init__(self):
        super().__init__()
        self.addresses, self.open = [], []

    def handle_starttag(self, tag, attrs):
        self.addresses += [value for name, value in attrs if name in ("src", "href") and value]
        if tag not in {"meta", "link", "img", "input", "br"}:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_page_is_whole_and_asks_nothing_of_the_network(page):
    text = page.read_text()
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    assert [address for address in reader.addresses if not address.startswith(("data:", "clips/", "#"))] == []
    assert all(f'id="{address[1:]}"' in text for address in reader.addresses if address.startswith("#"))
    assert "http" not in text.replace("http-equiv", "")
    assert "a &lt;laugh&gt;" in text
    assert "What &amp; why?" in text
    assert text.count("<article") == 6 + 3, "a card a clip, and one for each case"
    assert "data:image/jpeg;base64," in text
    assert 'href="clips/0.mp4"' in text
    assert "1 of 12 questions has no answer" in text
    assert "trained against base" in text
    assert "AVEm-DPO" in text, "the paper's figures"
    assert text.count("<small>paper</small>") == 23
    assert text.count("<small>this run</small>") == 2


def test_page_shows_auc_by_kind_of_cue(page, results):
    table = page.read_text().partition('id="cues"')[2].partition("</table>")[0]
    assert "spurious" in table
    assert "3 yes, 3 no" in table
    for record in cue_records(results):
        assert record["yes_n"] + record["no_n"] < FEWEST
        assert f"<td>{record['auc']:.1f}<small>too few</small></td>" in table


def test_page_with_one_result_read_from_disk(tmp_path, results):
    results[0].write(tmp_path / "bench" / "result.json")
    page = write_report(tmp_path / "out" / "one.html", [tmp_path / "bench"], paper=False, pictures=0)
    text = page.read_text()
    assert "AVEm-DPO" not in text
    assert "<img" not in text


def test_bad_input(tmp_path, results):
    with pytest.raises(DataError, match="at least one"):
        write_report(tmp_path / "a.html", [])
    with pytest.raises(MissingFileError, match="avem bench"):
        write_report(tmp_path / "a.html", [tmp_path / "none"])
    with pytest.raises(MissingFileError, match=r"metrics.jsonl"):
        write_report(tmp_path / "a.html", results, [tmp_path])
    (tmp_path / "result.json").write_text('{"format": "other"}')
    with pytest.raises(DataError, match="not a bench result"):
        write_report(tmp_path / "a.html", [tmp_path])
    assert not (tmp_path / "a.html").exists()


def test_summary_by_hand(results):
    rows = summarise(results, resamples=100)
    assert [(row.task, row.metric) for row in rows] == [(BASIC, "accuracy"), (STRESS, "f1"), ("average", "accuracy")]
    basic, stress, average = rows
    assert basic.values[1].value == pytest.approx(100 * 5 / 6)  # all but the one without a clip
    assert basic.values[0].value == pytest.approx(100 * 2 / 6)  # numbers 3 and 9
    assert basic.deltas[1].difference == pytest.approx(50)
    assert basic.deltas[1].p == pytest.approx(2 * 0.5**3)
    assert stress.values[1].value == 100
    assert (basic.chance, stress.chance, average.chance) == (25, 50, 37.5)
    assert average.deltas[0] is None


def test_tables(results):
    rows, names = summarise(results, resamples=50), ["base", "tr|ained"]
    markdown = to_markdown(rows, names).splitlines()
    assert len(markdown) == 5
    assert "tr\\|ained" in markdown[0]
    assert "83.3 (too few)" in markdown[2]
    assert len(to_csv(rows, names).splitlines()) == 7
    assert json.loads(to_json(rows, names))["rows"][0]["task"] == BASIC
    assert len(to_table(rows, names).rows) == 3


def test_pictures():
    frames = np.zeros((4, 50, 100, 3), np.uint8)
    uri, width, height = frame_strip(frames)
    assert (width, height) == (4 * 216, 108)
    assert uri.startswith("data:image/jpeg")
    assert wave_path(np.zeros(0, np.float32)) == ""
    assert wave_path(np.array([1.0, -1.0], np.float32)) == "M0.5 0.00V0.01M1.5 2.00V2.01"


def test_curves():
    assert smoothed(np.array([np.nan, 2.0, 2.0])).tolist()[1:] == [2.0, 2.0]
    panel = make_panel("Loss", np.arange(1.0, 4.0), {"loss": np.array([1.0, np.nan, -1.0])})
    assert panel.curves[0].raw == "M0.0 4.5L300.0 95.5"
    assert panel.zero == pytest.approx(50)
    assert (panel.low, panel.high, panel.steps) == ("\N{MINUS SIGN}1", "1", 3)


def visible(browser):
    script = "return [...document.querySelectorAll('.question')].filter(q => q.offsetParent !== null).map(q => q.id)"
    return browser.execute_script(script)


def test_page_in_a_browser(browser, page):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import Select, WebDriverWait

    browser.get(page.as_uri())
    assert browser.find_element(By.TAG_NAME, "h1").text == "trained against base"
    assert len(browser.find_elements(By.CSS_SELECTOR, ".plot .row")) == 3
    assert len(browser.find_elements(By.CSS_SELECTOR, "#details tbody tr")) == 4
    assert len(browser.find_elements(By.CSS_SELECTOR, ".panel svg path.smooth")) == 3
    picture = browser.find_element(By.CSS_SELECTOR, ".clip img")
    browser.execute_script("arguments[0].scrollIntoView()", picture)
    WebDriverWait(browser, 5).until(lambda _: int(picture.get_property("naturalWidth")) == 4 * 108)
    assert len(visible(browser)) == 12

    form = browser.find_element(By.ID, "filters")
    Select(form.find_element(By.NAME, "task")).select_by_value(STRESS)
    assert len(visible(browser)) == 6
    Select(form.find_element(By.NAME, "outcome")).select_by_value("gained")
    assert set(visible(browser)) == {"q-q2", "q-q4", "q-q8", "q-q10"}
    assert browser.find_element(By.ID, "shown").text == "4 of 12 questions"
    click(browser, form.find_element(By.CSS_SELECTOR, "button[type=reset]"))
    WebDriverWait(browser, 5).until(lambda _: len(visible(browser)) == 12)
    click(browser, form.find_element(By.NAME, "differs"))
    assert set(visible(browser)) == {"q-q0", "q-q3", "q-q6", "q-q9"}
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_page_by_keyboard(browser, page):
    from selenium.webdriver import ActionChains, Keys
    from selenium.webdriver.support.ui import WebDriverWait

    def press(keys):
        ActionChains(browser).send_keys(keys).perform()
        return browser.switch_to.active_element

    browser.get(page.as_uri())
    order = visible(browser)
    assert press("jj").get_attribute("id") == order[1]
    assert press("k").get_attribute("id") == order[0]
    assert press("/").get_attribute("name") == "text"
    press("jk laugh")  # letters typed there move nothing
    WebDriverWait(browser, 5).until(lambda _: visible(browser) == [])
    press(Keys.BACKSPACE * 8)
    WebDriverWait(browser, 5).until(lambda _: len(visible(browser)) == 12)


def test_clip_beside_the_page_is_played(browser, page):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    browser.get(page.as_uri())
    assert browser.find_elements(By.TAG_NAME, "video") == [], "nothing is loaded before it is asked for"
    link = browser.find_element(By.CSS_SELECTOR, "a.play")
    assert link.text == "▶ demo/0"
    browser.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", link)
    click(browser, link)
    video = browser.find_element(By.TAG_NAME, "video")
    assert video.get_attribute("src").endswith("/clips/0.mp4")
    WebDriverWait(browser, 5).until(
        lambda _: browser.execute_script("return arguments[0].readyState > 0 || !arguments[0].isConnected", video)
    )


def test_page_fits_a_phone_and_reads_without_scripts(browser, page):
    open_on_a_phone_without_scripts(browser, page)
    assert browser.execute_script("return document.documentElement.scrollWidth") == 375
    assert len(visible(browser)) == 12
    assert browser.execute_script("return document.getElementById('filters').hidden")


def test_page_is_light_or_dark_as_the_reader_prefers(browser, page):
    assert backgrounds(browser, page) == ["rgb(246, 246, 243)", "rgb(18, 20, 23)"]


def test_templates_travel_with_the_package():
    import avem.evaluate

    folder = Path(avem.evaluate.__path__[0]) / "templates"
    assert {"report.html.jinja", "report.css", "report.js"} <= {path.name for path in folder.iterdir()}


def test_other_pages_fit_a_phone(browser, tmp_path):
    """Recognition and probe pages share the style; neither asks anything of the network."""
    from avem.evaluate.page import page_environment
    from avem.evaluate.probes.cases import Case
    from avem.evaluate.probes.densities import Sample, density_svg
    from avem.evaluate.recognition.report import write_recognition_report
    from avem.evaluate.recognition.results import LabelItem, RecognitionResult, score_clips
    from avem.evaluate.sheets import Sheet

    classes = ("happiness", "anger")
    items = [LabelItem(f"ravdess/{n}", f"{n}.mp4", classes[n % 2], "", "", (-1.0, -2.0), "sad", None) for n in range(6)]
    scores = score_clips(items, classes, resamples=20)
    result = RecognitionResult("small", "ravdess", "audio", classes, tuple(items), scores)
    svg = density_svg([Sample("own", np.arange(5.0), "own")], "shift", "nats")
    sheet = Sheet("Numbers", ("model", "n"), (("small", "5"),), ({"model": "small", "n": 5},))
    probe = (
        page_environment()
        .get_template("probe.html.jinja")
        .render(
            title="Swap",
            lede="Why.",
            sheet=sheet,
            pictures=[Markup(svg)],
            bars=[("all", 60.0)],
            cases=[Case("q", "a.mp4", "b.mp4", "audio", "A long question? " * 9, "a sob", (("m", "a sob", "rain"),))],
            left_out={"q": "no"},
            few=True,
            fewest=FEWEST,
            version="0",
        )
    )
    (tmp_path / "probe.html").write_text(probe)
    size = {"width": 375, "height": 700, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    for page, pictures in ((write_recognition_report(tmp_path / "r.html", [result]), 2), (tmp_path / "probe.html", 1)):
        browser.get(page.as_uri())
        assert browser.execute_script("return document.documentElement.scrollWidth") == 375
        assert browser.execute_script("return document.querySelectorAll('figure svg').length") == pictures
        assert "http" not in page.read_text().replace("http://www.w3.org/2000/svg", "")
        assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
