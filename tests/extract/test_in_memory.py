"""Features of single clips in memory equal those of a store, bit for bit."""

from __future__ import annotations

import pytest
import torch

from avem.cache import FeatureStore
from avem.errors import SettingError
from avem.extract import ExtractOptions, extract
from avem.extract.in_memory import ClipEncoder, ClipPart, clip_parts
from tests.extract.long_kit import write_long
from tests.extract.omni_kit import CONFIGS, write_thinker


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, make_clip):
    """Clips of several sizes and lengths; the third has no sound."""
    root = tmp_path_factory.mktemp("memory") / "data"
    for index in range(3):
        sound = None if index == 2 else 0.3
        make_clip(
            root / f"happy/{index}.mp4", frames=5 + 7 * index, size=(64 + 32 * index, 48), seed=index, sound=sound
        )
    return root


def equal(store, encoder, corpus):
    """Compare every row of the store with what the encoder makes of its file."""
    paths = [corpus / path for path in store.clips["path"].to_pylist()]
    parts = list(encoder.encode([ClipPart(path) for path in paths]))
    compared = 0
    for slot, spec in encoder.specs.items():
        stream = store.stream(spec.name)
        assert stream.fingerprint == spec.fingerprint
        for row, part in enumerate(parts):
            assert (slot in part.rows) == bool(stream.available[row])
            if slot in part.rows:
                made = part.rows[slot]
                assert torch.equal(made.features, stream.rows([row])[0])
                assert made.companions.keys() == stream.spec.companions.keys()
                for name, value in made.companions.items():
                    assert torch.equal(value, stream.companion(name, [row])[0])
                compared += 1
    return compared


def test_averes_features_are_the_stores(corpus, encoders, tmp_path):
    options = ExtractOptions(**encoders, workers=1, batch_size=1, device="cpu")
    extract(corpus, tmp_path / "cache", options)
    assert equal(FeatureStore.open(tmp_path / "cache"), ClipEncoder(options), corpus) == 5


@pytest.mark.parametrize("model_type", list(CONFIGS))
def test_qwen_omnis_features_and_companions_are_the_stores(model_type, corpus, tmp_path):
    model = write_thinker(tmp_path / "model", model_type)
    options = ExtractOptions(model=model, workers=1, precision="float32", device="cpu")
    extract(corpus, tmp_path / "cache", options)
    assert equal(FeatureStore.open(tmp_path / "cache"), ClipEncoder(options), corpus) == 5


def test_a_window_is_the_stores_window(encoders, tmp_path):
    path = write_long(tmp_path / "data" / "happy" / "long.mov", 33)
    options = ExtractOptions(**encoders, workers=1, batch_size=1, device="cpu", long="windows")
    extract(tmp_path / "data", tmp_path / "cache", options)
    store = FeatureStore.open(tmp_path / "cache")
    (parts,) = clip_parts([path])
    assert [part.span for part in parts] == [(0.0, 30.0), (30.0, 33.0)]
    for row, made in enumerate(ClipEncoder(options).encode(parts)):
        assert torch.equal(made.rows["video"].features, store.video([row])[0])
        assert torch.equal(made.rows["audio"].features, store.audio([row])[0])
        assert made.duration_s == pytest.approx(store.clip(row)["duration_s"])
    assert [part.span for part in clip_parts([path], windows=False)[0]] == [None]


def test_what_can_not_be_decoded_says_why(corpus, encoders, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no film")
    encoder = ClipEncoder(ExtractOptions(**encoders, workers=1, device="cpu"))
    assert clip_parts([broken]) == [[ClipPart(broken)]]
    silent, nothing = encoder.encode([ClipPart(corpus / "happy/2.mp4"), ClipPart(broken)])
    assert set(silent.rows) == {"video"}
    assert "no sound" in silent.problems["audio"] or "no audio" in silent.problems["audio"]
    assert not nothing.rows
    assert "broken.mp4" in nothing.problems["video"]
    with pytest.raises(SettingError, match="int8"):
        ClipEncoder(ExtractOptions(**encoders, dtype="int8"))
