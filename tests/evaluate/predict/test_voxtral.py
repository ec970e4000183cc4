"""Voxtral's prompt and sound, against tokens written by hand and the feature extractor alone."""

import json
import sys
from types import ModuleType

import numpy as np
import pytest
import torch

from avem.errors import CheckpointError, SettingError
from avem.evaluate.predict.adapters import load_adapter
from avem.evaluate.predict.loading import open_media_model
from avem.evaluate.predict.media_model import ClipMedia, MediaRequest
from tests.evaluate.adapter_kit import save_small, whisper_features
from tests.evaluate.media_kit import write_clip
from tests.evaluate.voxtral_kit import FIRST_BYTE, NUMBERS

HALF_MINUTE = 480_000


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    for name in ("mistral_common", "soundfile"):
        pytest.importorskip(name, reason="Voxtral needs avem[voxtral], and it is not installed")
    return load_adapter(str(save_small("voxtral", tmp_path_factory.mktemp("model") / "small")), "cpu", torch.float32)


def written(text):
    return [FIRST_BYTE + byte for byte in text.encode()]


def sound(seconds):
    return np.random.default_rng(0).uniform(-0.3, 0.3, int(seconds * 16000)).astype(np.float32)


@pytest.mark.parametrize(("seconds", "windows"), [(2.5, 1), (30, 1), (31, 2)])
def test_tokens_and_features_of_a_sound(adapter, seconds, windows):
    """12.5 tokens a second of sound, which is padded to half minutes, before the question."""
    samples = sound(seconds)
    inputs = adapter.encode("Wer hört é?", ClipMedia(samples=samples))
    before = [NUMBERS[name] for name in ("<s>", "[INST]", "[BEGIN_AUDIO]")]
    shown = [NUMBERS["[AUDIO]"]] * 375 * windows
    assert inputs["input_ids"].tolist() == [before + shown + written("Wer hört é?") + [NUMBERS["[/INST]"]]]
    assert inputs["attention_mask"].all()
    padded = np.pad(samples, (0, windows * HALF_MINUTE - len(samples))).reshape(windows, HALF_MINUTE)
    alone = whisper_features()(padded[0], sampling_rate=16000, return_tensors="pt")["input_features"]
    assert inputs["input_features"].shape == (windows, 80, 3000)
    if windows == 1:
        torch.testing.assert_close(inputs["input_features"], alone, atol=1e-5, rtol=0)
    with torch.no_grad():
        assert adapter.model(**inputs).logits.shape[1] == inputs["input_ids"].shape[1]


def test_text_alone(adapter):
    inputs = adapter.encode("Which?", ClipMedia())
    assert inputs["input_ids"].tolist() == [[1, NUMBERS["[INST]"], *written("Which?"), NUMBERS["[/INST]"]]]
    assert "input_features" not in inputs


def test_log_probabilities_are_those_of_the_model(adapter, tmp_path):
    clip = tmp_path / "a.mp4"
    write_clip(clip)
    request = MediaRequest("a", "likelihood", "Which? ", ("A", "sad"), clip, adapter.sees, 4)
    found = {}
    assert adapter.predict([request], found.__setitem__) == {}
    inputs = adapter.encode("Which? ", request.media(8))
    own = []
    for option in request.options:
        ids, total = inputs["input_ids"], 0.0
        for token in written(option):
            with torch.no_grad():
                logits = adapter.model(input_ids=ids, input_features=inputs["input_features"]).logits[0, -1]
            total += float(logits.log_softmax(-1)[token])
            ids = torch.cat([ids, torch.tensor([[token]])], 1)
        own.append(total)
    assert found["a"].logprobs == pytest.approx(own, abs=1e-4)


def test_a_reply_is_the_new_text_alone(adapter, monkeypatch):
    new = torch.tensor([[*written(" (A) ein Lächeln"), NUMBERS["</s>"]]])
    monkeypatch.setattr(adapter.model, "generate", lambda input_ids, **rest: torch.cat([input_ids, new], 1))
    assert adapter.reply(adapter.encode("Which?", ClipMedia(samples=sound(1))), 20) == "(A) ein Lächeln"


def test_a_system_message_is_refused_before_the_model_is_loaded(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "voxtral"}')
    with pytest.raises(SettingError, match="takes no system message beside sound; leave --system out"):
        open_media_model(str(tmp_path), None, "cpu", system="You listen.")


@pytest.mark.parametrize("missing", ["mistral_common", "soundfile", "a newer version"])
def test_without_mistral_common(missing, tmp_path, monkeypatch):
    import transformers.utils.import_utils as known

    for name in ("mistral_common", "soundfile"):
        monkeypatch.setitem(sys.modules, name, None if name == missing else ModuleType(name))
    monkeypatch.setattr(known, "is_mistral_common_available", lambda: False)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "voxtral"}))
    with pytest.raises(CheckpointError, match=r"pip install 'avem\[voxtral\]'") as raised:
        load_adapter(str(tmp_path), "cpu", torch.float32)
    assert "\n" not in str(raised.value)
