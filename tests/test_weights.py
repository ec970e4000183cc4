"""Weight folders: one order of names for whoever looks, fetches and reads; damage is one sentence; no code runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from avem.errors import CheckpointError, MissingFileError
from avem.extract import load_audio_encoder
from avem.extract.encoders.random_weights import make_random_whisper
from avem.locate import look_up, needed_files
from avem.train.model.language_models import load_language_model
from avem.weights import NAMES, read_tensors, tensor_shapes, weight_files


def write_form(folder: Path, name: str, value: float) -> None:
    """Weights in one form: a tensor whose value tells which form was read."""
    tensors = {"x": torch.full((2, 3), value)}
    safe, index = "safetensors" in name, name.endswith(".index.json")
    stem = name.split(".")[0]
    file = f"{stem}-00001-of-00001.{'safetensors' if safe else 'bin'}" if index else name
    save_file(tensors, folder / file) if safe else torch.save(tensors, folder / file)
    if index:
        (folder / name).write_text(json.dumps({"weight_map": {"x": file}}))


@pytest.mark.parametrize("best", range(len(NAMES)))
def test_what_is_fetched_is_what_is_read(tmp_path, best):
    for number, name in enumerate(NAMES[best:], start=best):
        write_form(tmp_path, name, float(number))
    [(name, tensor)] = read_tensors(tmp_path)
    assert (name, tensor.unique().tolist()) == ("x", [float(best)])
    assert tensor_shapes(tmp_path) == {"x": (2, 3)}
    needed = needed_files(path.name for path in tmp_path.iterdir())
    assert {path.name for path in weight_files(tmp_path)} == {name for name in needed if ".index." not in name}
    assert set(look_up(tmp_path).files) == set(needed)


def test_a_shard_is_read_beside_its_index_alone(tmp_path):
    (tmp_path / "model").mkdir()
    save_file({"x": torch.ones(1)}, tmp_path / "outside.safetensors")
    index = tmp_path / "model" / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"x": "../outside.safetensors"}}))
    with pytest.raises(MissingFileError, match=r"has no shard outside\.safetensors"):
        list(read_tensors(tmp_path / "model"))


@pytest.mark.parametrize("text", ["[]", "{}", '{"weight_map": 3}', '{"weight_map": {"x": 3}}', "{"])
def test_an_index_that_is_none_is_named(tmp_path, text):
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"model\.safetensors\.index\.json is not an index of shards"):
        list(read_tensors(tmp_path))
    assert look_up(tmp_path).problem == ""  # reading says it


@pytest.mark.parametrize("keep", [0, 1, 7, -20])
@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_file_cut_short_is_not_taken_for_weights(tmp_path, name, keep):
    write_form(tmp_path, name, 1.0)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[:keep])
    with pytest.raises(CheckpointError, match=rf"{name} .*(not a whole|not a PyTorch file|more than tensors)"):
        list(read_tensors(tmp_path))


def test_a_file_of_text_is_not_said_to_hold_code(tmp_path):
    (tmp_path / "pytorch_model.bin").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(CheckpointError, match="not a PyTorch file, fetch it again"):
        list(read_tensors(tmp_path))


def test_encoders_and_language_models_read_by_the_same_rules(tmp_path):
    folder = make_random_whisper(tmp_path / "whisper")
    (folder / "model.safetensors").rename(folder / "one.safetensors")
    for load in (load_audio_encoder, lambda path: list(read_tensors(path))):
        with pytest.raises(MissingFileError, match="holds no weights"):
            load(folder)
    index = {"weight_map": {"x": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(MissingFileError, match=r"has no shard model-00001-of-00002"):
        load_audio_encoder(folder)
    with pytest.raises(CheckpointError, match=r"model-00001-of-00002|language model"):
        load_language_model(folder)
