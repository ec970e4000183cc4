"""Extraction for Qwen-Omni models: features equal transformers' own, runs resume, and bad folders are named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from avem.cache import FeatureStore
from avem.cli import app
from avem.errors import AvemError, CheckpointError, FingerprintError, MissingFileError, SettingError
from avem.extract import ExtractOptions, extract, read_waveform
from avem.extract.decode.fitted import Fitted
from avem.extract.decode.media import read_video
from avem.extract.decode.wants import Evenly, Rate
from avem.extract.encoders.omni.audio import load_omni_audio
from avem.extract.encoders.omni.settings import picture_settings
from avem.extract.encoders.omni.vision import load_omni_vision, patches_of
from avem.extract.repair import repair
from avem.hub.omni import OmniFolder
from tests.extract.long_kit import write_long
from tests.extract.omni_kit import CONFIGS, FAMILY, PATCH, WIDTH, own_sound, thinker, write_full, write_thinker

MODELS = list(CONFIGS)


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    """Thinkers saved alone, by model type."""
    root = tmp_path_factory.mktemp("thinkers")
    return {model_type: write_thinker(root / model_type, model_type) for model_type in MODELS}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, make_clip) -> Path:
    """Five clips of different lengths and sizes; one has no sound, one is no film."""
    root = tmp_path_factory.mktemp("omni") / "data"
    for index in range(4):
        sound = None if index == 2 else 0.3
        make_clip(
            root / f"happy/{index}.mp4", frames=5 + 7 * index, size=(64 + 32 * index, 48), seed=index, sound=sound
        )
    (root / "happy/broken.mp4").write_bytes(b"no film")
    return root


def options(model: Path, **changes) -> ExtractOptions:
    return ExtractOptions(**{"model": model, "workers": 1, "rows_per_shard": 2, "precision": "float32", **changes})


@pytest.fixture(scope="module")
def stores(models, corpus, tmp_path_factory) -> dict[str, Path]:
    """A store of each model, extracted with the family's own sampling."""
    root = tmp_path_factory.mktemp("stores")
    for model_type, model in models.items():
        report = extract(corpus, root / model_type, options(model))
        assert report.encoded == {"video": 4, "audio": 3}
    return {model_type: root / model_type for model_type in models}


def row_of(store: FeatureStore, name: str) -> int:
    return int(store.rows([f"data/happy/{name}"])[0])


@pytest.mark.parametrize("model_type", MODELS)
def test_the_stores_features_are_transformers_own(model_type, models, stores, corpus):
    store = FeatureStore.open(stores[model_type])
    model, family = thinker(model_type), FAMILY[model_type]
    video, audio = store.stream(f"video/{family}"), store.stream(f"audio/{family}")
    settings = picture_settings(OmniFolder.open(models[model_type]))
    for index in (0, 1, 3):
        path, row = corpus / f"happy/{index}.mp4", row_of(store, str(index))
        frames = settings.fitted(read_video(path, Rate(2.0)).frames)
        pixels, grid = patches_of(torch.from_numpy(frames), settings)
        with torch.no_grad():
            own = model.get_video_features(pixels, torch.tensor([grid]))
        kept = own.pooler_output[0].to(torch.bfloat16)
        assert torch.equal(video.rows([row])[0], kept)
        assert video.companion("grid", [row])[0].tolist() == list(grid)
        assert video.companion("seconds_per_slot", [row])[0].item() == 1.0
        assert int(video.lengths([row])[0]) == len(kept) == grid[0] * grid[1] * grid[2] // 4
        pooled = own.pooler_output[0].mean(dim=0)
        assert video.pooled()[row] == pytest.approx((pooled / pooled.norm()).numpy(), abs=1e-6)
        if family == "qwen3_omni":
            deepstack = torch.stack([level[0] for level in own.deepstack_features])
            assert torch.equal(video.companion("deepstack", [row])[0], deepstack.to(torch.bfloat16))
        sound = read_waveform(path)
        assert torch.equal(audio.rows([row])[0], own_sound(model, model_type, sound).to(torch.bfloat16))
        assert int(audio.companion("mel_frames", [row])[0]) == -(-len(sound) // 160) - (
            family == "qwen3_omni" and len(sound) % 160 > 0
        )
    assert store.clips["audio_status"].to_pylist()[row_of(store, "2")].startswith("failed")
    assert not video.available[row_of(store, "broken")]


@pytest.mark.parametrize("model_type", MODELS)
@pytest.mark.parametrize("seconds", [1.0, 2.5, 7.71605, 30.0])
def test_sound_of_any_length_is_as_the_processor_makes_it(model_type, seconds, models):
    sound = np.random.default_rng(0).standard_normal(int(seconds * 16_000)).astype(np.float32) / 10
    encoder = load_omni_audio(models[model_type])
    from avem.extract.encoders.base import Decoded

    features = encoder.encode_clips([encoder.inputs(Decoded(sound))]).features[0]
    assert torch.equal(features, own_sound(thinker(model_type), model_type, sound))


@pytest.mark.parametrize("model_type", MODELS)
def test_a_row_does_not_depend_on_what_is_encoded_with_it(model_type, models):
    encoder = load_omni_vision(models[model_type])
    from avem.extract.encoders.base import Decoded

    rng, side = np.random.default_rng(1), encoder.settings.factor
    clips = [
        encoder.inputs(Decoded(rng.integers(0, 256, (count, side * 3, side * 2, 3), dtype=np.uint8), 2.0))
        for count in (1, 4, 7)
    ]
    together = encoder.encode_clips(clips).features
    for clip, row in zip(clips, together, strict=True):
        assert torch.equal(encoder.encode_clips([clip]).features[0], row)


def test_a_full_checkpoint_and_its_thinker_are_one_model(models, tmp_path):
    for model_type, model in models.items():
        full = OmniFolder.open(write_full(tmp_path / model_type, model, model_type))
        alone = OmniFolder.open(model)
        assert (full.prefix, alone.prefix) == ("thinker.", "")
        for tower in ("visual", "audio"):
            assert full.tower_digest(tower) == alone.tower_digest(tower)
        other = OmniFolder.open(write_thinker(tmp_path / f"{model_type}-other", model_type, seed=1))
        assert other.tower_digest("visual") != alone.tower_digest("visual")


def test_only_towers_are_loaded(models, tmp_path, corpus):
    """The language model's shard may be unreadable: nothing of it is needed."""
    model = write_full(tmp_path / "full", models["qwen2_5_omni"], "qwen2_5_omni", shards=1)
    tensors = load_file(model / "model-00001-of-00001.safetensors")
    rest = {name: value for name, value in tensors.items() if ".visual." not in name and ".audio_tower." not in name}
    towers = {name: value for name, value in tensors.items() if name not in rest}
    save_file(towers, model / "model-00001-of-00001.safetensors")
    weight_map = dict.fromkeys(towers, "model-00001-of-00001.safetensors")
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert extract(corpus, tmp_path / "store", options(model, limit=1)).encoded == {"video": 1, "audio": 1}


def test_frames_spread_evenly_give_the_time_of_a_slot(models, corpus, tmp_path):
    extract(corpus, tmp_path / "store", options(models["qwen2_5_omni"], frames=6, streams=("video",)))
    store = FeatureStore.open(tmp_path / "store")
    stream = store.stream("video/qwen2_5_omni")
    for index in (0, 3):
        path, row = corpus / f"happy/{index}.mp4", row_of(store, str(index))
        duration_s = read_video(path, 1).duration_s
        assert stream.companion("seconds_per_slot", [row])[0].item() == pytest.approx(2 * duration_s / 6)
        assert stream.companion("grid", [row])[0][0] == 3
    assert store.streams == ("video/qwen2_5_omni",)
    assert stream.fingerprint["preprocessing"]["frames"] == 6
    assert "fps" not in stream.fingerprint["preprocessing"]


def test_a_killed_run_resumes_to_the_same_bytes(models, corpus, tmp_path, extract_and_die):
    wanted = options(models["qwen3_omni_moe"], max_pixels=40_000)
    killed, _ = extract_and_die(corpus, tmp_path / "killed", wanted, 2)
    assert killed
    extract(corpus, tmp_path / "killed", wanted)
    extract(corpus, tmp_path / "whole", wanted)
    files = sorted(path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("c.*"))
    assert files
    for file in files:
        assert (tmp_path / "killed" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes(), file


def test_two_devices_write_what_one_does(models, corpus, stores, tmp_path):
    extract(corpus, tmp_path / "store", options(models["qwen2_5_omni"], device="cpu,cpu", workers=2))
    for file in sorted(stores["qwen2_5_omni"].rglob("c.*")):
        other = tmp_path / "store" / file.relative_to(stores["qwen2_5_omni"])
        assert other.read_bytes() == file.read_bytes(), file


def test_one_store_holds_the_streams_of_several_models(models, corpus, encoders, tmp_path):
    store = tmp_path / "store"
    extract(corpus, store, ExtractOptions(**encoders, workers=1, limit=2))
    for model in models.values():
        extract(corpus, store, options(model, limit=2))
    opened = FeatureStore.open(store)
    assert opened.streams == (
        "video/languagebind-video",
        "audio/whisper",
        "video/qwen2_5_omni",
        "audio/qwen2_5_omni",
        "video/qwen3_omni",
        "audio/qwen3_omni",
    )
    assert all(opened.stream(name).available.all() for name in opened.streams)


def test_nothing_is_done_twice(models, corpus, stores, monkeypatch):
    monkeypatch.setattr("avem.extract.pipeline.open_engine", lambda *_: pytest.fail("the encoders were loaded"))
    report = extract(corpus, stores["qwen2_5_omni"], options(models["qwen2_5_omni"]))
    assert not report.encoded
    assert len(report.failures) == 3


@pytest.mark.parametrize(
    "changes", [{"fps": 1.0}, {"frames": 8}, {"max_pixels": 50_176}, {"min_pixels": 50_176}, {"precision": "bfloat16"}]
)
def test_a_store_of_other_settings_is_refused(changes, models, corpus, stores, tmp_path):
    store = shutil.copytree(stores["qwen2_5_omni"], tmp_path / "store")
    before = {path: path.read_bytes() for path in store.rglob("c.*")}
    with pytest.raises(FingerprintError, match="extract into another store"):
        extract(corpus, store, options(models["qwen2_5_omni"], **changes))
    assert {path: path.read_bytes() for path in store.rglob("c.*")} == before


def test_a_store_of_another_model_of_the_family_is_refused(corpus, stores, tmp_path):
    other = write_thinker(tmp_path / "other", "qwen2_5_omni", seed=1)
    with pytest.raises(FingerprintError, match="video/qwen2_5_omni"):
        extract(corpus, stores["qwen2_5_omni"], options(other))


def talker(folder: Path) -> None:
    names = load_file(folder / "model.safetensors")
    save_file({f"talker.{name}": value for name, value in names.items()}, folder / "model.safetensors")


def short(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors | {"visual.merger.ln_q.weight": torch.ones(3)}, folder / "model.safetensors")


def cut(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def lose(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    index = {"weight_map": dict.fromkeys(tensors, "model-00001-of-00002.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def rename(folder: Path) -> None:
    change(folder, model_type="qwen_next_omni", auto_map={"AutoConfig": "mine.Config"})


def change(folder: Path, **entries) -> None:
    config = folder / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **entries}))


def pickle(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


BAD = {
    "no config": (lambda folder: (folder / "config.json").unlink(), MissingFileError, "config.json"),
    "config is a list": (lambda folder: (folder / "config.json").write_text("[]"), CheckpointError, "config.json"),
    "talker alone": (talker, CheckpointError, "no weights of a thinker"),
    "talker's config": (lambda f: change(f, model_type="qwen2_5_omni_talker"), CheckpointError, "no thinker"),
    "shard missing": (lose, MissingFileError, "model-00001-of-00002.safetensors"),
    "wrong shape": (short, CheckpointError, "merger.ln_q.weight"),
    "cut off": (cut, CheckpointError, "whole safetensors file"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), MissingFileError, "no weights"),
    "pickled": (pickle, CheckpointError, "safetensors"),
    "remote code": (rename, CheckpointError, "qwen_next_omni"),
    "no such size": (lambda f: change(f, vision_config={"depth": "three"}), CheckpointError, "config.json"),
    "other patches": (
        lambda f: (f / "preprocessor_config.json").write_text('{"patch_size": 16}'),
        CheckpointError,
        "patch_size",
    ),
    "no resizing": (
        lambda f: (f / "preprocessor_config.json").write_text('{"do_resize": false}'),
        CheckpointError,
        "do_resize",
    ),
    "other mel bins": (
        lambda f: (f / "preprocessor_config.json").write_text('{"feature_size": 80}'),
        CheckpointError,
        "mel bins",
    ),
}


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_folder_is_one_sentence_and_leaves_no_store(fault, models, corpus, tmp_path):
    spoil, error, words = BAD[fault]
    folder = shutil.copytree(models["qwen2_5_omni"], tmp_path / "model")
    spoil(folder)
    with pytest.raises(error, match=words) as raised:
        extract(corpus, tmp_path / "store", options(folder))
    assert isinstance(raised.value, AvemError)
    assert raised.value.exit_status == 2
    assert str(raised.value).count("\n") == 0
    assert str(folder) in str(raised.value)
    assert not (tmp_path / "store").exists()


def test_a_tokenizer_of_another_checkpoint_is_named(models, tmp_path):
    folder = shutil.copytree(models["qwen3_omni_moe"], tmp_path / "model")
    tokens = [{"id": 7, "content": "<|audio_pad|>"}]
    (folder / "tokenizer.json").write_text(json.dumps({"added_tokens": tokens}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"audio_token": "<|audio_pad|>"}))
    with pytest.raises(CheckpointError, match=r"audio placeholder <\|audio_pad\|> is 7"):
        OmniFolder.open(folder).check_tokenizer()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fps": 0.0}, "--fps"),
        ({"fps": float("nan")}, "--fps"),
        ({"fps": 2.0, "frames": 8}, "--frames"),
        ({"frames": 0}, "--frames"),
        ({"max_pixels": 0}, "--max-pixels"),
        ({"video_encoder": "towers/video"}, "leave out --video-encoder, or leave out --for"),
        ({"audio_encoder": Path("towers/audio")}, "leave out --audio-encoder, or leave out --for"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes, words, models):
    with pytest.raises(SettingError, match=words):
        ExtractOptions(model=models["qwen2_5_omni"], **changes)


def test_settings_of_a_model_need_one():
    with pytest.raises(SettingError, match="--for"):
        ExtractOptions(fps=2.0)


@pytest.mark.parametrize("changes", [{"max_pixels": 100}, {"min_pixels": 9_000, "max_pixels": 8_000}])
def test_a_budget_without_a_frame_is_refused(changes, models, corpus, tmp_path):
    with pytest.raises(SettingError, match="--max-pixels"):
        extract(corpus, tmp_path / "store", options(models["qwen2_5_omni"], **changes))


def test_a_dry_run_needs_no_weights_and_says_what_less_would_save(models, make_clip, tmp_path):
    make_clip(tmp_path / "data/happy/large.mp4", frames=16, size=(1280, 720))
    folder = shutil.copytree(models["qwen3_omni_moe"], tmp_path / "model")
    (folder / "model.safetensors").unlink()
    config = json.loads((folder / "config.json").read_text())  # of the released width: a row fills whole chunks
    change(folder, vision_config={**config["vision_config"], "out_hidden_size": 2048})
    report = extract(tmp_path / "data", tmp_path / "store", options(folder, dry_run=True))
    size = report.sizes["video"]
    grid = Fitted(32, 128 * 32**2, 768 * 32**2).size(4, 720, 1280)
    tokens = 2 * grid[0] * grid[1] // 32**2
    assert size.tokens_a_clip == tokens
    assert list(size.smaller) == [f"--max-pixels {tokens * 32**2}" for tokens in (512, 256, 128, 64)]
    for setting, bytes_a_clip in size.smaller.items():
        less = options(folder, dry_run=True, max_pixels=int(setting.split()[1]))
        smaller = extract(tmp_path / "data", tmp_path / "store", less).sizes["video"]
        assert smaller.bytes_a_clip == bytes_a_clip < size.bytes_a_clip
        assert f"With {setting}:" in report.summary
    assert f"{tokens:,} tokens" in report.summary
    assert not (tmp_path / "store").exists()


def test_a_dry_run_foretells_the_size_on_disk(models, corpus, stores):
    report = extract(corpus, stores["qwen2_5_omni"].parent / "none", options(models["qwen2_5_omni"], dry_run=True))
    store = FeatureStore.open(stores["qwen2_5_omni"])
    for slot in ("video", "audio"):
        stream = store.stream(f"{slot}/qwen2_5_omni")
        rows = np.flatnonzero(stream.available)
        assert report.sizes[slot].tokens_a_clip == pytest.approx(float(np.mean(stream.lengths(rows))), rel=0.1)


def test_the_command_takes_a_model(models, corpus, tmp_path, capsys):
    arguments = ["extract", str(corpus), "--cache", str(tmp_path / "store"), "--for", str(models["qwen2_5_omni"])]
    with pytest.raises(SystemExit) as ended:
        app([*arguments, "--frames", "4", "--workers", "1", "--limit", "2"], standalone_mode=True)
    assert ended.value.code == 0
    assert FeatureStore.open(tmp_path / "store").stream("video/qwen2_5_omni").rows([0])[0].shape[1] == WIDTH


@pytest.mark.parametrize("most", [784, 20_000, 50_176, 100_352, 602_112])
def test_no_frame_is_above_the_budget(most, models):
    settings = picture_settings(OmniFolder.open(models["qwen2_5_omni"]), max_pixels=most)
    for frames, height, width in ((4, 48, 64), (8, 224, 224), (60, 720, 1280), (768, 1080, 1920)):
        tall, wide = settings.fitted.size(frames, height, width)
        assert tall * wide <= most


@pytest.mark.parametrize("model_type", MODELS)
def test_the_budget_is_that_of_the_family(model_type, models):
    settings = picture_settings(OmniFolder.open(models[model_type]))
    token = (2 * PATCH[model_type]) ** 2
    assert (settings.min_pixels, settings.max_pixels) == (128 * token, 768 * token)
    assert settings.cap_pixels_per_frame
    assert settings.sampling == Rate(2.0, 4, 768, 2)
    assert picture_settings(OmniFolder.open(models[model_type]), frames=5).sampling == Evenly(5)


def test_damaged_rows_are_repaired_as_they_were_made(models, corpus, stores, tmp_path):
    store = shutil.copytree(stores["qwen2_5_omni"], tmp_path / "store")
    features = next(path for path in sorted((store / "video/qwen2_5_omni/features").glob("c.*")))
    before = features.read_bytes()
    features.write_bytes(bytes([before[0] ^ 1]) + before[1:])
    unnamed = repair(store, ExtractOptions(workers=1, precision="float32"))
    assert "--for" in next(iter(unnamed.left.values()))
    report = repair(store, ExtractOptions(model=models["qwen2_5_omni"], workers=1, precision="float32"))
    assert report.repaired == ["data/happy/0"]
    assert not report.left
    assert features.read_bytes() == before


def test_windows_have_their_own_frames_and_sound(models, tmp_path):
    write_long(tmp_path / "data/happy/talk.mov", seconds=45)
    wanted = options(models["qwen3_omni_moe"], frames=8, long="windows", max_pixels=20_000)
    extract(tmp_path / "data", tmp_path / "store", wanted)
    store = FeatureStore.open(tmp_path / "store")
    rows = store.rows(["data/happy/talk@0-30", "data/happy/talk@30-45"])
    seconds = store.stream("video/qwen3_omni").companion("seconds_per_slot", rows)
    assert seconds.tolist() == pytest.approx([2 * 30 / 8, 2 * 15 / 8], rel=0.02)
    assert store.stream("audio/qwen3_omni").companion("mel_frames", rows).tolist() == [3000, 1500]
