"""EVA-CLIP-g: the numbers of the authors' tower on random weights, other sizes, and files it can't be read from."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import torch
from torch.nn import functional

from avem.errors import CheckpointError, MediaError, MissingFileError
from avem.extract.decode.pixels import CLIP_MEAN, CLIP_STD, preprocess_square
from avem.extract.encoders.eva import EvaSettings, interpolate_positions, load_eva


@pytest.fixture(scope="module")
def folder(golden):
    return golden / "emotion_llama"


@pytest.fixture(scope="module")
def io(folder):
    return np.load(folder / "io.npz")


def close(actual, expected, tolerance):
    np.testing.assert_allclose(np.asarray(actual), np.asarray(expected), atol=tolerance, rtol=0)


def test_a_frame_becomes_the_authors_image(io):
    for number in range(len(io["image"])):
        image = preprocess_square(io[f"raw_frame_{number}"], io["image"].shape[-1])
        close(image, io["image"][number], 1e-5)


def test_a_frame_of_one_colour_keeps_it():
    image = preprocess_square(np.full((5, 9, 3), (255, 0, 51), np.uint8), 14)
    expected = (np.array([1.0, 0.0, 0.2]) - CLIP_MEAN) / CLIP_STD
    close(image, np.broadcast_to(expected[:, None, None], (3, 14, 14)), 1e-5)
    with pytest.raises(MediaError, match="uint8"):
        preprocess_square(np.zeros((4, 4, 3), np.float32), 14)


def test_positions_are_stretched_as_the_authors_function_does(io):
    cases = [name.removesuffix("_in") for name in io if name.endswith("_in")]
    assert len(cases) == 4
    for case in cases:
        grid = int(case.rsplit("_", 1)[1])
        close(interpolate_positions(torch.from_numpy(io[f"{case}_in"]), grid), io[f"{case}_out"], 1e-5)


def test_tower_equals_reference(folder, io):
    tower = load_eva(folder / "eva_vit.pth", EvaSettings.read(folder / "eva_config.json"))
    close(tower.pos_embed, io["pos_embed"], 1e-5)
    with torch.no_grad():
        close(tower(torch.from_numpy(io["image"])), io["eva_tokens"], 2e-6)
        image = torch.from_numpy(io["image"]).double()
        close(tower.cast(torch.float64)(image), io["eva_tokens"], 2e-6)


def test_tower_on_the_grid_of_its_file(folder, io):
    shown = io["same_grid_image"]
    settings = EvaSettings(image_size=shown.shape[-1], depth=2, num_heads=4)
    tower = load_eva(folder / "eva_vit.pth", settings)
    stored = torch.load(folder / "eva_vit.pth", weights_only=True)["pos_embed"].float()
    assert torch.equal(tower.pos_embed, stored)
    with torch.no_grad():
        close(tower(torch.from_numpy(shown)), io["same_grid_eva_tokens"], 2e-6)


def test_matrices_in_half_precision_leave_the_stream_in_float32(folder, io):
    tower = load_eva(folder / "eva_vit.pth", EvaSettings.read(folder / "eva_config.json")).cast(torch.bfloat16)
    with torch.no_grad():
        tokens = tower(torch.from_numpy(io["image"]))
    assert tokens.dtype == torch.float32
    assert functional.cosine_similarity(tokens.flatten(1), torch.from_numpy(io["eva_tokens"]).flatten(1)).min() > 0.999
    assert {tower.blocks[0].norm1.weight.dtype, tower.blocks[0].attn.q_bias.dtype} == {torch.float32}
    assert tower.blocks[0].mlp.fc1.weight.dtype == torch.bfloat16


def test_digest_is_of_what_is_used(folder, tmp_path):
    settings = EvaSettings.read(folder / "eva_config.json")
    content = torch.load(folder / "eva_vit.pth", weights_only=True)
    kept = {name: value for name, value in content.items() if not name.startswith(("blocks.2.", "norm.", "head."))}
    torch.save(kept, tmp_path / "kept.pth")
    torch.save({**kept, "cls_token": kept["cls_token"] + 1}, tmp_path / "changed.pth")
    digest = load_eva(folder / "eva_vit.pth", settings).weights_sha256
    assert load_eva(tmp_path / "kept.pth", settings).weights_sha256 == digest
    assert load_eva(tmp_path / "changed.pth", settings).weights_sha256 != digest
    assert load_eva(folder / "eva_vit.pth", EvaSettings(112, 3, 4)).weights_sha256 != digest


def test_released_sizes_are_the_default():
    assert EvaSettings.read(None) == EvaSettings(448, 39, 16, 1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depth": 9}, "has 3 blocks and 9 are to be used"),
        ({"num_heads": 3}, "do not divide"),
        ({"image_size": 100}, "do not divide"),
        ({"depth": "two"}, "depth is 'two'"),
        ({"layer_norm_eps": 0}, "layer_norm_eps is 0"),
    ],
)
def test_settings_that_do_not_fit(folder, tmp_path, change, message):
    values = json.loads((folder / "eva_config.json").read_text())
    (tmp_path / "eva.json").write_text(json.dumps({**values, **change}))
    with pytest.raises(CheckpointError, match=message):
        load_eva(folder / "eva_vit.pth", EvaSettings.read(tmp_path / "eva.json"))


def test_files_that_are_not_the_tower(folder, tmp_path):
    settings = EvaSettings.read(folder / "eva_config.json")
    content = torch.load(folder / "eva_vit.pth", weights_only=True)
    missing = {name: value for name, value in content.items() if name != "blocks.1.attn.v_bias"}
    flat = {**content, "pos_embed": content["pos_embed"][:, :-1]}
    cases = {
        "v_bias is missing": missing,
        "not a square": flat,
        "not an EVA tower": {"weight": torch.zeros(2)},
        "not a dictionary of tensors": {"model": content},
    }
    for message, broken in cases.items():
        torch.save(broken, tmp_path / "eva.pth")
        with pytest.raises(CheckpointError, match=message):
            load_eva(tmp_path / "eva.pth", settings)
    whole = (folder / "eva_vit.pth").read_bytes()
    (tmp_path / "eva.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="fetch it again"):
        load_eva(tmp_path / "eva.pth", settings)
    with pytest.raises(MissingFileError):
        EvaSettings.read(tmp_path / "absent.json")


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_pickle_with_code_is_not_run(tmp_path):
    torch.save({"pos_embed": Payload(tmp_path / "ran")}, tmp_path / "eva.pth", pickle_module=pickle)
    with pytest.raises(CheckpointError, match="a pickle can run code"):
        load_eva(tmp_path / "eva.pth")
    assert not (tmp_path / "ran").exists()


def test_an_image_of_another_size(folder):
    tower = load_eva(folder / "eva_vit.pth", EvaSettings.read(folder / "eva_config.json"))
    with pytest.raises(CheckpointError, match=r"\[3, 112, 112\]"):
        tower(torch.zeros(1, 3, 56, 56))
