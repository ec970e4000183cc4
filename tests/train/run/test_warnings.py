"""A run whose rejected inputs are a leak says so, no matter which command mined them, and keeps it for its report."""

import json
import shutil

from avem.cache import StoreWriter
from avem.evaluate.report.runs import write_run_report
from avem.records import Clip, Emotion
from avem.train.preference import PreferenceTraining, train_preferences
from avem.train.run.training import preview_training
from avem.train.settings.config import PreferenceConfig, SupervisedConfig
from avem.train.supervised import train_supervised
from tests.train.training_kit import CLIPS, EMOTIONS, make_kit

TOLD = "come from one other source (camA from camB and camB from camA)"


def two_cameras(kit):
    """The kit with half of its clips from each of two cameras, and without negatives."""
    shutil.rmtree(kit.store / "negatives")
    labels = [EMOTIONS[n % len(EMOTIONS)] for n in range(CLIPS)]
    clips = [
        Clip(f"toy/{n:03d}", "toy", f"{n:03d}.mp4", Emotion(label), label, source="cam" + "AB"[n % 2])
        for n, label in enumerate(labels)
    ]
    StoreWriter.open(kit.store).relabel(clips)
    return kit


def warned(caplog):
    found = [record.getMessage() for record in caplog.records if TOLD in record.getMessage()]
    caplog.clear()
    return found


def test_a_leak_is_said_by_every_run_and_by_its_report(tmp_path, caplog):
    kit = two_cameras(make_kit(tmp_path))
    config = PreferenceConfig(**kit.preference_settings(tmp_path / "run", max_steps=1))
    preview_training(PreferenceTraining(config))  # mines them
    said = warned(caplog)
    assert [text.partition(":")[0] for text in said] == ["audio and audiovisual negatives", "video negatives"]
    run = train_preferences(config)  # finds them
    assert warned(caplog) == said
    assert all("mine again with `avem cache negatives --same-source`" in text for text in said)
    assert json.loads((run / "config.json").read_text())["warnings"] == said
    page = write_run_report(tmp_path / "page.html", [run]).read_text()
    for text in said:
        assert f"Warning, run: {text[0].upper()}{text[1:].partition('`')[0]}<code>avem cache negatives" in page
    train_preferences(config)  # is complete
    assert warned(caplog) == []


def test_a_run_that_takes_no_negatives_says_nothing(tmp_path, caplog):
    kit = two_cameras(make_kit(tmp_path))
    preview_training(PreferenceTraining(PreferenceConfig(**kit.preference_settings(tmp_path / "run"))))
    caplog.clear()
    noise = kit.preference_settings(tmp_path / "noise", max_steps=1, negatives="random-tensor")
    runs = [train_preferences(PreferenceConfig(**noise))]
    runs.append(train_supervised(SupervisedConfig(**kit.supervised_settings(tmp_path / "sft", max_steps=1))))
    assert warned(caplog) == []
    assert [json.loads((run / "config.json").read_text())["warnings"] for run in runs] == [[], []]
