"""`avem extract --for` an Emotion-LLaMA model: its streams, what they hold, and training on them as on the towers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from avem.cache import FeatureStore
from avem.errors import CheckpointError, FingerprintError, MissingFileError, SettingError
from avem.extract import ExtractOptions, extract
from avem.extract.decode.media import read_waveform
from avem.extract.decode.pixels import preprocess_square
from avem.extract.encoders.emotion_llama import EvaFrame, HubertSound, is_emotion_llama
from avem.extract.encoders.eva import EvaSettings, load_eva
from avem.extract.encoders.hubert import load_hubert
from avem.extract.encoders.sources import find_sources
from avem.train import load_model
from avem.train.data.features import ClipFeatures
from avem.train.families.emotion_llama.adapters import adapter_parameters
from avem.train.families.emotion_llama.importing import EncoderFacts, import_released
from avem.train.families.emotion_llama.projections import FACE, FRAME, MOTION, SOUND
from avem.train.packing.specs import ScoreSpec, SequenceBuilder
from tests.train.families.emotion_llama_kit import ALPHA, FACES, MOTIONS, SOUNDS, WIDTH, import_tiny, make_released

CLIPS = 3


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    """A model that knows its encoders' weights, as the command makes it."""
    folder = tmp_path_factory.mktemp("model")
    released = make_released(folder / "released")
    tower, sound = load_eva(released.eva, EvaSettings.read(released.eva_config)), load_hubert(released.hubert)
    encoders = {FRAME: EncoderFacts(tower.weights_sha256, WIDTH), SOUND: EncoderFacts(sound.weights_sha256, SOUNDS)}
    import_released(released.files(**encoders), folder / "model", lora_alpha=ALPHA)
    return folder / "model"


@pytest.fixture(scope="module")
def clips(tmp_path_factory, make_clip):
    root = tmp_path_factory.mktemp("clips")
    for number in range(CLIPS):  # the last one is shorter than a second
        make_clip(root / "happiness" / f"{number}.mp4", seed=number, frames=12 if number < 2 else 5, size=(64, 36))
    return root


@pytest.fixture(scope="module")
def store(tmp_path_factory, clips, model_folder):
    path = tmp_path_factory.mktemp("store") / "cache"
    report = extract(clips, path, ExtractOptions(model=model_folder, fill_missing="zeros", workers=1, device="cpu"))
    assert not report.failures
    return FeatureStore.open(path)


def first_frame(path):
    import av

    with av.open(str(path)) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


def towers(store, clips, model_folder):
    """Each clip's streams from the towers, called by themselves."""
    tower = load_eva(model_folder / "eva" / "eva_vit.pth", EvaSettings.read(model_folder / "eva" / "config.json"))
    sound = load_hubert(model_folder / "hubert")
    made = []
    for path in store.clips["path"].to_pylist():
        image = preprocess_square(first_frame(clips / path), tower.shape.settings.image_size)
        samples = torch.as_tensor(read_waveform(clips / path))
        with torch.no_grad():
            made.append(
                {
                    FRAME: tower(torch.as_tensor(image)[None])[0],
                    FACE: torch.zeros(FACES),
                    MOTION: torch.zeros(MOTIONS),
                    SOUND: sound.utterance(sound.prepare(samples)[None])[0],
                }
            )
    return made


def test_streams_hold_what_the_towers_give(store, clips, model_folder):
    assert set(store.streams) == {FRAME, FACE, MOTION, SOUND}
    expected = towers(store, clips, model_folder)
    frames = store.stream(FRAME).rows(range(CLIPS))
    assert frames.shape == (CLIPS, 37, WIDTH)
    for number in range(CLIPS):
        np.testing.assert_allclose(frames[number].float(), expected[number][FRAME], rtol=2e-3, atol=2e-3)
    sounds = store.stream(SOUND).rows(range(CLIPS))
    for number in range(CLIPS - 1):
        np.testing.assert_allclose(sounds[number].float(), expected[number][SOUND], rtol=2e-3, atol=2e-3)
    assert not store.stream(FACE).rows(range(CLIPS)).any()
    assert store.stream(MOTION).fingerprint == {"encoder": "videomae", "filled": "zeros", "width": MOTIONS}
    assert store.stream(FRAME).fingerprint["preprocessing"]["frames"] == "first"
    for name, modality in ((FRAME, "visual"), (FACE, "visual"), (MOTION, "visual"), (SOUND, "audio")):
        assert store.stream(name).spec.modality == modality


def test_short_sound_is_not_padded(store, clips, model_folder):
    """A decoder puts silence behind sound of less than a second, which would change its mean."""
    number = next(row for row, path in enumerate(store.clips["path"].to_pylist()) if path.endswith("2.mp4"))
    padded = torch.as_tensor(read_waveform(clips / store.clips["path"][number].as_py()))
    length = store.clips["duration_s"][number].as_py()
    assert length < 1
    assert len(padded) == 16000
    sound = load_hubert(model_folder / "hubert")
    found = store.stream(SOUND).rows([number])[0].float()
    with torch.no_grad():
        without, with_silence = (
            sound.utterance(sound.prepare(part)[None])[0] for part in (padded[: round(length * 16000)], padded)
        )
    assert (found - without).abs().max() < 0.02
    assert (found - with_silence).abs().max() > (found - without).abs().max() * 3


@pytest.mark.parametrize("layout", ["emotion_llama_train", "emotion_llama_generate"])
def test_training_from_the_store_equals_training_with_towers_in_the_loop(store, clips, model_folder, layout):
    asked = [("What is it?", "she smiles"), ("Why?", "her voice shakes"), ("And?", "no")]

    def gradients(make_sequences):
        model = load_model(model_folder, dtype=torch.float64)
        model.config = model.config.__class__(**{**vars_of(model.config), "prompt_format": layout})
        model.add_lora(model.config.lora_rank, model.config.lora_scale)
        for side in ("video", "audio"):
            for layer in model.projectors(side):
                layer.requires_grad_(True)
        scores = model.response_logprobs(make_sequences(model))
        (-scores.sum()).backward()
        found = {**adapter_parameters(model.peft_model), **dict(model.projections.named_parameters())}
        return scores.detach(), {name: one.grad for name, one in found.items() if one.grad is not None}

    def cached(model):
        builder = SequenceBuilder(model, store)
        specs = [ScoreSpec(question, answer, row, row) for row, (question, answer) in enumerate(asked)]
        media = ClipFeatures(builder.streams, specs, torch.device("cpu"), 100).media(specs)
        return [builder.sequence(spec, media) for spec in specs]

    def in_the_loop(model):
        encoders = [find_sources(options)[slot].load("cpu", torch.float32) for slot in ("frame", "audio")]
        made = []
        for row, (question, answer) in enumerate(asked):
            path = clips / store.clips["path"][row].as_py()
            image = preprocess_square(first_frame(path), encoders[0].tower.shape.settings.image_size)
            length = store.clips["duration_s"][row].as_py()
            samples = torch.as_tensor(read_waveform(path))[: round(length * 16000)]
            streams = {
                FRAME: encoders[0].encode(torch.as_tensor(image)[None])[0][0].half(),  # as the store keeps it
                FACE: torch.zeros(FACES),
                MOTION: torch.zeros(MOTIONS),
                SOUND: encoders[1].encode_clips([encoders[1].loaded.prepare(samples)]).features[0].half(),
            }
            made.append(model.sequence(question, answer, streams=streams))
        return made

    options = ExtractOptions(model=model_folder)
    (ours, own), (theirs, other) = gradients(cached), gradients(in_the_loop)
    assert (ours - theirs).abs().max() < 1e-9
    assert own.keys() == other.keys()
    assert len(own) == 2 * 2 * 2 + 10
    assert max(float((own[name] - other[name]).abs().max()) for name in own) < 1e-9


def vars_of(config):
    return {name: getattr(config, name) for name in config.__dataclass_fields__}


def test_only_what_has_an_encoder_is_extracted_by_default(model_folder, tmp_path):
    assert list(find_sources(ExtractOptions(model=model_folder))) == ["frame", "audio"]
    assert is_emotion_llama(model_folder)
    assert not is_emotion_llama(tmp_path)
    model = load_model(model_folder)
    model.add_lora(2)
    model.save_adapter(tmp_path / "run" / "final")
    assert find_sources(ExtractOptions(model=tmp_path / "run" / "final"))["frame"].path == (
        tmp_path / "run" / "final" / load_settings(tmp_path)["base"] / "eva"
    )


def load_settings(folder):
    import json

    return json.loads((folder / "run" / "final" / "config.json").read_text())


def test_features_of_other_weights_are_refused(store, tmp_path):
    other = make_released(tmp_path / "released", seed=1)
    tower = load_eva(other.eva, EvaSettings.read(other.eva_config))
    encoders = {FRAME: EncoderFacts(tower.weights_sha256, WIDTH)}
    import_released(other.files(**encoders), tmp_path / "model", lora_alpha=ALPHA)
    with pytest.raises(FingerprintError, match="frame/eva_g was made by another encoder or with other weights"):
        SequenceBuilder(load_model(tmp_path / "model"), store)


def test_options_that_make_no_sense(model_folder, golden, tmp_path):
    with pytest.raises(SettingError, match="takes zeros, not noise"):
        ExtractOptions(model=model_folder, fill_missing="noise")
    with pytest.raises(SettingError, match="--fill-missing is a setting of the model"):
        ExtractOptions(fill_missing="zeros")
    with pytest.raises(SettingError, match="no stream that --fill-missing can fill"):
        find_sources(ExtractOptions(model=golden / "avere_tiny", fill_missing="zeros"))
    with pytest.raises(SettingError, match="have no --fps"):
        find_sources(ExtractOptions(model=model_folder, fps=2.0))
    whole = load_model(import_tiny(tmp_path))
    whole.merge()
    whole.save(tmp_path / "merged")
    with pytest.raises(MissingFileError, match="holds no encoders"):
        find_sources(ExtractOptions(model=tmp_path / "merged"))


def test_sound_at_another_rate_is_refused(model_folder):
    loaded = load_hubert(model_folder / "hubert")
    with pytest.raises(CheckpointError, match="8000 Hz"):
        HubertSound(loaded.__class__(loaded.module, 8000, True, ""), "cpu", torch.float32)


def test_encoders_copy_themselves(model_folder):
    tower = load_eva(model_folder / "eva" / "eva_vit.pth", EvaSettings.read(model_folder / "eva" / "config.json"))
    first = EvaFrame(tower, "cpu", torch.float32)
    second = first.copy_to("cpu")
    images = torch.randn(2, 3, 24, 24)
    assert torch.equal(first.encode(images)[0], second.encode(images)[0])
    assert first.fingerprint("pyav") == second.fingerprint("pyav")
    torch.testing.assert_close(first.encode(images)[1].norm(dim=1), torch.ones(2))
