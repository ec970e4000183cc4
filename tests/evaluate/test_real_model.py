"""The bench on a real store and a real, tiny model."""

import json
from dataclasses import replace

import pytest
import torch
from typer.testing import CliRunner

from avem.cache import FeatureStore
from avem.commands.bench.app import bench_app
from avem.errors import DataError, FingerprintError, SettingError
from avem.evaluate import bench_emorealm
from avem.evaluate.emorealm.questions import prompt_text
from avem.evaluate.runner import BenchOptions, run_emorealm
from avem.records import Question
from avem.train import load_model
from avem.train.checkpoints import load as checkpoint
from avem.train.model.quantise import quantise_linears
from tests.train.training_kit import SILENT, make_kit, make_store

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    return make_kit(tmp_path_factory.mktemp("kit"))


@pytest.fixture(scope="module")
def asked():
    """Two questions on each of the store's eight clips, the last of which is silent, and one on a clip it lacks."""
    made = []
    for clip in range(9):
        four = ("(A) a loud voice", "(B) a soft voice", "(C) rain", "(D) a laugh")
        for number, (task, choices) in enumerate(
            [("reasoning_basic_audio", four), ("modality_agreement", ("(A) Yes", "(B) No"))]
        ):
            made.append(Question(f"{clip}-{number}", f"{clip:03d}.mp4", task, "Which?", choices, "AB"[clip % 2]))
    return made


@pytest.mark.parametrize("style", ["letters", "cloze"])
def test_shared_prefixes_change_no_number(kit, asked, style):
    model, store = load_model(kit.model), FeatureStore.open(kit.store)
    result = bench_emorealm(model, store, asked, style, resamples=20, max_new_tokens=4)
    assert [item.question.id for item in result.items if item.absent] == ["8-0", "8-1"]
    for item in result.items[:2] + result.items[14:16]:
        row = store.rows([item.clip_id])[0]
        video = store.video([row])[0]
        audio = None if item.clip_id == SILENT else store.audio([row])[0]
        texts = [choice[4:] if style == "cloze" else choice[1] for choice in item.question.choices]
        for index, text in enumerate(texts):
            for value, media in ((item.logprobs, (video, audio)), (item.text_logprobs, (None, None))):
                whole = model.sequence(prompt_text(item.question, style), text, *media)
                alone = replace(whole, ids=whole.ids[:-1])  # without the end of the sequence
                with torch.no_grad():
                    wanted = model.response_logprobs([alone], share_prefixes=False).item()
                assert value[index] == pytest.approx(wanted, abs=1e-4)
        assert sum(item.probabilities()) == pytest.approx(1)
        with torch.no_grad():
            shown = model.prompt(prompt_text(item.question, style), video, audio)
        assert item.reply == model.generate([shown], max_new_tokens=4)[0]


def write_questions(folder, questions):
    (folder / "q.json").write_text(json.dumps([question.to_json() for question in questions]))


def bench_options(kit, questions, folder, **changes):
    """A bench of the kit's model on the questions, below the folder."""
    write_questions(folder, questions)
    base = {"questions": folder / "q.json", "cache": kit.store, "models": (str(kit.model),), "out": folder / "bench"}
    return BenchOptions(**{**base, "device": "cpu", **changes})


def test_whole_bench_of_two_models(kit, asked, tmp_path):
    models = (str(kit.model), str(kit.model))
    options = bench_options(kit, asked, tmp_path, models=models, style="cloze", resamples=50, limit=4)
    results = run_emorealm(options)
    assert [result.name for result in results] == ["model", "model-2"]
    assert results[0].items == results[1].items
    assert (tmp_path / "bench" / "model" / "answers.jsonl").is_file()
    page = (tmp_path / "bench" / "report.html").read_text()
    assert "model-2 against model" in page
    assert "+0.0" in page


@pytest.mark.parametrize("contrastive", [False, True])
def test_questions_on_other_clips_alone_are_refused(kit, asked, tmp_path, contrastive):
    """Accuracy 0 would be of no model: a question or two without a clip count as wrong, but not all of them."""
    strangers = [replace(question, video=f"other/{question.video}") for question in asked]
    options = bench_options(kit, strangers, tmp_path, contrastive=contrastive)
    with pytest.raises(DataError) as said:
        run_emorealm(options)
    assert "No question has a clip (the first, 0-0: no clip other/000.mp4 in the store)" in str(said.value)
    assert "--cache" in str(said.value)
    assert said.value.exit_status == 2
    assert not list((tmp_path / "bench").rglob("*.json*"))
    silent = [question for question in asked if question.video == "008.mp4"] + asked[:1]
    write_questions(tmp_path, silent)
    (result,) = run_emorealm(options)
    assert [item.question.id for item in result.items if item.absent] == ["8-0", "8-1"]


def test_store_of_another_encoder_is_refused(kit, asked, tmp_path):
    model = load_model(kit.model)
    model.config = replace(model.config, video_fingerprint="0" * 64)
    with pytest.raises(FingerprintError):
        bench_emorealm(model, make_store(tmp_path / "cache", made_by="other"), asked)


def test_4_bits_are_refused_on_a_cpu(kit, asked, tmp_path):
    write_questions(tmp_path, asked)
    files = {"questions": tmp_path / "q.json", "cache": kit.store, "model": kit.model, "out": tmp_path / "bench"}
    options = [text for name, value in files.items() for text in (f"--{name}", str(value))]
    with pytest.raises(SettingError, match="4-bit weights need an NVIDIA GPU and the device is cpu; load the model"):
        CliRunner().invoke(
            bench_app, ["emorealm", *options, "--precision", "4bit", "--device", "cpu"], catch_exceptions=False
        )
    assert not list((tmp_path / "bench").rglob("result.json"))


def test_the_bench_in_4_bits(kit, asked, tmp_path, monkeypatch):
    bitsandbytes = pytest.importorskip("bitsandbytes", reason="the extra avem[4bit] is not installed")
    monkeypatch.setattr(bitsandbytes.nn.modules, "has_avx512bf16", lambda: False)
    monkeypatch.setattr(checkpoint, "check_four_bit", lambda device: None)  # slow on a CPU, so users are refused
    options = bench_options(kit, asked, tmp_path, limit=2, generate=False, text_only=False, resamples=20)
    (whole,) = run_emorealm(options)
    (packed,) = run_emorealm(replace(options, precision="4bit"))
    assert packed.items[0].logprobs != whole.items[0].logprobs  # another model, whose answers are not taken over
    model = load_model(kit.model)
    quantise_linears(model.language_model, "cpu")
    expected = bench_emorealm(
        model, FeatureStore.open(kit.store), asked, "letters", limit=2, generate=False, text_only=False, resamples=20
    )
    assert [item.logprobs for item in packed.items] == [item.logprobs for item in expected.items]
