"""EMER as it is distributed, several models side by side, several judges and their agreement, models shown files."""

import json
from dataclasses import replace

import krippendorff
import pytest

from avem.endpoint.chat import ChatSettings
from avem.errors import DataError, SettingError
from avem.evaluate.emer.compare import compare_sheet, judge_agreement, side_by_side
from avem.evaluate.emer.rubric import read_references
from avem.evaluate.emer.runner import EmerOptions, emer_runs, run_all, run_emer
from avem.evaluate.predict.loading import EndpointOptions
from tests.endpoint_kit import stand_in
from tests.evaluate.emer.test_bench import grades, shown_to
from tests.evaluate.media_kit import write_clip


@pytest.fixture
def given(tmp_path):
    lines = ["\ufeffname,reason", 'clip0,"She frowns, and sighs."', "clip1,He laughs.", "clip2,He shouts."]
    (tmp_path / "EMER.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for model in ("base", "tuned"):
        (tmp_path / f"{model}.json").write_text(json.dumps({f"clip{n}": f"{model} on {n}" for n in range(3)}))
    return tmp_path


def options(given, served):
    judge = ChatSettings(endpoint=served.endpoint, model="one", retries=0, pause_s=0.01)
    return EmerOptions(references=given / "EMER.csv", judge=judge, out=given / "out")


def test_the_distributed_csv_is_read(given):
    found = read_references(given / "EMER.csv")
    assert (found[0].id, found[0].reference, found[0].video) == ("clip0", "She frowns, and sighs.", "clip0")
    (given / "bad.csv").write_text("name,text_chinese\nclip0,x\n")
    with pytest.raises(DataError, match="line 2 can't be read as a description"):
        read_references(given / "bad.csv")


def test_models_and_judges_side_by_side(given):
    def reaction(body):
        shown, judge = shown_to(body), body["model"]
        return grades(8 if "tuned on 0" in shown else 6 if judge == "one" else 5)

    with stand_in(reaction) as served:
        base = options(given, served)
        judges = [base.judge, replace(base.judge, model="two")]
        runs = emer_runs(base, [given / "base.json", given / "tuned.json"], [], judges)
        results = run_all(runs)
        asked = len(served.asked)
        assert run_all(runs) == results
        assert len(served.asked) == asked == 12
    assert [(result.name, result.judge) for result in results] == [
        ("base", "one"),
        ("base", "two"),
        ("tuned", "one"),
        ("tuned", "two"),
    ]
    assert [row[1] for row in compare_sheet(results).rows] == ["one", "two", "one", "two"]
    agreement = judge_agreement(results)["cue_overlap"]
    table = [[6, 6, 6, 8, 6, 6], [5, 5, 5, 8, 5, 5]]
    assert agreement["alpha"] == pytest.approx(krippendorff.alpha(table, level_of_measurement="interval"))
    assert agreement["mean_difference"] == pytest.approx(5 / 6)
    beside = side_by_side(results)
    assert beside.header == ("clip", "reference", "base", "tuned")
    assert beside.rows[0][0] == "clip0", "where the models differ most comes first"
    assert beside.rows[0][3] == "tuned on 0 [8.0, 8.0]"
    page = (given / "out" / "emer" / "compare.html").read_text()
    assert "tuned on 1" in page
    assert "Krippendorff" in page
    assert (given / "out" / "emer" / "base-by-two" / "emer.json").is_file()


def test_doubles_are_refused(given):
    with stand_in(lambda body: grades(5)) as served:
        base = options(given, served)
        with pytest.raises(SettingError, match="A judge is named twice"):
            emer_runs(base, [given / "base.json"], [], [base.judge, base.judge])
        with pytest.raises(SettingError, match="Two models are called base"):
            emer_runs(base, [given / "base.json", given / "x" / "base.json"], [], [base.judge])


def test_a_model_behind_an_endpoint_describes_the_files(given):
    for seconds, name in enumerate(("clip0", "clip1"), start=1):
        write_clip(given / "clips" / f"{name}.mp4", seconds)

    def reaction(body):
        return "She frowns." if body["model"] == "seer" else grades(7)

    with stand_in(reaction) as served:
        seer = EndpointOptions(url=served.endpoint, retries=0)
        result = run_emer(replace(options(given, served), model="seer", media=given / "clips", model_endpoint=seer))
        described = [body for body in served.asked if body["model"] == "seer"]
    assert len(described) == 2
    assert {part["type"] for part in described[0]["messages"][0]["content"]} == {"image_url", "input_audio", "text"}
    assert result.missing == ("clip2",)
    assert result.items[0]["candidate"] == "She frowns."
