"""The user study: nobody sees who wrote what, shares are what the votes give, checks and pre-test count."""

import json

import pytest

from avem.errors import DataError, SettingError
from avem.tools.prefs.survey.items import BUILT_IN, PRETEST
from avem.tools.prefs.survey.pages import SurveyOptions
from avem.tools.prefs.survey.study import CRITERIA, make_study, read_study
from tests.tools.prefs.test_prefs_survey import answer_all, page_data

MODELS = ("base", "tuned", "other")


@pytest.fixture
def files(tmp_path):
    for model in MODELS:
        texts = {f"clip{n}": f"words {MODELS.index(model)} on {n}" for n in range(4)}
        texts |= {f"only-{model}": "alone"}
        (tmp_path / f"{model}.json").write_text(json.dumps(texts))
    return [f"{model}={tmp_path / model}.json" for model in MODELS]


def made(files, tmp_path, **changes):
    survey = make_study(files, SurveyOptions(source=tmp_path, out=tmp_path / "study", per_booklet=100, **changes))
    return survey.blocks, json.loads((tmp_path / "study" / "key.json").read_text())


def chooses(model, wrong=()):
    def choose(who, item):
        if item["group"] in ("attention", PRETEST):
            return {"choice": item["expected"] if who not in wrong else (item["expected"] + 1) % 3}
        name = model(who, item)
        return {"choice": item["models"].index(name)}

    return choose


def test_the_page_hides_the_models_and_keeps_clips_together(files, tmp_path):
    clips, key = made(files, tmp_path, attention_every=0)
    assert clips == 4
    shown = page_data(tmp_path / "study")
    assert not any(model in json.dumps(shown) for model in MODELS)
    items = {item["id"]: item for item in key["items"]}
    assert len({tuple(item["models"]) for item in items.values()}) > 1, "the order is drawn for each clip"
    for booklet in key["booklets"]:
        groups = [[items[name]["group"] for name in booklet[start : start + 3]] for start in range(0, len(booklet), 3)]
        assert all(group == list(CRITERIA) for group in groups)
        sources = [[items[name]["source"] for name in booklet[start : start + 3]] for start in range(0, 12, 3)]
        assert all(len(set(source)) == 1 for source in sources)


def test_shares_intervals_and_agreement(files, tmp_path):
    _, key = made(files, tmp_path, votes=3, attention_every=0)

    def model(who, item):
        if item["group"] == "best_association":
            return {"ann": "base", "bob": "tuned", "cyd": "other"}[who]
        return "tuned" if item["group"] == "best_emotion" or who == "ann" else "base"

    paths = answer_all(key, tmp_path, ("ann", "bob", "cyd"), chooses(model))
    result = read_study(tmp_path / "study", paths, resamples=200)
    by = {(share.model, share.criterion): share for share in result.shares}
    assert (by["tuned", "best_emotion"].value, by["tuned", "best_emotion"].low) == (100.0, 100.0)
    assert by["base", "most_inconsistent"].value == pytest.approx(100 * 8 / 12)
    assert by["base", "most_inconsistent"].low < 66 < by["base", "most_inconsistent"].high
    assert [by[name, "best_association"].value for name in MODELS] == pytest.approx([100 / 3] * 3)
    assert result.alpha["best_emotion"] is None, "without any difference there is nothing to agree on"
    assert result.alpha["best_association"] < 0
    assert result.clips == 4
    sheet = result.sheet()
    assert len(sheet.rows) == 4
    assert "Our + AVEm-DPO 54.74 / 43.35 / 4.67" in sheet.note


def test_those_who_fail_the_pretest_or_the_checks_do_not_count(files, tmp_path):
    _, key = made(files, tmp_path, votes=2, attention_every=4, pretest="builtin")
    assert all(
        [item["group"] for item in key["items"] if item["id"] in booklet[: len(BUILT_IN)]] == [PRETEST] * len(BUILT_IN)
        for booklet in key["booklets"]
    )
    model = lambda who, item: "tuned" if who == "ann" else "base"  # noqa: E731
    paths = answer_all(key, tmp_path, ("ann", "bob"), chooses(model, wrong=("bob",)))
    result = read_study(tmp_path / "study", paths)
    assert (result.passed, result.failed) == (("ann",), ("bob",))
    assert {share.model: share.value for share in result.shares if share.criterion == "best_emotion"}["tuned"] == 100
    paths = answer_all(key, tmp_path, ("ann", "bob"), chooses(model, wrong=("ann", "bob")))
    with pytest.raises(DataError, match="No annotator's votes count"):
        read_study(tmp_path / "study", paths)


def test_what_makes_no_study_is_refused(files, tmp_path):
    options = SurveyOptions(source=tmp_path, out=tmp_path / "study")
    with pytest.raises(SettingError, match="two models or more"):
        make_study(files[:1], options)
    with pytest.raises(SettingError, match="Two models are called base"):
        make_study([files[0], files[0]], options)
    (tmp_path / "far.json").write_text('{"elsewhere": "x"}')
    with pytest.raises(DataError, match="No clip is described by all models"):
        make_study([files[0], str(tmp_path / "far.json")], options)
    assert not (tmp_path / "study").exists()
