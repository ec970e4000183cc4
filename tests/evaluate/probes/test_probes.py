"""Probes: the modality swap, shares of attention, and contrastive decoding."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from avem.cache import FeatureStore
from avem.commands.probe import probe_app
from avem.errors import DataError, SettingError
from avem.evaluate.contrast import ContrastOptions, ContrastPredictor, contrast
from avem.evaluate.emorealm.questions import prompt_text
from avem.evaluate.predict.feature_model import FeaturePredictor
from avem.evaluate.predict.loading import EndpointOptions
from avem.evaluate.predict.log import AnswerLog
from avem.evaluate.probes.attention import attention_probe, measuring, token_kinds
from avem.evaluate.probes.densities import Sample, density, density_svg
from avem.evaluate.probes.runner import ProbeOptions, attention_sheet, run_attention, run_swap
from avem.evaluate.probes.swap import swap_numbers, swap_probe
from avem.evaluate.runner import BenchOptions, run_emorealm
from avem.records import Question
from avem.train import load_model
from tests.train.model_kit import FAMILIES, tiny_model
from tests.train.training_kit import SILENT, make_kit


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    return make_kit(tmp_path_factory.mktemp("kit"))


@pytest.fixture(scope="module")
def asked():
    """A question about sound and one about the picture of each of four clips, and of the silent one."""
    tasks = ("reasoning_basic_audio", "reasoning_stress_video")
    choices = {tasks[0]: ("(A) a sob", "(B) rain", "(C) a laugh", "(D) hum"), tasks[1]: ("(A) Yes", "(B) No")}
    return [
        Question(f"{clip}-{task[-5:]}", f"{clip:03d}.mp4", task, "Which one?", choices[task], "AB"[clip % 2])
        for clip in (0, 1, 2, 3, 7)
        for task in tasks
    ]


@pytest.fixture(scope="module")
def predictor(kit):
    return FeaturePredictor(load_model(kit.model).eval(), FeatureStore.open(kit.store), "letters", 1)


def rows_of(predictor, asked):
    return {question.id: int(question.video[:3]) for question in asked}


def test_swap_replaces_the_other_modality_alone(predictor, asked, tmp_path):
    with AnswerLog(tmp_path / "log.jsonl") as log:
        result = swap_probe(predictor, asked, rows_of(predictor, asked), log, resamples=50)
    assert len(result.items) == 8
    assert set(result.left_out) == {"7-audio", "7-video"}, "the silent clip can't be asked"
    store, model = predictor.store, predictor.model
    for item in result.items[:4]:
        question = next(question for question in asked if question.id == item.id)
        row, other = int(question.video[:3]), int(store.rows([item.adversary])[0])
        assert row != other
        assert item.adversary != SILENT or item.asked == "audio"
        video, audio = store.video([row])[0], store.audio([row])[0]
        if item.asked == "audio":
            video = store.video([other])[0]
        else:
            audio = store.audio([other])[0]
        whole = model.sequence(prompt_text(question), question.answer, video, audio)
        with torch.no_grad():
            wanted = model.response_logprobs([replace(whole, ids=whole.ids[:-1])], share_prefixes=False).item()
        assert item.swapped == pytest.approx(wanted, abs=1e-4)
        assert item.shift != 0


def test_swap_goes_on_where_it_was(predictor, asked, tmp_path, monkeypatch):
    rows = rows_of(predictor, asked)
    with AnswerLog(tmp_path / "log.jsonl") as log:
        first = swap_probe(predictor, asked, rows, log, resamples=20)
    monkeypatch.setattr(predictor, "option_logprobs", None)
    with AnswerLog(tmp_path / "log.jsonl") as log:
        assert swap_probe(predictor, asked, rows, log, resamples=20) == first
    with AnswerLog(tmp_path / "other.jsonl") as log, pytest.raises(DataError, match="at least one"):
        swap_probe(predictor, asked[-2:], rows, log)


def test_swap_numbers_by_hand(predictor, asked, tmp_path):
    with AnswerLog(tmp_path / "log.jsonl") as log:
        items = swap_probe(predictor, asked, rows_of(predictor, asked), log, resamples=0).items
    numbers = swap_numbers(items, resamples=100)
    shifts = [item.swapped - item.logprob for item in items if item.asked == "audio"]
    assert numbers["audio"]["mean_absolute_shift"] == pytest.approx(np.mean(np.abs(shifts)))
    assert numbers["audio"]["mean_shift"] == pytest.approx(np.mean(shifts))
    assert numbers["all"]["n"] == 8
    assert numbers["all"]["low"] <= numbers["all"]["mean_absolute_shift"] <= numbers["all"]["high"]


@pytest.mark.parametrize("family", ["llama-gqa", "gemma2", "qwen3"])
def test_shares_equal_eager_attention(family):
    assert family in FAMILIES
    torch.manual_seed(1)
    model = tiny_model(family, dtype=torch.float32).eval()
    video, audio = torch.randn(4, 3, model.config.video_hidden_size), torch.randn(1500, model.config.audio_hidden_size)
    store_free = FeaturePredictor.__new__(FeaturePredictor)
    store_free.model, store_free.style = model, "cloze"
    store_free.available = {"video": np.array([True]), "audio": np.array([True])}
    store_free.media = lambda row: (video, audio)
    question = Question("q", "c", "reasoning_basic_audio", "Which?", ("(A) x", "(B) y"), "A")
    before = model.language_model.config._attn_implementation
    (item,) = attention_probe(store_free, [question], {"q": 0}, resamples=0).items
    assert model.language_model.config._attn_implementation == before
    sequence = model.prompt("Which?", video, audio)
    kinds = token_kinds(model, sequence)
    with torch.no_grad():
        embedded = model.embed(sequence)[None]
        assert len(kinds) == embedded.shape[1]
        model.language_model.set_attn_implementation("eager")
        layers = model.language_model(inputs_embeds=embedded, output_attentions=True).attentions
        model.language_model.set_attn_implementation(before)
    wanted = torch.stack([layer[0, :, -1].mean(0) for layer in layers]).mean(0).double().numpy()
    assert item.video == pytest.approx(wanted[kinds == "video"].sum(), abs=1e-5)
    assert item.audio == pytest.approx(wanted[kinds == "audio"].sum(), abs=1e-5)
    assert (item.video_tokens, item.audio_tokens) == ((kinds == "video").sum(), (kinds == "audio").sum())


def test_measuring_changes_no_output(predictor):
    model = predictor.model
    sequence = model.prompt("Which?", *predictor.media(0))
    with torch.no_grad():
        embedded = model.embed(sequence)[None]
        plain = model.language_model(inputs_embeds=embedded).logits
        with measuring(model.language_model):
            measured = model.language_model(inputs_embeds=embedded).logits
    torch.testing.assert_close(plain, measured, atol=1e-5, rtol=1e-5)


def test_attention_by_task(predictor, asked):
    result = attention_probe(predictor, asked, rows_of(predictor, asked), resamples=50)
    assert list(result.tasks) == ["reasoning_basic_audio", "reasoning_stress_video", "all"]
    for numbers in result.tasks.values():
        assert numbers["video"] + numbers["audio"] == pytest.approx(100)
        assert 0 < numbers["media"] < 100
        assert numbers["video_low"] <= numbers["video"] <= numbers["video_high"]
    assert set(result.left_out) == {"7-audio", "7-video"}
    with pytest.raises(DataError, match="at least one"):
        attention_probe(predictor, asked[-2:], rows_of(predictor, asked))


def test_contrast_by_hand():
    clean, noisy = [math.log(0.5), math.log(0.3), math.log(0.01)], [math.log(0.6), math.log(0.1), math.log(0.001)]
    plain = contrast(clean, noisy, ContrastOptions(alpha=0, beta=0))
    assert plain == pytest.approx(clean)
    scores = contrast(clean, noisy, ContrastOptions())
    assert scores[1] == pytest.approx(2 * math.log(0.3) - math.log(0.1))
    assert scores[2] < -900, "an implausible option stays out"
    assert int(np.argmax(scores)) == 1
    for wrong in ({"alpha": -1}, {"beta": 2}):
        with pytest.raises(SettingError):
            ContrastOptions(**wrong)


def test_contrastive_bench(kit, predictor, asked, tmp_path):
    (tmp_path / "q.json").write_text(json.dumps([question.to_json() for question in asked]))
    options = BenchOptions(
        questions=tmp_path / "q.json",
        cache=kit.store,
        models=(str(kit.model),),
        out=tmp_path / "bench",
        device="cpu",
        resamples=20,
        generate=False,
        text_only=False,
    )
    (plain,) = run_emorealm(options)
    (contrasted,) = run_emorealm(replace(options, contrastive=True))
    assert (plain.name, contrasted.name) == ("model", "model-contrastive")
    assert contrasted.model["contrast"]["alpha"] == 1.0
    assert plain.items[0].logprobs != contrasted.items[0].logprobs
    weak = ContrastPredictor(predictor.model, predictor.store, "letters", ContrastOptions(alpha=0.0, beta=0.0))
    found = weak.predict_batch([weak.request(asked[0], "likelihood", 0)])
    assert next(iter(found.values())).logprobs == pytest.approx(plain.items[0].logprobs, abs=1e-4)
    assert weak.request(asked[0], "likelihood", 0).key != predictor.request(asked[0], "likelihood", 0).key


def test_pictures_of_distributions():
    at = np.linspace(-4, 4, 400)
    normal = density(np.random.default_rng(0).normal(size=4000), at)
    assert normal.max() == pytest.approx(0.39, abs=0.03)
    assert np.trapezoid(density(np.array([1.0, 1.0]), at), at) == pytest.approx(1, abs=0.01)
    svg = density_svg([Sample("a<b", np.array([1.0]), "own")], "t", "nats")
    assert "a&lt;b" in svg
    assert svg.endswith("</svg>")


def test_commands(kit, asked, tmp_path):
    (tmp_path / "q.json").write_text(json.dumps([question.to_json() for question in asked]))
    given = (
        "--model",
        kit.model,
        "--cache",
        kit.store,
        "--questions",
        tmp_path / "q.json",
        "--out",
        tmp_path / "probe",
    )
    for command, first in (("swap", "model,asked,n"), ("attention", "model,task,n")):
        shown = CliRunner().invoke(
            probe_app, [command, *map(str, given), "--device", "cpu", "--csv"], catch_exceptions=False
        )
        assert shown.stdout.startswith(first)
        assert (tmp_path / "probe" / f"{command}.html").is_file()
    text = (tmp_path / "probe" / "swap.html").read_text()
    assert text.count('class="density"') == 2
    assert "2 questions were left out" in text
    assert (tmp_path / "probe" / "swap-model-audio.svg").is_file()
    assert json.loads((tmp_path / "probe" / "attention.json").read_text())[0]["tasks"]["all"]["n"] == 8
    options = ProbeOptions(
        questions=tmp_path / "q.json",
        cache=kit.store,
        models=(str(kit.model),),
        out=tmp_path / "probe",
        device="cpu",
        resamples=0,
        limit=1,
    )
    assert "%" in attention_sheet(run_attention(options)).form("latex")
    with pytest.raises(SettingError, match="name a model"):
        run_swap(replace(options, models=()))


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"answers": Path("answers.json")}, "with --answers no model is run"),
        (
            {"models": ("m",), "endpoint": EndpointOptions(url="http://127.0.0.1:1")},
            "an endpoint gives no option scores",
        ),
        ({"models": ("earlier",)}, "only earlier results are given"),
    ],
)
def test_contrastive_decoding_that_would_change_nothing_is_refused(tmp_path, monkeypatch, given, reason):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "earlier").mkdir()
    (tmp_path / "earlier" / "result.json").write_text("{}")
    with pytest.raises(SettingError, match=f"--contrastive has no effect: {reason}"):
        run_emorealm(BenchOptions(contrastive=True, out=tmp_path / "bench", **given))
    assert not (tmp_path / "bench").exists()


def test_contrastive_decoding_of_a_model_that_is_shown_media_is_refused(tmp_path, monkeypatch, asked):
    (tmp_path / "q.json").write_text(json.dumps([question.to_json() for question in asked]))
    monkeypatch.setattr("avem.evaluate.runner.open_media_model", lambda *arguments, **named: object())
    with pytest.raises(SettingError, match="needs a model that reads features, and omni is shown media files"):
        run_emorealm(
            BenchOptions(questions=tmp_path / "q.json", models=("omni",), contrastive=True, out=tmp_path / "bench")
        )
