"""Tables over results that are already there: by group, over sets; distributions and cases of probes."""

import json

import numpy as np
import pytest

from avem.errors import DataError, MissingFileError, SettingError
from avem.evaluate.bench import bench_emorealm
from avem.evaluate.comparison import table_2
from avem.evaluate.emorealm.groups import group_scores, group_sheet, read_clip_columns
from avem.evaluate.emorealm.metrics import group_metrics
from avem.evaluate.emorealm.scoring import score_outcomes
from avem.evaluate.intervals import FEWEST
from avem.evaluate.probes.attention import AttentionItem, AttentionResult
from avem.evaluate.probes.cases import swap_cases
from avem.evaluate.probes.runner import attention_violins
from avem.evaluate.probes.swap import SwapItem, SwapResult
from avem.evaluate.probes.violins import Violin, violin_svg
from avem.evaluate.recognition.results import LabelItem, RecognitionResult, score_clips
from avem.sealed.files import write_sealed

CLASSES = ("happiness", "sadness")


def test_groups_are_scored_by_themselves(fake_model, fake_store, questions, tmp_path):
    result = bench_emorealm(fake_model(), fake_store, questions, out_dir=tmp_path / "a", resamples=0)
    (tmp_path / "clips.csv").write_text("video,language\nclips/c0.mp4,en\nclips/c1.mp4,zh\nclips/c2.mkv,en\n")
    clips = read_clip_columns(tmp_path / "clips.csv")
    scores = group_scores(result, "language", clips, resamples=50)
    assert {name: (score["n"], score["clips"]) for name, score in scores.items()} == {
        "unknown": (6, 3),
        "en": (4, 2),
        "zh": (2, 1),
    }
    own = [outcome for outcome in result.outcomes() if outcome.question.video in ("clips/c0.mp4", "clips/c2.mp4")]
    assert scores["en"]["tasks"] == score_outcomes(own)["tasks"]
    assert scores["en"]["tasks"]["reasoning_basic_video"] == group_metrics(
        [outcome for outcome in own if outcome.question.task == "reasoning_basic_video"]
    )
    assert group_sheet([result], "language", [scores]).rows[0][:3] == ("unknown", "6", "3")
    assert set(group_scores(result, "subtask", resamples=0)) == {"spurious", "unknown"}
    with pytest.raises(SettingError, match="Nothing is known of gender"):
        group_scores(result, "gender", clips)
    (tmp_path / "clips.csv").write_text("video,language\na.mp4,en\na.mkv,zh\n")
    with pytest.raises(DataError, match="twice"):
        read_clip_columns(tmp_path / "clips.csv")
    (tmp_path / "clips.csv").write_text("name,language\na,en\n")
    with pytest.raises(DataError, match="one of the columns video, clip_id, path"):
        read_clip_columns(tmp_path / "clips.csv")


def test_table_2_joins_sets_by_model(tmp_path):
    items = tuple(
        LabelItem(f"c{n}", f"c{n}.mp4", CLASSES[n % 2], reply="x", reply_label=CLASSES[n // 3]) for n in range(4)
    )
    scores = score_clips(items, CLASSES, resamples=0)
    RecognitionResult("tuned", "dfew", "audiovisual", CLASSES, items, scores).write(
        tmp_path / "dfew" / "tuned" / "audiovisual.json"
    )
    means = {"cue_overlap": {"mean": 6.5}, "emotion_consistency": {"mean": 7.0}}
    titles = {"cue_overlap": "Clue", "emotion_consistency": "Label"}
    write_sealed(tmp_path / "emer" / "tuned" / "emer.json", {"name": "tuned", "criteria": titles, "means": means})
    sheet = table_2([tmp_path])
    row = dict(zip(sheet.header, sheet.rows[0], strict=True))
    assert (row["model"], row["from"], row["EMER Clue"], row["EMER Spurious"]) == ("tuned", "this run", "6.50", "")
    assert row["DFEW WAR"] == f"{scores['generation']['war']:.2f}"
    assert len(sheet.rows) == 1 + 15
    assert sheet.rows[5][:2] == ("EmotionLLaMA", "paper, A+V+T")
    assert sheet.records[-1]["emer_spurious"] == 7.02
    with pytest.raises(MissingFileError, match="run `avem bench` first"):
        table_2([tmp_path / "none"])


def test_violins_are_as_wide_as_the_density_and_marked_at_the_median():
    values = np.array([10.0] * 5 + [80.0] * 6)
    svg = violin_svg([Violin("a, b, video", values, "video")], 'x "<y>"', "percent")
    assert "&lt;y&gt;" in svg
    assert svg.count('class="middle"') == 1
    base, top = 260 - 66, 24
    assert f"{base - 80 / 100 * (base - top):.1f}h16" in svg


def test_attention_is_drawn_by_question():
    items = tuple(
        AttentionItem(f"q{n}", "c", "reasoning_basic_audio", 0.05 * n, 0.2, 100, 50) for n in range(1, FEWEST + 1)
    )
    split, media = attention_violins([AttentionResult("m", items, {})])
    assert split.count('class="video"') == split.count('class="audio"') == 1
    assert media.count('class="middle"') == 1


def test_cases_on_which_models_differ_come_first():
    def item(name, before, after, shift):
        return SwapItem(name, "c", "audio", "d", -1.0, -1.0 + shift, before != after, f"{name}?", "a", before, after)

    base = SwapResult("base", (item("x", "a", "b", 1), item("y", "a", "b", 3), item("z", "a", "a", 0)), {}, {})
    tuned = SwapResult("tuned", (item("x", "a", "a", 0), item("y", "a", "c", 1), item("z", "a", "a", 0)), {}, {})
    found = swap_cases([base, tuned])
    assert [case.id for case in found] == ["x", "y"]
    assert found[0].answers == (("base", "a", "b"), ("tuned", "a", "a"))
    assert json.dumps(found[0].question) == '"x?"'
