"""`LanguageBind/Video-LLaVA-7B` as a start of AVERE's base: read, given an audio projector, trained, written back."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from avem.cache import ClipRecord, FeatureStore, RowDetails, StoreWriter, StreamSpec
from avem.errors import AvemError, CheckpointError, SettingError
from avem.extract import ExtractOptions, extract, load_audio_encoder, load_video_encoder, read_waveform, sample_frames
from avem.extract.encoders.random_weights import make_random_languagebind, make_random_whisper
from avem.files import write_json_lines
from avem.train import SupervisedConfig, load_model, score_answers, train_supervised
from avem.train.checkpoints.load import load_skeleton
from avem.train.checkpoints.merge import MergeOptions, merge_model
from avem.train.families.avere.export import save_avere
from avem.train.stages import preview_stage, stage_config
from tests.extract.conftest import write_clip
from tests.train.families.test_door import exact_norm
from tests.train.families.video_llava_kit import save_checkpoint
from tests.train.metrics_kit import epoch_means
from tests.train.model_kit import AUDIO_WIDTH, VIDEO_WIDTH
from tests.train.training_kit import SILENT, instruction_rows, make_store


def read_tensors(folder):
    found = {}
    for file in folder.glob("*.safetensors"):
        if file.name != "projectors.safetensors":
            found |= load_file(file)
    return found


def equal_bytes(before, after):
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert after[name].dtype == tensor.dtype, name
        assert torch.equal(after[name].view(torch.uint8), tensor.view(torch.uint8)), name


@pytest.mark.parametrize(("form", "shards"), [("bin", 2), ("bin", 1), ("safetensors", 3), ("safetensors", 1)])
@pytest.mark.parametrize("through", ["direct", "ours"])
def test_a_round_trip_keeps_every_bit(tmp_path, form, shards, through):
    state = save_checkpoint(tmp_path / "released", VIDEO_WIDTH, form, shards)
    model = load_model(tmp_path / "released")
    if through == "ours":
        model.save(tmp_path / "ours")
        model = load_model(tmp_path / "ours")
    save_avere(model, tmp_path / "back", towers=tmp_path / "released")
    equal_bytes(state, read_tensors(tmp_path / "back"))
    for name in ("config.json", "tokenizer.json", "generation_config.json"):
        before, after = (json.loads((tmp_path / place / name).read_text()) for place in ("released", "back"))
        assert before == after


def test_tensors_keep_their_own_number_formats(tmp_path):
    """A projector in float32 beside a language model in bfloat16 loses nothing."""
    save_checkpoint(tmp_path / "released", VIDEO_WIDTH, "safetensors", 1)
    path = tmp_path / "released" / "model.safetensors"
    state = load_file(path)
    state["model.mm_projector.0.weight"] = torch.randn_like(state["model.mm_projector.0.weight"].float())
    save_file(state, path, metadata={"format": "pt"})
    save_avere(load_model(tmp_path / "released"), tmp_path / "back")
    equal_bytes(state, read_tensors(tmp_path / "back"))


def test_what_is_read_of_it(tmp_path):
    state = save_checkpoint(tmp_path / "released", VIDEO_WIDTH)
    model = load_model(tmp_path / "released")
    assert model.family == "avere"
    assert model.takes("video")
    assert not model.takes("audio")
    assert model.context_length == 3072
    assert torch.equal(model.video_projector.network[2].bias, state["model.mm_projector.2.bias"].float())
    assert torch.equal(model.language_model.lm_head.weight, state["lm_head.weight"].float())
    features = torch.randn(1, 4, 3, VIDEO_WIDTH)
    first, second = (state[f"model.mm_projector.{n}.weight"].float() for n in (0, 2))
    inner = features.flatten(1, 2) @ first.T + state["model.mm_projector.0.bias"].float()
    by_hand = torch.nn.functional.gelu(inner) @ second.T + state["model.mm_projector.2.bias"].float()
    torch.testing.assert_close(model.project_video(features), by_hand, atol=1e-5, rtol=0)


def change_settings(folder, **changes):
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**content, **changes}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mm_video_tower": None, "mm_vision_tower": "openai/clip-vit-large-patch14-336"}, "a LLaVA for images"),
        ({"model_type": "video_llava", "architectures": ["x"], "text_config": {}}, "transformers' own layout"),
        ({"architectures": ["LlavaForConditionalGeneration"], "text_config": {}}, "transformers' own layout"),
        ({"mm_projector_type": "identity"}, "choose one of mlp2x_gelu"),
        ({"mm_hidden_size": VIDEO_WIDTH + 1}, r"model\.mm_projector\.0\.weight is \[32, 6\], not \[32, 7\]"),
        ({"vocab_size": 301}, r"model\.embed_tokens\.weight is \[300, 32\], not \[301, 32\]"),
    ],
)
def test_relatives_are_refused_in_a_sentence(tmp_path, changes, message):
    save_checkpoint(tmp_path / "released", VIDEO_WIDTH)
    change_settings(tmp_path / "released", **changes)
    for load in (load_model, load_skeleton):
        with pytest.raises(CheckpointError, match=message) as told:
            load(tmp_path / "released")
        assert "\n" not in str(told.value)


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    """A store, a checkpoint, and rows about sound and about everything."""
    root = tmp_path_factory.mktemp("video_llava")
    make_store(root / "cache")
    save_checkpoint(root / "released", VIDEO_WIDTH)
    rows = instruction_rows()
    heard = sorted({row.clip_id for row in rows} - {SILENT})
    write_json_lines(root / "speech.jsonl", [{"clip_id": clip, "transcript": f"words of {clip}"} for clip in heard])
    write_json_lines(root / "rows.jsonl", [row.to_json() for row in rows])
    return root


def settings(kit, out, data="speech.jsonl", model="released", **changes):
    base = {"cache": kit / "cache", "model": str(kit / model), "data": kit / data, "out": out, "device": "cpu"}
    return {**base, "trackers": "none", "reliance_rows": 0, "accumulation": 1, **changes}


PRESET = {"tune": "none", "streams": "audio", "learning_rate": 1e-2, "batch_size": 4, "epochs": 3}


@pytest.fixture(scope="module")
def spoken(kit):
    """The audio projector, trained on speech."""
    return train_supervised(SupervisedConfig(**settings(kit, kit / "audio", new_audio_projector="stack-mlp", **PRESET)))


@pytest.fixture(scope="module")
def tuned(kit, spoken):
    """The base: everything tuned on instruction rows."""
    changes = {"data": "rows.jsonl", "model": "audio", "batch_size": 4, "learning_rate": 1e-3}
    return train_supervised(SupervisedConfig(**settings(kit, kit / "base", **changes)))


def test_the_projector_stage_trains_the_new_audio_projector_alone(kit, spoken):
    before, after = load_model(kit / "released"), load_model(spoken / "final")
    assert before.audio_projector is None
    assert after.config.audio_projector == "stack-mlp"
    assert after.config.audio_hidden_size == AUDIO_WIDTH
    assert after.config.audio_fingerprint
    held = load_file(spoken / "final" / "projectors.safetensors")
    assert held
    assert all(name.startswith("audio_projector.") for name in held)
    states = before.state_dict(), after.state_dict()
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())
    losses = epoch_means(spoken, "loss", PRESET["epochs"])
    assert losses[-1] < losses[0]


def test_the_new_projector_follows_from_the_seed(kit, spoken, tmp_path):
    again = train_supervised(
        SupervisedConfig(**settings(kit, tmp_path / "again", new_audio_projector="stack-mlp", **PRESET))
    )
    other = train_supervised(
        SupervisedConfig(**settings(kit, tmp_path / "other", new_audio_projector="stack-mlp", seed=1, **PRESET))
    )
    first, same, different = (load_file(run / "final" / "projectors.safetensors") for run in (spoken, again, other))
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not any(torch.equal(first[name], different[name]) for name in first)


def test_the_released_preset_adds_the_family_s_projector(kit, tmp_path):
    given = {"cache": kit / "cache", "model": str(kit / "released"), "data": kit / "speech.jsonl", "out": tmp_path}
    config = stage_config("projector", given, preset_name="avere-audio-projector", overrides=["device=cpu"])
    assert config.added_audio_projector == "qformer"
    summary = preview_stage(config)
    query = 2 * 768 * 768 + 2 * 768 * AUDIO_WIDTH  # of the cross-attention: query and output, key and value
    layer = 4 * (768 * 768 + 768) + query + 4 * 768 + 2 * 2 * 768 + 2 * 768 * 3072 + 3072 + 768 + 2 * 768
    rest = 2 * AUDIO_WIDTH + 768 + 2 * 768 + 768 * 32 + 32  # input norm, query, its norm, output
    assert summary.memory.trained == 2 * layer + rest
    assert not (tmp_path / "final").exists()


def test_a_resumed_run_keeps_its_new_projector(kit, spoken, tmp_path):
    changes = {**PRESET, "save_every": 1, "new_audio_projector": "stack-mlp"}
    whole = train_supervised(SupervisedConfig(**settings(kit, tmp_path / "whole", **changes)))
    shutil.copytree(whole, tmp_path / "torn")
    shutil.rmtree(tmp_path / "torn" / "final")
    newest = max((tmp_path / "torn" / "checkpoints").iterdir(), key=lambda path: int(path.name.rpartition("-")[2]))
    shutil.rmtree(newest)
    resumed = train_supervised(SupervisedConfig(**settings(kit, tmp_path / "torn", **changes)))
    weights = [load_file(run / "final" / "projectors.safetensors") for run in (whole, resumed)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_the_base_reads_sound_and_picture(kit, spoken, tuned):
    model, before = load_model(tuned / "final"), load_model(spoken / "final")
    assert model.family == "avere"
    assert model.takes("audio")
    assert model.takes("video")
    states = before.state_dict(), model.state_dict()
    changed = {name.partition(".")[0] for name in states[1] if not torch.equal(states[0][name], states[1][name])}
    assert changed == {"language_model", "video_projector", "audio_projector"}
    store = FeatureStore.open(kit / "cache")
    with torch.no_grad():
        scores = score_answers(model, store, [("toy/000", "What audio cue?", "a happiness cue")])
    assert torch.isfinite(scores).all()


def test_the_base_in_averes_layout(kit, tuned, tmp_path):
    """The authors' names: a speech projector beside the rest, and settings that say so; it loads as the same model."""
    merge_model(tuned, tmp_path / "avere", MergeOptions(layout="avere", towers=str(kit / "released"), dtype="float32"))
    names = read_tensors(tmp_path / "avere").keys()
    added = {name for name in names if name.startswith("model.speech_projector.")}
    released = read_tensors_of(kit / "released")
    assert names - added == released.keys()
    assert added
    content = json.loads((tmp_path / "avere" / "config.json").read_text())
    assert content["model_type"] == "avere"
    assert content["speech_projector_type"] == "mlp"
    assert content["speech_hidden_size"] == AUDIO_WIDTH
    assert content["mm_video_tower"] == "LanguageBind/LanguageBind_Video_merge"
    back, model = load_model(tmp_path / "avere"), load_model(tuned / "final")
    states = model.state_dict(), back.state_dict()
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


def read_tensors_of(folder):
    return {name: tensor for file in folder.glob("*.bin") for name, tensor in torch.load(file).items()}


def test_a_run_without_its_new_projector_is_refused(kit, spoken, tmp_path):
    shutil.copytree(spoken / "final", tmp_path / "final")
    (tmp_path / "final" / "checksums.json").unlink()
    change_settings(tmp_path / "final", base=str(kit / "released"))
    held = load_file(tmp_path / "final" / "projectors.safetensors")
    held.pop(lost := sorted(held)[0])
    save_file(held, tmp_path / "final" / "projectors.safetensors")
    with pytest.raises(CheckpointError, match=f"missing: {lost}"):
        load_model(tmp_path / "final")
    (tmp_path / "final" / "projectors.safetensors").unlink()
    with pytest.raises(AvemError, match=r"projectors\.safetensors"):
        load_model(tmp_path / "final")


@pytest.mark.parametrize("changes", [{"streams": "video"}, {"train_projectors": False, "tune": "lora"}])
def test_a_new_projector_that_would_stay_untrained_is_refused(kit, tmp_path, changes):
    with pytest.raises(SettingError, match="trained only with train_projectors=true"):
        SupervisedConfig(**settings(kit, tmp_path, new_audio_projector="qformer", **changes))


def test_a_store_without_sound_is_a_sentence(kit, tmp_path):
    writer = StoreWriter.open(tmp_path / "cache")
    writer.add_clips([ClipRecord("toy/000", "toy", "000.mp4", "0" * 64, emotion="anger")], root=tmp_path)
    stream = writer.stream(StreamSpec("video", "tiny-video", {"made_by": "tiny"}, (4, 3, VIDEO_WIDTH), 5))
    for shard in stream.pending():
        stream.write(shard, np.zeros((1, 4, 3, VIDEO_WIDTH)), np.ones((1, 5)), [RowDetails()])
    writer.finish()
    config = SupervisedConfig(**{**settings(kit, tmp_path / "run", **PRESET), "cache": tmp_path / "cache"})
    with pytest.raises(SettingError, match="holds no audio features for a new audio projector"):
        train_supervised(config)
    assert not (tmp_path / "run" / "final").exists()


ASKED = [(clip, question, answer) for clip in range(3) for question, answer in (("Why?", "Joy."), ("Who?", "A man."))]


def trained(model, scores, steps=3):
    """The losses of some steps, and what was learnt."""
    learns = [*model.audio_projector.parameters(), *model.video_projector.parameters()]
    learns.append(model.language_model.model.layers[1].mlp.up_proj.weight)
    optimiser, losses = torch.optim.AdamW(learns, lr=1e-3), []
    for _ in range(steps):
        loss = -scores(model).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.detach())
    return torch.stack(losses), learns


def test_training_from_the_store_equals_training_with_towers_in_the_loop(tmp_path, monkeypatch):
    """Three steps in float64: from cached features, and with both towers encoding the clips at each step.

    Both round features to float16, as a store keeps them; all clips are one batch, since its size changes last bits.
    """
    monkeypatch.setattr(LlamaRMSNorm, "forward", exact_norm)
    video = make_random_languagebind(tmp_path / "languagebind", hidden=16, heads=2, frames=2, image_size=28)
    audio = make_random_whisper(tmp_path / "whisper", width=16, heads=2, positions=60)
    clips = [write_clip(tmp_path / f"media/happy/{n}.mp4", seed=n, frames=6 + n) for n in range(3)]
    options = ExtractOptions(video_encoder=video, audio_encoder=audio, workers=1, decoder="pyav")
    extract(tmp_path / "media", tmp_path / "cache", options)
    save_checkpoint(tmp_path / "released", 16)
    store = FeatureStore.open(tmp_path / "cache")
    names = {Path(clip["path"]).stem: clip["clip_id"] for clip in store.columns(["path", "clip_id"]).to_pylist()}
    towers = load_video_encoder(video), load_audio_encoder(audio)

    def start():
        model = load_model(tmp_path / "released", dtype=torch.float64)
        model.add_audio_projector("stack-mlp", 16)
        model.requires_grad_(True)
        return model

    def cached(model):
        asked = [(names[str(clip)], question, answer) for clip, question, answer in ASKED]
        return score_answers(model, store, asked)

    def in_the_loop(model):
        pixels = torch.stack([towers[0].preprocess(sample_frames(clip, 2)) for clip in clips])
        mels = torch.stack([towers[1].preprocess(read_waveform(clip)) for clip in clips])
        seen, heard = towers[0].encode(pixels)[0].half(), towers[1].encode(mels)[0].half()
        sequences = [model.sequence(asked, answer, seen[clip], heard[clip]) for clip, asked, answer in ASKED]
        return model.response_logprobs(sequences, share_prefixes=False)

    found = [trained(start(), scores) for scores in (cached, in_the_loop)]
    torch.testing.assert_close(found[0][0], found[1][0], atol=1e-9, rtol=0)
    for mine, theirs in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, atol=1e-9, rtol=1e-9)
    assert found[0][0][-1] < found[0][0][0]
