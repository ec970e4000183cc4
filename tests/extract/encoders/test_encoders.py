"""The encoders give the reference implementation's numbers and refuse what they can't read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional

from avem.errors import CheckpointError, MediaError, MissingFileError, SettingError
from avem.extract import load_audio_encoder, load_video_encoder
from avem.extract.decode.pixels import CLIP_MEAN, CLIP_STD
from avem.extract.encoders.random_weights import make_random_languagebind, make_random_whisper

TOLERANCE = 1e-4


def close(actual, expected, tolerance=TOLERANCE):
    np.testing.assert_allclose(np.asarray(actual), np.asarray(expected), atol=tolerance, rtol=0)


@pytest.mark.parametrize("kind", ["languagebind_video", "languagebind_video_lora"])
def test_languagebind_equals_reference_at_every_hidden_state(golden, kind):
    expected = np.load(golden / kind / "io.npz")
    pixels = torch.from_numpy(np.load(golden / "languagebind_video" / "io.npz")["pixel_values"])
    encoder = load_video_encoder(golden / kind)
    states = encoder.model.hidden_states(pixels)
    compared = [name for name in expected if name.startswith("hidden_states_")]
    assert compared
    for name in compared:
        close(states[int(name.rsplit("_", 1)[1])], expected[name])
    features, pooled = encoder.encode(pixels)
    close(features, expected["video_features"])
    close(encoder.model.pool(states[-1]), expected["video_embeds"])
    close(pooled, expected["video_embeds_normed"])


def test_languagebind_reads_pytorch_weights_as_safetensors(golden, tmp_path):
    source = golden / "languagebind_video"
    for name in ("config.json", "pytorch_model.bin"):
        (tmp_path / name).write_bytes((source / name).read_bytes())
    from_bin, from_safetensors = load_video_encoder(tmp_path), load_video_encoder(source)
    assert from_bin.fingerprint() == from_safetensors.fingerprint()
    pixels = torch.from_numpy(np.load(source / "io.npz")["pixel_values"])
    assert torch.equal(from_bin.encode(pixels)[0], from_safetensors.encode(pixels)[0])


def test_languagebind_layer_and_fingerprint(tmp_path):
    folder = make_random_languagebind(tmp_path / "m", projection_dim=None, layers=2)
    pixels = torch.randn(1, 3, 8, 56, 56)
    last, second = load_video_encoder(folder, layer=-1), load_video_encoder(folder, layer=1)
    states = last.model.hidden_states(pixels)
    assert torch.equal(last.encode(pixels)[0], states[2])
    assert torch.equal(second.encode(pixels)[0], states[1])
    assert last.fingerprint() != second.fingerprint()
    assert last.pooled_dim == 32
    with pytest.raises(SettingError, match="0 to 2"):
        load_video_encoder(folder, layer=3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays_near_float32(tmp_path, dtype):
    video = make_random_languagebind(tmp_path / "v")
    audio = make_random_whisper(tmp_path / "a", positions=100)
    pixels, mels = torch.randn(2, 3, 8, 56, 56), torch.randn(2, 80, 200)
    for load, folder, inputs in ((load_video_encoder, video, pixels), (load_audio_encoder, audio, mels)):
        exact, exact_pooled = load(folder).encode(inputs)
        rough, pooled = load(folder, dtype=dtype).encode(inputs)
        assert rough.dtype == dtype
        assert pooled.dtype == torch.float32
        assert functional.cosine_similarity(exact_pooled, pooled).min() > 0.999
        assert (exact - rough.float()).abs().mean() < 0.05


def test_one_frame_has_no_temporal_embedding(tmp_path):
    encoder = load_video_encoder(make_random_languagebind(tmp_path / "m", frames=1))
    before, _ = encoder.encode(torch.ones(1, 3, 1, 56, 56))
    for layer in encoder.model.vision_model.layers:
        layer.temporal_embedding.fill_(5.0)
    assert torch.equal(before, encoder.encode(torch.ones(1, 3, 1, 56, 56))[0])


@pytest.mark.parametrize(("height", "width"), [(96, 96), (61, 97), (120, 50), (20, 31), (720, 1280), (57, 56)])
def test_pixels_equal_torch_interpolation(tmp_path, height, width):
    encoder = load_video_encoder(make_random_languagebind(tmp_path / "m"))
    frames = np.random.default_rng(0).integers(0, 256, (3, height, width, 3), dtype=np.uint8)
    x = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255
    x = (x - torch.tensor(CLIP_MEAN).view(3, 1, 1)) / torch.tensor(CLIP_STD).view(3, 1, 1)
    scale = (56, int(width / height * 56)) if height <= width else (int(height / width * 56), 56)
    x = functional.interpolate(x, size=scale, mode="bilinear", align_corners=False, antialias=False)
    top, left = round((scale[0] - 56) / 2.0), round((scale[1] - 56) / 2.0)
    expected = x[:, :, top : top + 56, left : left + 56].transpose(0, 1)
    close(encoder.preprocess(frames), expected, 1e-5)


def test_wrong_frames_are_refused(tmp_path):
    encoder = load_video_encoder(make_random_languagebind(tmp_path / "m"))
    with pytest.raises(MediaError, match="uint8"):
        encoder.preprocess(np.zeros((8, 56, 56, 3), np.float32))
    with pytest.raises(CheckpointError, match="56 pixels"):
        encoder.encode(torch.zeros(1, 3, 8, 32, 32))
    with pytest.raises(CheckpointError, match="8 frames"):
        encoder.encode(torch.zeros(1, 3, 9, 56, 56))


@pytest.mark.parametrize("form", ["safetensors", "openai"])
def test_whisper_equals_reference(golden, form):
    folder = golden / "whisper"
    expected = np.load(folder / "io.npz")
    encoder = load_audio_encoder(folder if form == "safetensors" else folder / "openai_whisper.pt")
    mel = encoder.preprocess(expected["waveform"])
    close(mel, expected["mel_hf"][0], 2e-4)
    close(mel, expected["mel_openai"].reshape(mel.shape), 1e-6)
    short = np.pad(expected["waveform_short"], (0, 16000 - len(expected["waveform_short"])))
    close(encoder.preprocess(short), expected["mel_hf_short"][0], 2e-4)
    features, pooled = encoder.encode(torch.from_numpy(expected["mel_hf"]))
    close(features, expected["encoder_last_hidden_state"])
    mean = expected["encoder_last_hidden_state"].mean(axis=1)
    close(pooled, mean / np.linalg.norm(mean), 1e-5)


def test_whisper_layouts_share_a_fingerprint(golden):
    folder = golden / "whisper"
    assert load_audio_encoder(folder).fingerprint() == load_audio_encoder(folder / "openai_whisper.pt").fingerprint()


def test_whisper_reads_the_conditional_generation_layout(golden, tmp_path):
    source = golden / "whisper"
    (tmp_path / "config.json").write_bytes((source / "config.json").read_bytes())
    tensors = load_file(source / "model.safetensors")
    save_file({f"model.{name}": value for name, value in tensors.items()}, tmp_path / "model.safetensors")
    assert load_audio_encoder(tmp_path).fingerprint() == load_audio_encoder(source).fingerprint()


@pytest.mark.parametrize("n_mels", [80, 128])
def test_short_context_hears_as_much_as_its_positions(tmp_path, n_mels):
    encoder = load_audio_encoder(make_random_whisper(tmp_path / "a", n_mels=n_mels, positions=200))
    sound = np.random.default_rng(0).normal(0, 0.1, 16000 * 6).astype(np.float32)
    mel = encoder.preprocess(sound)
    assert mel.shape == (n_mels, 400)
    assert torch.equal(mel, encoder.preprocess(sound[: 4 * 16000]))
    features, pooled = encoder.encode(mel[None])
    assert features.shape == (1, 200, 64)
    close(pooled.norm(dim=-1), [1.0], 1e-5)
    with pytest.raises(CheckpointError, match=r"\(\d+, 400\)"):
        encoder.encode(torch.zeros(1, n_mels, 3000))


def test_random_checkpoints_are_reproducible_and_differ_by_seed(tmp_path):
    same = [load_video_encoder(make_random_languagebind(tmp_path / n, seed=1)).fingerprint() for n in "ab"]
    assert same[0] == same[1]
    assert load_video_encoder(make_random_languagebind(tmp_path / "c", seed=2)).fingerprint() != same[0]
    sounds = [load_audio_encoder(make_random_whisper(tmp_path / n, seed=3)).fingerprint() for n in "ab"]
    assert sounds[0] == sounds[1]


def test_wrong_checkpoints_are_named(tmp_path):
    video, audio = make_random_languagebind(tmp_path / "v"), make_random_whisper(tmp_path / "a", positions=50)
    with pytest.raises(CheckpointError, match="not a supported video encoder"):
        load_video_encoder(audio)
    with pytest.raises(CheckpointError, match="not a supported audio encoder"):
        load_audio_encoder(video)
    with pytest.raises(MissingFileError, match="--video-encoder"):
        load_video_encoder(tmp_path / "nowhere")
    config = json.loads((video / "config.json").read_text())
    config["vision_config"]["hidden_size"] = 64
    (video / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="instead of"):
        load_video_encoder(video)
    (audio / "model.safetensors").write_bytes((audio / "model.safetensors").read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="whole safetensors"):
        load_audio_encoder(audio)
    (audio / "model.safetensors").unlink()
    with pytest.raises(MissingFileError, match="holds no weights"):
        load_audio_encoder(audio)


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    torch.save({"dims": {}, "model_state_dict": Path("x")}, tmp_path / "bad.pt")
    with pytest.raises(CheckpointError, match="pickle can run code"):
        load_audio_encoder(tmp_path / "bad.pt")
