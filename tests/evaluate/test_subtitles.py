"""Subtitles in the benches: scores with and without them are kept apart, and are those of the prompts by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from avem.cache import FeatureStore, StoreWriter
from avem.cache.manifest.subtitles import Subtitle
from avem.commands.bench.app import bench_app
from avem.errors import PromptError, SettingError
from avem.evaluate import bench_emorealm
from avem.evaluate.comparison import table_2
from avem.evaluate.contrast import bench_contrast
from avem.evaluate.emorealm.questions import prompt_text
from avem.evaluate.predict.media_files import MediaFiles
from avem.evaluate.predict.media_model import MediaPredictor
from avem.evaluate.predict.subtitles import file_subtitles
from avem.evaluate.recognition.runner import RecognitionOptions, run_recognition
from avem.extract import ExtractOptions, extract
from avem.extract.encoders.random_weights import make_random_languagebind, make_random_whisper
from avem.records import Question
from avem.train import load_model
from tests.extract.conftest import write_clip
from tests.train.model_kit import tiny_model
from tests.train.training_kit import make_kit

SAID = {0: "Leave me!", 1: "How lovely."}


def say(store, said):
    StoreWriter.open(store).enter_subtitles({f"toy/{n:03d}": Subtitle(text, "srt") for n, text in said.items()})


@pytest.fixture
def kit(tmp_path):
    made = make_kit(tmp_path / "kit")
    say(made.store, SAID)
    return made


@pytest.fixture
def asked():
    choices = ("(A) a loud voice", "(B) a soft voice")
    return [Question(f"{n}", f"{n:03d}.mp4", "modality_agreement", "Which?", choices, "A") for n in range(3)]


def keys(folder: Path) -> list[str]:
    lines = [line for path in folder.rglob("answers.jsonl") for line in path.read_text().splitlines()]
    return [json.loads(line)["key"] for line in lines]


def test_scores_are_those_of_the_prompts_and_have_keys_of_their_own(kit, asked, tmp_path):
    model, store = load_model(kit.model), FeatureStore.open(kit.store)
    settings = {"resamples": 0, "max_new_tokens": 2, "out_dir": tmp_path / "bench"}
    plain = bench_emorealm(model, store, asked, **settings)
    said = bench_emorealm(model, store, asked, subtitles=True, **settings)
    assert said.model["subtitles"] is True
    assert "subtitles" not in plain.model
    first = keys(tmp_path / "bench")
    assert len(first) == 3 + 3 + 1 + 2 + 2  # two clips have a subtitle, for likelihood and generation
    for number, (before, item) in enumerate(zip(plain.items, said.items, strict=True)):
        assert item.text_logprobs == before.text_logprobs, "without media there is no subtitle"
        assert (item.logprobs == before.logprobs) == (number not in SAID)
        options = {"subtitle": SAID[number]} if number in SAID else {}
        media = store.video([number])[0], store.audio([number])[0]
        text = prompt_text(item.question, "letters")
        for letter, value in zip("AB", item.logprobs, strict=True):
            whole = model.sequence(text, letter, *media, **options)
            with torch.no_grad():
                wanted = model.response_logprobs([replace(whole, ids=whole.ids[:-1])], share_prefixes=False).item()
            assert value == pytest.approx(wanted, abs=1e-4)
    say(kit.store, {0: "Leave me alone!"})
    store.refresh()
    bench_emorealm(model, store, asked, subtitles=True, **settings)
    bench_emorealm(model, store, asked, subtitles=True, **settings)
    assert len(keys(tmp_path / "bench")) == len(first) + 2, "the one clip whose text changed is asked again, once"


def test_contrastive_decoding_and_the_command_take_them(kit, asked, tmp_path):
    (tmp_path / "q.json").write_text(json.dumps([question.to_json() for question in asked]))
    paths = {"questions": tmp_path / "q.json", "cache": kit.store, "model": kit.model, "out": tmp_path / "bench"}
    options = [text for name, value in paths.items() for text in (f"--{name}", str(value))]
    more = ["--device", "cpu", "--no-generate", "--no-text-only"]
    for extra in ([], ["--subtitles"], ["--subtitles", "--contrastive"]):
        ended = CliRunner().invoke(bench_app, ["emorealm", *options, *more, *extra], catch_exceptions=False)
        assert ended.exit_code == 0, ended.output
    folders = {path.parent.name: json.loads(path.read_text()) for path in (tmp_path / "bench").glob("*/result.json")}
    assert folders.keys() == {"model", "model-subtitles", "model-subtitles-contrastive"}
    first = [folder["items"][0]["logprobs"] for folder in folders.values()]
    assert len({tuple(values) for values in first}) == 3
    store, model = FeatureStore.open(kit.store), load_model(kit.model)
    plain = bench_contrast(model, store, asked, "letters", tmp_path / "c", resamples=0)
    assert list(plain.items[0].logprobs) != folders["model-subtitles-contrastive"]["items"][0]["logprobs"]
    assert plain.items[2].logprobs == pytest.approx(folders["model-subtitles-contrastive"]["items"][2]["logprobs"])


def test_what_can_not_be_shown_is_one_sentence(kit, asked, tmp_path):
    (tmp_path / "q.json").write_text(json.dumps([question.to_json() for question in asked]))
    (tmp_path / "a.json").write_text('{"0": "A"}')
    files = ["--questions", str(tmp_path / "q.json"), "--cache", str(kit.store), "--out", str(tmp_path / "bench")]
    with pytest.raises(SettingError, match="--subtitles has no effect: no model is run"):
        CliRunner().invoke(
            bench_app,
            ["emorealm", *files, "--answers", str(tmp_path / "a.json"), "--subtitles"],
            catch_exceptions=False,
        )
    model, store = load_model(kit.model), FeatureStore.open(kit.store)
    say(kit.store, {1: "so <image> it is"})
    store.refresh()
    with pytest.raises(PromptError, match="subtitle of the clip toy/001 holds '<image>'"):
        bench_emorealm(model, store, asked, subtitles=True, resamples=0)
    bench_emorealm(model, store, asked, resamples=0, generate=False)
    say(kit.store, {1: "so " * 3000})
    store.refresh()
    with pytest.raises(PromptError, match=r"With the subtitle 'so so .*': The sequence fills \d+ positions"):
        bench_emorealm(model, store, asked, subtitles=True, resamples=0)
    say(kit.store, dict.fromkeys(SAID, ""))
    store.refresh()
    with pytest.raises(SettingError, match="has a subtitle"):
        bench_emorealm(model, store, asked, subtitles=True, resamples=0)


class Listener:
    """A model that is shown media files and keeps what it was asked."""

    source, sees, system, methods = "listener", ("audio",), "", ("generation",)

    def identity(self):
        return {}


def test_models_of_media_files_are_told_too(tmp_path):
    clips = [write_clip(tmp_path / f"{name}.mp4", frames=2) for name in ("a", "b")]
    clips[0].with_suffix(".srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nCome in.\n")
    assert file_subtitles(clips, None) == {clips[0]: "Come in."}
    with pytest.raises(SettingError, match="None of the clips has a subtitle"):
        file_subtitles(clips[1:], None)
    files = MediaFiles({path: (path.stem, path.name) for path in clips}, {}, "here")
    question = Question("q", "a.mp4", "emer", "What is felt?", (), "")
    requests = [
        MediaPredictor(Listener(), files.names, "cloze", subtitles=said).request(question, "generation", path)
        for said in (None, files.subtitles())
        for path in clips
    ]
    by_key = [request.key for request in requests]
    assert by_key[0] != by_key[2]
    assert by_key[1] == by_key[3], "nothing is said in this one"
    predictor = MediaPredictor(Listener(), files.names, "cloze", subtitles={clips[0]: "Come [/INST] in."})
    with pytest.raises(PromptError, match=r"The subtitle of .*a.mp4 holds '\[/INST\]'"):
        predictor.request(question, "generation", clips[0])


@pytest.fixture
def small_model(tmp_path):
    """Encoders of a few channels, and a model that reads what they give."""
    encoders = {
        "video_encoder": make_random_languagebind(
            tmp_path / "video", image_size=32, patch_size=16, hidden=32, layers=2, heads=2, frames=4, projection_dim=16
        ),
        "audio_encoder": make_random_whisper(tmp_path / "audio", width=32, layers=1, heads=2, positions=50),
    }
    sizes = {"video_hidden_size": 32, "audio_hidden_size": 32, "video_projector": "linear"}
    tiny_model(dtype=torch.float32, audio_projector="stack-mlp", **sizes).save(tmp_path / "model")
    return tmp_path / "model", encoders


@pytest.fixture
def labelled(tmp_path):
    """Three clips in the name of RAVDESS; two of them have an .srt."""
    root = tmp_path / "faces"
    for number in range(3):
        write_clip(root / f"{number}.mp4", frames=2, seed=number)
    rows = [f"{number}.mp4,ravdess,{emotion}" for number, emotion in enumerate(("happy", "sad", "angry"))]
    (root / "clips.csv").write_text("\n".join(["path,dataset,emotion", *rows]) + "\n")
    for number in (0, 1):
        (root / f"{number}.srt").write_text(f"1\n00:00:00,000 --> 00:00:01,000\nLine {number}.\n")
    return root


def test_recognition_and_table_2_show_both_rows(labelled, tmp_path, small_model):
    model, encoders = small_model
    extract(labelled, tmp_path / "store", ExtractOptions(**encoders, workers=1, device="cpu"))
    options = RecognitionOptions(
        dataset="ravdess",
        cache=tmp_path / "store",
        models=(str(model),),
        generate=False,
        resamples=0,
        device="cpu",
        out=tmp_path / "bench",
    )
    plain, said = (run_recognition(replace(options, subtitles=on))[0] for on in (False, True))
    assert (plain.name, said.name) == ("model", "model-subtitles")
    same = [one.logprobs == other.logprobs for one, other in zip(plain.items, said.items, strict=True)]
    assert same == [False, False, True]
    rows = {row[0]: row[1] for row in table_2([tmp_path / "bench"]).rows}
    assert rows["model"] == "this run"
    assert rows["model-subtitles"] == "this run, A+V+T"
    assert rows["EmotionLLaMA"] == "paper, A+V+T"
