"""HuBERT: the numbers of the authors' call on random weights, file layouts, and folders it can't be read from."""

from __future__ import annotations

import json
import shutil

import av
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from avem.errors import CheckpointError, MediaError, MissingFileError
from avem.extract.encoders.hubert import load_hubert


@pytest.fixture(scope="module")
def folder(golden):
    return golden / "emotion_llama" / "hubert"


@pytest.fixture(scope="module")
def io(golden):
    return np.load(golden / "emotion_llama" / "io.npz")


def close(actual, expected, tolerance=5e-5):
    np.testing.assert_allclose(np.asarray(actual), np.asarray(expected), atol=tolerance, rtol=0)


@pytest.mark.parametrize("number", [0, 1])
def test_utterance_equals_reference(folder, io, number):
    hubert = load_hubert(folder)
    sound = hubert.prepare(torch.from_numpy(io[f"hubert_wave_{number}"]))
    close(sound, io[f"hubert_input_values_{number}"])
    with torch.no_grad():
        close(hubert.states(sound[None])[0], io[f"hubert_last_hidden_state_{number}"])
        close(hubert.utterance(sound[None])[0], io[f"hubert_utterance_{number}"])


def test_hidden_states_before_the_last_norm_are_not_taken(folder, io):
    hubert = load_hubert(folder)
    sound = torch.from_numpy(io["hubert_input_values_0"])[None]
    with torch.no_grad():
        before = hubert.module(sound, output_hidden_states=True).hidden_states[-1]
        assert (before.mean(1) - hubert.utterance(sound)).abs().max() > 1


def test_new_names_safetensors_and_a_model_around_it_read_the_same(folder, tmp_path):
    state = torch.load(folder / "pytorch_model.bin", weights_only=True)
    for name in ("config.json", "preprocessor_config.json"):
        shutil.copy(folder / name, tmp_path)
    weights = "encoder.pos_conv_embed.conv."
    renamed = {
        f"hubert.{name}".replace(f"{weights}weight_g", f"{weights}parametrizations.weight.original0").replace(
            f"{weights}weight_v", f"{weights}parametrizations.weight.original1"
        ): value.contiguous()
        for name, value in state.items()
        if name != "masked_spec_embed"
    }
    save_file({**renamed, "lm_head.weight": torch.zeros(2, 2)}, tmp_path / "model.safetensors")
    ours, theirs = load_hubert(tmp_path), load_hubert(folder)
    assert ours.weights_sha256 == theirs.weights_sha256
    sound = torch.randn(1, 2000)
    with torch.no_grad():
        assert torch.equal(ours.utterance(sound), theirs.utterance(sound))


def test_sound_is_normalised_only_where_the_folder_says_so(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "hubert")
    settings = tmp_path / "hubert" / "preprocessor_config.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "do_normalize": False}))
    sound = torch.randn(1000) + 3
    assert torch.equal(load_hubert(tmp_path / "hubert").prepare(sound), sound)
    assert abs(float(load_hubert(folder).prepare(sound).mean())) < 1e-6


def test_shortest_sound_gives_one_step(folder):
    hubert = load_hubert(folder)
    assert hubert.shortest == 400  # 25 ms: the convolutions' receptive field, worked out by hand
    with torch.no_grad():
        assert hubert.states(hubert.prepare(torch.randn(400))[None]).shape == (1, 1, 20)
    with pytest.raises(MediaError, match="399 samples, fewer than the 400"):
        hubert.prepare(torch.randn(399))


def test_folders_that_are_not_hubert(folder, tmp_path):
    def changed(name, **values):
        shutil.copytree(folder, tmp_path / name)
        path = tmp_path / name / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
        return tmp_path / name

    with pytest.raises(CheckpointError, match="'wav2vec2' model, not a HuBERT"):
        load_hubert(changed("other", model_type="wav2vec2"))
    with pytest.raises(CheckpointError, match="do not fit its configuration"):
        load_hubert(changed("deeper", num_hidden_layers=3))
    with pytest.raises(CheckpointError, match="does not describe a HuBERT model"):
        load_hubert(changed("odd", conv_dim=[16]))
    cut = changed("cut")
    whole = (cut / "pytorch_model.bin").read_bytes()
    (cut / "pytorch_model.bin").write_bytes(whole[:5000])
    with pytest.raises(CheckpointError, match="fetch it again"):
        load_hubert(cut)
    (cut / "pytorch_model.bin").unlink()
    with pytest.raises(MissingFileError, match="holds no weights"):
        load_hubert(cut)
    (cut / "preprocessor_config.json").unlink()
    with pytest.raises(MissingFileError, match="preprocessor_config"):
        load_hubert(cut)


def test_the_golden_waves_are_the_golden_files(golden, io):
    for number in (0, 1):
        with av.open(golden / "emotion_llama" / f"clip_{number}.wav") as media:
            samples = np.concatenate([frame.to_ndarray()[0] for frame in media.decode(audio=0)])
        close(samples / np.float32(32768), io[f"hubert_wave_{number}"], 1e-7)
