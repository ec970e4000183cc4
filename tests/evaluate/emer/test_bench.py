"""EMER: the rubric, the strict reader, retries, resuming, the estimate."""

import json

import pytest
from typer.testing import CliRunner

from avem.commands.bench.app import bench_app
from avem.endpoint.chat import ChatSettings
from avem.errors import DataError, EndpointError, MissingFileError, SettingError
from avem.evaluate.emer.bench import JudgeOptions, bench_emer, estimate
from avem.evaluate.emer.rubric import grade_means, load_rubric, read_references
from avem.evaluate.emer.runner import EmerOptions, run_emer
from tests.endpoint_kit import completion, stand_in
from tests.train.training_kit import make_kit

RUBRIC = load_rubric()


def grades(value, **changes):
    given = {name: value for name in RUBRIC.names} | {f"{name}_reason": "so" for name in RUBRIC.names}
    return json.dumps(given | changes)


@pytest.fixture
def given(tmp_path):
    rows = [{"id": f"clip{n}", "reference": f"She frowns {n} times and sighs."} for n in range(4)]
    (tmp_path / "refs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = {f"clip{n}": f"A sad woman, {n} frowns." for n in range(3)}
    (tmp_path / "mine.json").write_text(json.dumps(said))
    return tmp_path


def run(given, served, **options):
    settings = ChatSettings(endpoint=served.endpoint, model="judge", retries=0, pause_s=0.01, timeout_s=5)
    made = {"references": given / "refs.jsonl", "judge": settings, "answers": given / "mine.json", "out": given / "out"}
    return run_emer(EmerOptions(**{**made, **options}))


def shown_to(body):
    return body["messages"][1]["content"]


def test_grades_means_and_what_is_missing(given):
    with stand_in(lambda body: grades(4 if "0 frowns" in shown_to(body) else 7)) as served:
        result = run(given, served)
        assert len(served.asked) == 3
        again = run(given, served)
    assert len(served.asked) == 3, "kept grades are not paid for twice"
    assert again == result
    assert result.missing == ("clip3",)
    assert result.means["cue_overlap"]["mean"] == pytest.approx((4 + 7 + 7 + 1) / 4)
    assert result.tokens == {"input": 21, "output": 9}
    prompt = min(map(shown_to, served.asked))
    assert "<reference>\nShe frowns 0 times" in prompt
    assert "from 1 (worst) to 10 (best)" in prompt
    assert all(name in prompt for name in RUBRIC.names)
    assert result.sheet().form("markdown").startswith("| model | clips | missing | ungraded | Clue | Label |")
    assert json.loads((given / "out" / "emer" / "mine" / "emer.json").read_text())["judge"] == "judge"


def test_other_replies_are_asked_again_with_a_reminder(given):
    turns = {}

    def reaction(body):
        turn = turns[shown_to(body)] = turns.get(shown_to(body), 0) + 1
        if "0 frowns" in shown_to(body) and turn < 3:
            return ("Gladly! " + grades(5)) if turn == 1 else grades(11)
        return "no" if "1 frowns" in shown_to(body) else f"```json\n{grades(5)}\n```"

    with stand_in(reaction) as served:
        result = run(given, served)
    assert result.ungraded == ("clip1",)
    assert "not JSON" in result.items[1]["problem"]
    assert result.items[0]["grades"]["cue_overlap"] == 5
    last = max((body for body in served.asked if "0 frowns" in shown_to(body)), key=lambda body: len(body["messages"]))
    assert "cue_overlap is 11" in last["messages"][-1]["content"]
    assert result.means["cue_overlap"]["mean"] == pytest.approx((5 + 5 + 1) / 3)


def test_endpoint_trouble_keeps_what_was_graded(given):
    bad = {"1 frowns": (200, "<html>"), "2 frowns": (200, completion("{")[:20])}

    def reaction(body):
        return next((result for text, result in bad.items() if text in shown_to(body)), grades(6))

    with stand_in(reaction) as served:
        result = run(given, served)
        assert set(result.ungraded) == {"clip1", "clip2"}
        assert "web page" in result.items[1]["problem"]
        bad.clear()
        served.asked.clear()
        assert run(given, served).ungraded == ()
        assert len(served.asked) == 2
        served.reaction = lambda body: (401, "no")
        (given / "mine.json").write_text(json.dumps({"clip0": "other words"}))
        with pytest.raises(EndpointError, match="refuses the key"):
            run(given, served)


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ("[]", "not an object"),
        (grades(5)[:-5], "not JSON"),
        (grades(True), "is True"),
        (grades(5.0), "is 5.0"),
        (grades(0), "is 0, not a whole number from 1 to 10"),
        (grades(5, extra=1), "extra"),
        (json.dumps({"cue_overlap": 5}), "cue_overlap_reason"),
    ],
)
def test_the_reader_is_strict(reply, said):
    with pytest.raises(ValueError, match=said):
        RUBRIC.read(reply)


def test_estimate_before_it_starts(given, caplog):
    with stand_in(lambda body: grades(5)) as served:
        expected = run(given, served, dry_run=True, judging=JudgeOptions(input_price=10, output_price=30))
        assert (expected.requests, expected.output_tokens) == (3, 600)
        assert expected.cost == pytest.approx((expected.input_tokens * 10 + 600 * 30) / 1e6)
        assert "3 requests" in str(expected)
        with pytest.raises(SettingError, match="above --max-cost"):
            run(given, served, judging=JudgeOptions(output_price=30, max_cost=0.001))
        assert served.asked == []
        with caplog.at_level("INFO"):
            run(given, served)
    assert "judge will grade 3 requests" in caplog.text
    settings = ChatSettings(endpoint="http://x/v1", model="m")
    assert estimate(read_references(given / "refs.jsonl"), {}, RUBRIC, settings, JudgeOptions()).requests == 0


def test_command(given):
    with stand_in(lambda body: grades(5)) as served:
        paths = ("--references", given / "refs.jsonl", "--answers", given / "mine.json", "--out", given / "out")
        who = ("--judge", "j", "--endpoint", served.endpoint, "--retries", "0")
        shown = CliRunner().invoke(bench_app, ["emer", *map(str, paths), *who, "--csv"], catch_exceptions=False)
    assert shown.stdout.splitlines()[0].startswith("model,judge,clips,cue_overlap")


def test_a_model_describes_the_clips_of_a_store(tmp_path):
    kit = make_kit(tmp_path / "kit")
    rows = [{"id": f"{n:03d}", "reference": "A sigh.", "video": f"{n:03d}.mp4"} for n in (0, 1)]
    (tmp_path / "refs.json").write_text(json.dumps(rows))
    with stand_in(lambda body: grades(3)) as served:
        result = run(
            tmp_path,
            served,
            references=tmp_path / "refs.json",
            answers=None,
            model=str(kit.model),
            cache=kit.store,
            device="cpu",
        )
    assert result.name == "model"
    assert len(served.asked) + len(result.missing) == 2
    assert (tmp_path / "out" / "emer" / "model" / "answers.jsonl").read_text().count("generation") == 2


def test_bad_input(given):
    with pytest.raises(MissingFileError, match="--references"):
        read_references(given / "none.json")
    for content, said in (
        ("{}", "list of objects"),
        ("[]", "holds no descriptions"),
        ('[{"id": 1}]', "no text in any of"),
        ('[{"id": 1, "reference": "a"}, {"id": 1, "reference": "b"}]', "occurs twice"),
    ):
        (given / "bad.json").write_text(content)
        with pytest.raises(DataError, match=said):
            read_references(given / "bad.json")
    (given / "rubric.json").write_text('{"criteria": []}')
    with pytest.raises(DataError, match="not a rubric"):
        load_rubric(given / "rubric.json")
    with stand_in(lambda body: "") as served, pytest.raises(SettingError, match="--model, or its descriptions"):
        run(given, served, answers=None)
    settings = ChatSettings(endpoint="http://x/v1", model="m")
    with pytest.raises(DataError, match="compare the two files' ids"):
        bench_emer(read_references(given / "refs.jsonl"), {"other": "x"}, RUBRIC, settings, given)


def test_means_by_hand():
    assert grade_means([{"a": 1}, {"a": 4}], ["a"]) == {"a": {"mean": 2.5}}
    spread = grade_means([{"a": 1}, {"a": 4}], ["a"], resamples=200)["a"]
    assert (spread["low"], spread["high"]) == (1, 4)


def test_another_judge_does_not_replace_the_grades_of_the_first(given):
    with stand_in(lambda body: grades(4)) as served:
        run(given, served)
        kept = (given / "out" / "emer" / "mine" / "emer.json").read_bytes()
        other = ChatSettings(endpoint=served.endpoint, model="another", retries=0, pause_s=0.01, timeout_s=5)
        with pytest.raises(SettingError, match=r"judge was judge, now another.*--out"):
            run(given, served, judge=other)
        assert len(served.asked) == 3, "no request is made"
    assert (given / "out" / "emer" / "mine" / "emer.json").read_bytes() == kept
