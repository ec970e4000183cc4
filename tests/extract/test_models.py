"""Models are looked for in one order, only what is needed is fetched, and a message says what is missing."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from avem import locate
from avem.cli import main
from avem.errors import MissingFileError
from avem.extract.encoders.random_weights import make_random_whisper
from avem.locate import locate_model, look_up, needed_files

WHISPER = {
    ".gitattributes": 1,
    "README.md": 2,
    "config.json": 3,
    "preprocessor_config.json": 4,
    "model.safetensors": 100,
    "model.fp32-00001-of-00002.safetensors": 200,
    "model.safetensors.index.fp32.json": 5,
    "pytorch_model.bin": 100,
    "flax_model.msgpack": 100,
    "onnx/model.onnx": 100,
    "tokenizer.json": 6,
}
SHARDED = {
    "config.json": 1,
    "pytorch_model-00001-of-00002.bin": 10,
    "pytorch_model-00002-of-00002.bin": 10,
    "pytorch_model.bin.index.json": 1,
    "tokenizer.model": 1,
    "training_args.bin": 1,
    "global_step1/optim.pt": 99,
}


@pytest.fixture
def hub(monkeypatch):
    """A hub that has what is put in, and no cache."""
    repositories: dict[str, dict[str, int]] = {}
    fetched = []

    def model_info(_, name, **__):
        if name not in repositories:
            raise TimeoutError
        files = [SimpleNamespace(rfilename=file, size=size) for file, size in repositories[name].items()]
        return SimpleNamespace(siblings=files)

    def download(name, *, allow_patterns=None, local_files_only=False):
        if local_files_only:
            raise locate.LocalEntryNotFoundError("nothing")
        fetched.extend(allow_patterns)
        return f"/cache/{name}"

    monkeypatch.setattr(locate.HfApi, "model_info", model_info)
    monkeypatch.setattr(locate, "snapshot_download", download)
    return SimpleNamespace(repositories=repositories, fetched=fetched)


def test_one_form_of_the_weights_is_needed():
    assert needed_files(WHISPER) == [
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "tokenizer.json",
    ]
    assert needed_files(SHARDED) == [
        "config.json",
        "pytorch_model-00001-of-00002.bin",
        "pytorch_model-00002-of-00002.bin",
        "pytorch_model.bin.index.json",
        "tokenizer.model",
    ]
    assert needed_files(["large-v3.pt", "notes.md"]) == ["large-v3.pt"]
    ours = ["adapter_config.json", "adapter_model.safetensors", "config.json", "projectors.safetensors"]
    assert needed_files([*ours, "metrics.jsonl"]) == ours
    assert needed_files(["odd.weights"]) == ["odd.weights"]


def test_only_needed_files_are_fetched(hub):
    hub.repositories["openai/whisper"] = WHISPER
    found = look_up("openai/whisper")
    assert (found.source, found.size_bytes, found.problem) == ("hub", 113, "")
    assert str(locate_model("openai/whisper", "--audio-encoder")) == "/cache/openai/whisper"
    assert hub.fetched == needed_files(WHISPER)


def test_without_a_hub_the_message_says_what_to_download(hub):
    with pytest.raises(MissingFileError, match=r"hf download openai/whisper.*config\.json.*--audio-encoder"):
        locate_model("openai/whisper", "--audio-encoder")
    with pytest.raises(MissingFileError, match=r"no model at \./here.*--audio-encoder"):
        locate_model("./here", "--audio-encoder")
    assert look_up("openai/whisper").problem == "the hub does not give it (TimeoutError)"


def test_a_part_of_a_model_in_the_cache_is_not_taken_for_the_model(hub, tmp_path, monkeypatch):
    make_random_whisper(tmp_path / "m")
    monkeypatch.setattr(locate, "_cached", lambda _: tmp_path / "m")
    assert locate_model("a/b", "--model") == tmp_path / "m"
    assert look_up("a/b").source == "cache"
    (tmp_path / "m" / "model.safetensors").unlink()
    with pytest.raises(MissingFileError, match="has no weights, and the hub"):
        locate_model("a/b", "--model")
    (tmp_path / "m" / "model.safetensors.index.json").write_text('{"weight_map": {"x": "model-1-of-2.safetensors"}}')
    with pytest.raises(MissingFileError, match=r"has no model-1-of-2\.safetensors"):
        locate_model("a/b", "--model")
    hub.repositories["a/b"] = WHISPER
    assert str(locate_model("a/b", "--model")) == "/cache/a/b"


def run(capsys, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["avem", "models", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code
    return capsys.readouterr().out


def test_the_command_lists_needs_path_and_size(hub, tmp_path, capsys, monkeypatch):
    hub.repositories["openai/whisper-large-v3"] = WHISPER
    out = run(capsys, monkeypatch)
    assert "openai/whisper-large-v3: audio encoder of `avem extract` (--audio-encoder)" in out
    assert "needs config.json, model.safetensors" in out
    assert "downloaded from the hub when first used" in out
    assert "hf download LanguageBind/LanguageBind_Video_merge" in out
    assert "chaubeyG/AVERE-7B" in out
    folder = make_random_whisper(tmp_path / "m")
    out = run(capsys, monkeypatch, "list", str(folder), "x/y", "--no-hub")
    assert f"found at {folder}" in out
    assert "it is not in the Hugging Face cache" in out
