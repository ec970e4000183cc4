"""Hostile questions, replies and names through every page, the survey in a real browser, and the commands."""

from __future__ import annotations

import html.parser
import json
import logging
import re

import numpy as np
import pytest
from typer.testing import CliRunner

from avem.cli import app
from avem.errors import DataError
from avem.evaluate import write_report
from avem.evaluate.emer.bench import EmerResult
from avem.evaluate.emer.report import write_emer_report
from avem.evaluate.emer.rubric import load_rubric
from avem.evaluate.emorealm.results import Item, score_items
from avem.evaluate.emorealm.summary import summarise, to_csv
from avem.evaluate.probes.densities import Sample, density_svg
from avem.evaluate.recognition.confusion import confusion_svg
from avem.evaluate.recognition.report import write_recognition_report
from avem.evaluate.recognition.results import LabelItem, RecognitionResult, score_clips
from avem.records import Question
from avem.text.escaping import CONTROL, page_text
from avem.text.pages import make_environment
from avem.text.terminal import PlainFormatter
from avem.tools.prefs.survey.pages import SurveyOptions, make_survey
from avem.tools.prefs.survey.votes import read_verdicts
from tests.evaluate.browser_kit import click
from tests.hostile_kit import HOSTILE
from tests.table_kit import read_csv

each = pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
ALL = " ".join(HOSTILE.values())
FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


class Page(html.parser.HTMLParser):
    """The scripts, handlers and visible words of a page."""

    def __init__(self, text):
        super().__init__()
        self.scripts, self.handlers, self.words = 0, [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.scripts += tag == "script"
        self.handlers += [name for name, _ in attributes if name.startswith("on")]

    def handle_data(self, data):
        self.words.append(data)


def hostile_question(text, number=0):
    return Question(f"q{number}{text}", f"clips/{text}.mp4", f"task {text}", text, (f"(A) {text}", "(B) no"), "A")


def hostile_result(text, name=None):
    items = [
        Item(hostile_question(text, 0), clip_id=text, clip_path=f"{text}.mp4", reply=text, reply_letter="A"),
        Item(hostile_question(text, 1), absent=f"refused: {text}"),
    ]
    return score_items(items, name=name or f"model {text}", resamples=5)


def pages_of(text, folder):
    """Every page that shows texts of data or of models, by name."""
    folder.mkdir(exist_ok=True)
    rubric = load_rubric()
    grades = {name: 3 for name in rubric.names} | {f"{name}_reason": text for name in rubric.names}
    item = {"id": text, "reference": text, "candidate": text, "grades": grades}
    failed = {"id": "b", "reference": text, "candidate": text, "grades": None, "problem": text}
    means = {name: {"mean": 3.0} for name in rubric.names}
    emer = EmerResult(text, text, "0", rubric.titles, means, (item, failed), (), ("b",), {})
    labels = (LabelItem(text, text, "angry", text, "", None, text, "angry"), LabelItem("b", text, "sad", "", text))
    classes = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
    classes = tuple(dict.fromkeys(("angry", "sad", *classes)))
    recognition = RecognitionResult(
        text,
        "ravdess",
        "video",
        classes,
        labels,
        score_clips(labels, classes, resamples=5),
        prompt=text,
    )
    write_report(folder / "report.html", [hostile_result(text), hostile_result(text, "other")], title=text, resamples=5)
    write_emer_report(folder / "emer.html", emer, rubric)
    write_recognition_report(folder / "recognition.html", [recognition])
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("text", [ALL, HOSTILE["script"], HOSTILE["nul"]], ids=["all", "script", "nul"])
def test_pages_show_hostile_texts_as_text(text, tmp_path):
    calm, hostile = pages_of("calm", tmp_path / "calm"), pages_of(text, tmp_path / "hostile")
    assert len(hostile) == len(calm) == 4
    pages = {name: Page(calm[name]) for name in ("report.html", "emer.html", "recognition.html")}
    for name, before in pages.items():
        assert not FORBIDDEN.search(hostile[name])
        after = Page(hostile[name])
        assert (after.scripts, after.handlers) == (before.scripts, before.handlers)
        shown = "".join("".join(after.words).split())
        assert "".join(page_text(text).split()) in shown, name


@each
def test_pictures_are_well_formed(text):
    import xml.etree.ElementTree as ET

    ET.fromstring(confusion_svg([[1, 0]], [text], text))
    ET.fromstring(density_svg([Sample(text, np.array([0.0, 1.0, 2.0]), "own")], text, text))


def test_every_template_uses_the_environment_that_escapes():
    for package in ("avem.evaluate", "avem.cache.negatives"):
        environment = make_environment(package)
        assert environment.from_string("{{ x }}").render(x="<b>\x00\x1b") == "&lt;b&gt;\ufffd\ufffd"


@pytest.mark.slow
def test_reports_run_nothing_in_a_browser(browser, tmp_path):
    pages_of(ALL, tmp_path / "all")
    for page in ("report", "emer", "recognition"):
        browser.get((tmp_path / "all" / f"{page}.html").as_uri())
        assert browser.title != "broken", page
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def survey_of(text, folder, **changes):
    entries = [
        {
            "id": f"{number}",
            "video": "",
            "task": text,
            "question": f"{text} {number}",
            "choices": [f"(A) {text}", "(B) no"],
            "answer": "A",
        }
        for number in range(2)
    ]
    source = folder / "benchmark.json"
    source.write_text(json.dumps(entries))
    make_survey(SurveyOptions(source=source, out=folder / "survey", votes=1, attention_every=0, **changes))
    return folder / "survey"


@pytest.mark.slow
@pytest.mark.parametrize("text", [ALL, HOSTILE["comment"]], ids=["all", "comment"])
def test_the_survey_works_whatever_it_asks(browser, text, tmp_path):
    from selenium.webdriver.common.by import By

    survey = survey_of(text, tmp_path)
    browser.get(f"{(survey / 'index.html').as_uri()}?annotator=\u00e4nn \U0001f600&booklet=1")
    browser.execute_script("localStorage.clear()")
    click(browser, browser.find_element(By.CSS_SELECTOR, "#who button"))
    key = json.loads((survey / "key.json").read_text())
    questions = {item["id"]: item["question"] for item in key["items"]}
    for name in key["booklets"][0]:
        assert browser.execute_script("return document.getElementById('question').textContent") == questions[name]
        choice = browser.execute_script("return document.querySelector('#options label').textContent")
        assert choice == f"1 (A) {text}"
        browser.execute_script("choose(0); move(1)")
    assert browser.find_element(By.ID, "end").is_displayed()
    assert browser.title == "Survey"
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
    saved = tmp_path / "answers.json"
    saved.write_text(json.dumps(browser.execute_script("return sealed(state)")))
    assert read_verdicts(survey, [saved]).groups[-1].majority_correct == 2
    saved.write_text(saved.read_text().replace('"choice": 0', '"choice": 1', 1))
    with pytest.raises(DataError, match=r"answers\.json is damaged"):
        read_verdicts(survey, [saved])


@each
def test_label_studio_gets_text_not_html(text, tmp_path):
    survey = survey_of(text, tmp_path, label_studio=True)
    tasks = json.loads((survey / "tasks.json").read_text())
    page = Page(tasks[0]["data"]["options"][0]["html"])
    assert (page.scripts, page.handlers) == (0, [])
    assert "".join(page.words) == page_text(f"(A) {text}")


def test_a_damaged_key_is_refused(tmp_path):
    survey = survey_of("calm", tmp_path)
    path = survey / "key.json"
    whole = path.read_text()
    saved = tmp_path / "saved.json"
    saved.write_text(json.dumps({"survey": json.loads(whole)["survey"], "annotator": "a", "answers": {}}))
    read_verdicts(survey, [saved])
    path.write_text(whole.replace('"expected": 0', '"expected": 1', 1))
    with pytest.raises(DataError, match=r"key\.json is damaged"):
        read_verdicts(survey, [saved])
    for other in ("[]", "{}", '{"items": 3}', '{"items": [3], "survey": "a", "source": "b"}', "[" * 10_000):
        path.write_text(other)
        with pytest.raises(DataError, match=r"key\.json"):
            read_verdicts(survey, [saved])


@pytest.mark.parametrize(
    "odd",
    [
        '{"annotator": ["a"], "answers": {"0": {"choice": Infinity}}}',
        '{"annotator": "a", "answers": {"0": {"choice": [1]}}}',
        '{"annotator": "a", "answers": []}',
        '[{"annotations": [{"result": [{"from_name": "choice", "value": {"choices": []}}]}], "data": {"item": "0"}}]',
        "[" * 10_000,
        '[{"annotations": 3}]',
    ],
)
def test_odd_votes_are_one_sentence(odd, tmp_path):
    survey = survey_of("calm", tmp_path)
    saved = tmp_path / "saved.json"
    number = json.loads((survey / "key.json").read_text())["survey"]
    saved.write_text(odd.replace("{", f'{{"survey": "{number}", ', 1) if odd.startswith("{") else odd)
    with pytest.raises(DataError, match=r"saved\.json"):
        read_verdicts(survey, [saved])


@pytest.mark.parametrize("form", ["", "--csv", "--markdown", "--latex", "--json"])
def test_bench_shows_hostile_names_as_text(form, tmp_path, caplog):
    text = "".join(text for text in HOSTILE.values() if "/" not in text and "\x00" not in text)
    question = hostile_question(text)
    (tmp_path / "questions.json").write_text(json.dumps([question.to_json()]))
    answers = tmp_path / f"{text}.json"
    answers.write_text(json.dumps({question.id: text, f"stranger {text}": text}))
    command = ["bench", "emorealm", "--questions", tmp_path / "questions.json", "--answers", answers]
    options = ["--out", tmp_path / "out", *([form] if form else [])]
    with caplog.at_level(logging.INFO):
        shown = CliRunner().invoke(app, [str(word) for word in (*command, *options)], catch_exceptions=False)
    assert shown.exit_code == 0
    assert set(CONTROL.findall(shown.output)) <= {"\n", "\t"}
    for record in caplog.records:
        assert not CONTROL.search(PlainFormatter("%(message)s").format(record))
    folders = [path.name for path in (tmp_path / "out").iterdir() if path.is_dir()]
    assert len(folders) == 1
    assert not CONTROL.search(folders[0])


@each
def test_the_headline_csv_gives_names_back(text):
    results = [hostile_result("calm", text), hostile_result("calm", "other")]
    table = to_csv(summarise(results, resamples=5), [result.name for result in results])
    assert {row["model"] for row in read_csv(table)} == {text, "other"}
    assert not re.search(r'(^|,)"?[=@\t]', table, re.MULTILINE)
