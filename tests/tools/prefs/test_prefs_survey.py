"""The survey: pages without right answers in them, votes read back with majorities and agreement, done by keyboard."""

from __future__ import annotations

import json
import random
import shutil
from collections import Counter

import krippendorff
import pytest

from avem.errors import DataError, MissingFileError, SettingError
from avem.evaluate.emorealm import read_questions
from avem.files import write_json_lines
from avem.records import Modality
from avem.tools.corpus.rows import preferences
from avem.tools.prefs.survey.ballots import Vote, agreement
from avem.tools.prefs.survey.items import ANSWERS
from avem.tools.prefs.survey.pages import SurveyOptions, make_survey
from avem.tools.prefs.survey.votes import keep_verified, read_verdicts
from avem.train.data.rows import read_preferences
from tests.evaluate.browser_kit import click


@pytest.fixture
def rows_file(tmp_path, scenes):
    """One reasoning row of each of twelve clips."""
    rows = [next(row for row in preferences(scene) if row.modality == Modality.VISUAL) for scene in scenes[:12]]
    write_json_lines(tmp_path / "rows.jsonl", (row.to_json() for row in rows))
    return tmp_path / "rows.jsonl"


def made(source, out, **changes):
    make_survey(SurveyOptions(source=source, out=out, **changes))
    return json.loads((out / "key.json").read_text())


def page_data(out):
    page = (out / "index.html").read_text()
    return json.loads(page.partition('type="application/json">')[2].partition("</script>")[0])


def answer_all(key, folder, people, choose):
    """Files as the page saves them: person n answers booklet n."""
    items = {item["id"]: item for item in key["items"]}
    paths = []
    for number, who in enumerate(people):
        answers = {name: choose(who, items[name]) for name in key["booklets"][number]}
        path = folder / f"answers-{who}.json"
        path.write_text(
            json.dumps({"survey": key["survey"], "annotator": who, "booklet": number + 1, "answers": answers})
        )
        paths.append(path)
    return paths


def right(who, item):
    return {"choice": item["expected"]}


def test_each_item_gets_its_votes_and_the_page_holds_no_answer(rows_file, tmp_path):
    key = made(rows_file, tmp_path / "survey", votes=3, per_booklet=10, attention_every=5)
    checks = {item["id"] for item in key["items"] if item["attention"]}
    times = Counter(name for booklet in key["booklets"] for name in booklet if name not in checks)
    assert len(times) == 12 * len(ANSWERS)
    assert set(times.values()) == {3}
    for booklet in key["booklets"]:
        assert len(set(booklet)) == len(booklet) <= 10
        assert len(checks & set(booklet)) == len(booklet) // 5
    data = page_data(tmp_path / "survey")
    shown = json.dumps(data)
    assert "expected" not in shown
    assert not any(kind in shown for kind in (*ANSWERS, "attention"))
    assert set(data["items"]) == set(times) | checks


def test_table_6_from_votes(rows_file, tmp_path):
    key = made(rows_file, tmp_path / "survey", votes=3, per_booklet=100)
    wrong = {item["id"] for item in key["items"] if item["group"] == "chosen"}
    spared = sorted(wrong)[0]

    def choose(who, item):
        if item["id"] in wrong - {spared} and who != "ann":
            return {"choice": (item["expected"] + 1) % 3}
        return {"choice": item["expected"], "problem": "clip" if item["id"] == spared and who != "ann" else ""}

    verdicts = read_verdicts(tmp_path / "survey", answer_all(key, tmp_path, ("ann", "bob", "cyd"), choose))
    groups = {group.group: group for group in verdicts.groups}
    chosen, irrelevant = groups["chosen"], groups["rejected_video_relevant"]
    assert (chosen.verified, chosen.one_correct, chosen.majority_correct) == (12, 12, 1)
    assert (chosen.discrepancies, chosen.final) == (1, 0)
    assert (irrelevant.verified, irrelevant.majority_correct, irrelevant.final) == (12, 12, 12)
    assert groups["total"].verified == 36
    assert keep_verified(tmp_path / "survey", verdicts, tmp_path / "kept.jsonl") == 0


def test_what_is_found_right_is_kept_in_its_form(rows_file, tmp_path, corpus):
    key = made(rows_file, tmp_path / "survey", votes=2, per_booklet=100)
    bad = next(item for item in key["items"] if not item["attention"])

    def choose(who, item):
        return {"choice": (item["expected"] + (item["id"] == bad["id"])) % 3}

    verdicts = read_verdicts(tmp_path / "survey", answer_all(key, tmp_path, ("ann", "bob"), choose))
    assert keep_verified(tmp_path / "survey", verdicts, tmp_path / "kept.jsonl") == 11
    kept = {row.row_id for row in read_preferences(tmp_path / "kept.jsonl")}
    assert kept == {row.row_id for row in read_preferences(rows_file)} - {bad["source"]}
    key = made(corpus.benchmark, tmp_path / "bench", votes=1, per_booklet=1000, media=corpus.root)
    verdicts = read_verdicts(tmp_path / "bench", answer_all(key, tmp_path, ("ann",), right))
    assert keep_verified(tmp_path / "bench", verdicts, tmp_path / "kept.json") == len(read_questions(corpus.benchmark))
    assert read_questions(tmp_path / "kept.json") == read_questions(corpus.benchmark)
    videos = {item["video"] for item in page_data(tmp_path / "bench")["items"].values()} - {""}
    assert videos
    assert all((tmp_path / "bench" / video).is_file() for video in videos)


def test_people_who_fail_the_checks_do_not_count(rows_file, tmp_path):
    key = made(rows_file, tmp_path / "survey", votes=2, per_booklet=100, attention_every=4)

    def choose(who, item):
        return {"choice": (item["expected"] + (who == "bob")) % 3}

    verdicts = read_verdicts(tmp_path / "survey", answer_all(key, tmp_path, ("ann", "bob"), choose))
    assert (verdicts.passed, verdicts.failed) == (("ann",), ("bob",))
    assert verdicts.groups[-1].majority_correct == 36


def test_verified_questions_serve_as_checks(rows_file, corpus, tmp_path):
    key = made(rows_file, tmp_path / "survey", verified=corpus.benchmark, attention_every=3)
    checks = [item for item in key["items"] if item["attention"]]
    questions = {question.id: question for question in read_questions(corpus.benchmark)}
    assert len(checks) == len(questions)
    assert all(questions[check["source"]].answer == "ABCD"[check["expected"]] for check in checks)


def test_alpha_is_the_librarys_and_what_hand_counting_gives():
    table = {"ann": [0, 1, 1, None], "bob": [0, 1, 0, 1], "cyd": [0, 1, None, 1]}
    votes = [
        Vote(who, f"i{n}", choice)
        for who, choices in table.items()
        for n, choice in enumerate(choices)
        if choice is not None
    ]
    # coincidences: i0 gives 3 of (0,0), i1 3 of (1,1), i2 one each of (0,1) and (1,0), i3 2 of (1,1); n0 = 4, n1 = 6
    by_hand = 1 - (2 / 10) / (2 * 4 * 6 / (10 * 9))
    assert agreement(votes) == pytest.approx(by_hand)
    data = [[float("nan") if v is None else v for v in row] for row in table.values()]
    assert agreement(votes) == pytest.approx(krippendorff.alpha(data, level_of_measurement="nominal"))
    assert agreement([Vote("ann", "i0", 1), Vote("bob", "i0", 1)]) is None
    rng = random.Random(0)
    noise = [Vote(f"p{p}", f"i{n}", rng.randrange(3)) for p in range(3) for n in range(300)]
    assert abs(agreement(noise)) < 0.1


def test_label_studio_there_and_back(rows_file, tmp_path):
    key = made(rows_file, tmp_path / "survey", votes=2, per_booklet=1000, attention_every=0, label_studio=True)
    tasks = json.loads((tmp_path / "survey" / "tasks.json").read_text())
    assert len(tasks) == 2 * 36
    assert 'value="$options"' in (tmp_path / "survey" / "labels.xml").read_text()
    items = {item["id"]: item for item in key["items"]}
    for number, task in enumerate(tasks):
        assert [option["html"] for option in task["data"]["options"]] == list(items[task["data"]["item"]]["choices"])
        value = {"choices": [str(items[task["data"]["item"]]["expected"])]}
        result = [{"from_name": "choice", "type": "choices", "value": value}]
        task["annotations"] = [{"completed_by": {"email": f"{number // 36}@x.org"}, "result": result}]
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    total = read_verdicts(tmp_path / "survey", [tmp_path / "export.json"]).groups[-1]
    assert (total.verified, total.majority_correct, total.alpha) == (36, 36, 1.0)


def test_faults_of_surveys_and_answers_are_named(rows_file, tmp_path):
    made(rows_file, tmp_path / "survey")
    (tmp_path / "other.json").write_text('{"survey": "x", "annotator": "a", "answers": {}}')
    with pytest.raises(DataError, match="another survey"):
        read_verdicts(tmp_path / "survey", [tmp_path / "other.json"])
    (tmp_path / "other.json").write_text('{"a": 1}')
    with pytest.raises(DataError, match="not a file of answers"):
        read_verdicts(tmp_path / "survey", [tmp_path / "other.json"])
    with pytest.raises(MissingFileError, match="nothing"):
        read_verdicts(tmp_path / "survey", [tmp_path / "nothing.json"])
    with pytest.raises(SettingError, match="which this command reads"):
        made(rows_file, tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("precious")
    with pytest.raises(SettingError, match="not a survey"):
        made(rows_file, tmp_path / "mine")
    with pytest.raises(MissingFileError, match="--media"):
        made(rows_file, tmp_path / "new", media=tmp_path)
    assert not (tmp_path / "new").exists()
    with pytest.raises(SettingError, match="--votes"):
        SurveyOptions(source=rows_file, out=tmp_path, votes=0)
    with pytest.raises(SettingError, match="--attention-every"):
        SurveyOptions(source=rows_file, out=tmp_path, attention_every=1)


@pytest.fixture
def browser(tmp_path):
    """Headless Chromium that saves downloads."""
    binary, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if not binary or not driver:
        pytest.skip("no Chromium with its driver is installed")
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "no-first-run", f"user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(f"--{flag}")
    options.add_experimental_option("prefs", {"download.default_directory": str(tmp_path / "downloads")})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield browser
    browser.quit()


@pytest.mark.slow
def test_the_page_is_done_by_keyboard_and_keeps_progress(browser, rows_file, tmp_path):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    key = made(rows_file, tmp_path / "survey", votes=1, per_booklet=6, attention_every=3)
    items = {item["id"]: item for item in key["items"]}
    address = f"file://{tmp_path / 'survey' / 'index.html'}?annotator=ann&booklet=2"

    def press(*keys):
        browser.find_element(By.TAG_NAME, "body").send_keys(*keys)

    def place():
        return browser.find_element(By.ID, "position").text

    browser.get(address)
    click(browser, browser.find_element(By.CSS_SELECTOR, "#who button"))
    names = key["booklets"][1]
    press(Keys.ARROW_RIGHT)
    assert place() == f"Question 1 of {len(names)}"
    for name in names[:3]:
        assert browser.find_element(By.ID, "question").text == items[name]["question"]
        press(str(items[name]["expected"] + 1), Keys.ARROW_RIGHT)
    press(Keys.ARROW_LEFT)
    assert place() == f"Question 3 of {len(names)}"
    press(Keys.ENTER)
    browser.get(address)
    click(browser, browser.find_element(By.CSS_SELECTOR, "#who button"))
    assert place() == f"Question 4 of {len(names)}"
    for name in names[3:]:
        press("abcd"[items[name]["expected"]], Keys.ENTER)
    assert browser.find_element(By.ID, "end").is_displayed()
    saved = browser.execute_script("return JSON.stringify(state)")
    (tmp_path / "answers.json").write_text(saved)
    total = read_verdicts(tmp_path / "survey", [tmp_path / "answers.json"]).groups[-1]
    asked = [name for name in names if not items[name]["attention"]]
    assert (total.verified, total.majority_correct) == (len(asked), len(asked))
