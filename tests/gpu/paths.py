"""What runs on a GPU, on the pretended one: the same numbers as on the CPU, and every tensor where it belongs."""

from __future__ import annotations

import json
from dataclasses import replace

import accelerate
import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorDeviceMismatchError

from avem.cache import FeatureStore
from avem.evaluate.bench import bench_emorealm
from avem.evaluate.contrast import ContrastOptions, ContrastPredictor
from avem.evaluate.predict.feature_model import FeaturePredictor
from avem.evaluate.predict.log import AnswerLog
from avem.evaluate.probes.attention import attention_probe, measuring
from avem.evaluate.probes.swap import swap_probe
from avem.extract import load_audio_encoder, load_video_encoder
from avem.extract.encoders.random_weights import make_random_languagebind, make_random_whisper
from avem.records import Question
from avem.train import load_model, score_answers
from avem.train.model.media import moved
from avem.train.preference import train_preferences
from avem.train.prefix.flex import FlexTreeAttention
from avem.train.prefix.tree import build_tree
from avem.train.settings.config import PreferenceConfig, SupervisedConfig
from avem.train.settings.presets import PREFERENCE_PRESETS
from avem.train.supervised import train_supervised
from tests.gpu.pretended import GPU, pretended_gpu
from tests.train.families import emotion_llama_kit
from tests.train.families.qwen_omni import qwen_omni_kit
from tests.train.model_kit import FAMILIES, random_audio, random_video, tiny_model
from tests.train.training_kit import Kit, make_kit, weights_of


@pytest.fixture
def gpu():
    with pretended_gpu() as device:
        yield device


def test_devices_are_checked_values_computed_and_gradients_flow(gpu):
    left, right = torch.arange(6.0, device=gpu).view(2, 3), torch.ones(3, 2)
    with pytest.raises(FakeTensorDeviceMismatchError):
        left @ right
    with pytest.raises(TypeError, match="cpu"):
        left.numpy()
    product = left @ right.to(gpu)
    assert product.device == GPU
    assert product.tolist() == [[3.0, 3.0], [12.0, 12.0]]
    assert product.cpu().device.type == "cpu"
    product[1:].mul_(2)
    assert product.sum().item() == 54
    product.data = product.data.double() + 1
    assert product.dtype == torch.float64
    assert product.sum().item() == 58
    assert left.data_ptr() == left[:1].data_ptr() != product.data_ptr() != 0  # what sequences share is told by this
    layer = torch.nn.Linear(3, 1).to(gpu)
    layer(left).sum().backward()
    assert layer.weight.grad.device == GPU
    assert layer.weight.grad.tolist() == [[3.0, 5.0, 7.0]]
    with pytest.raises(FakeTensorDeviceMismatchError):
        layer(right.T).sum()


def test_autocast_follows_the_rules_of_gpus(gpu):
    layer, rows = torch.nn.Linear(3, 2).to(gpu), torch.ones(4, 3, device=gpu)
    exact = rows.double()
    with torch.autocast("gpu", torch.bfloat16):
        product = layer(rows)
        assert product.dtype == torch.bfloat16
        assert product.softmax(1).dtype == product.sum().dtype == torch.float32  # on a CPU they stay in bfloat16
        assert torch.cat([rows, product], 1).dtype == torch.float32
        assert (exact @ exact.T).dtype == torch.float64
        with torch.autocast("gpu", enabled=False):
            assert layer(rows).dtype == torch.float32
    assert layer(rows).dtype == torch.float32
    product.float().sum().backward()
    assert layer.weight.grad.dtype == torch.float32
    assert layer.weight.grad.tolist() == [[4.0] * 3] * 2


def sequences_of(model):
    texts = [("What cue?", "tears"), ("What cue?", "a smile"), ("Why?", "tears")]
    return [model.sequence(q, a, random_video(n % 2), random_audio(0)) for n, (q, a) in enumerate(texts)]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.bfloat16, 0.15)])
@pytest.mark.parametrize("family", FAMILIES)
def test_scores(family, dtype, tolerance, gpu):
    """Operations that autocast leaves in bfloat16 on a CPU are in float32 here, so those scores are only near."""
    model = tiny_model(family, dtype)
    with torch.no_grad():
        expected = model.response_logprobs(sequences_of(model))
        model.to(gpu)
        for shared in (True, False):
            found = model.response_logprobs(sequences_of(model), share_prefixes=shared)
            assert (found.device, found.dtype) == (GPU, expected.dtype)
            torch.testing.assert_close(found.cpu(), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    ("video", "audio"), [("linear", "stack-mlp"), ("mlp2x_gelu", "qformer"), ("qformer", "qformer")]
)
def test_generation_and_projectors(video, audio, gpu):
    model = tiny_model(video_projector=video, audio_projector=audio).eval()
    prompts = [model.prompt("What cue?", random_video(0), random_audio(0)), model.prompt("Why?", None, random_audio(1))]
    expected = model.generate(prompts, 6)
    model.to(gpu)
    assert model.generate(prompts, 6) == expected
    assert len(model.generate(prompts, 6, temperature=0.8, top_p=0.9, seed=1)) == 2


def test_the_plan_of_flex_attention(gpu):
    """The kernel itself takes real devices alone; `tests/train/prefix/test_flex.py` runs it on the CPU."""
    tree = build_tree([[1] * 200 + [2] * 90, [1] * 200 + [3] * 70], lambda _: 1)
    expected = FlexTreeAttention.of(tree, torch.device("cpu")).block_mask
    found = FlexTreeAttention.of(tree, gpu).block_mask
    for name in ("kv_num_blocks", "kv_indices", "full_kv_num_blocks", "full_kv_indices"):
        assert getattr(found, name).device == GPU
        assert torch.equal(getattr(found, name).cpu(), getattr(expected, name))


def test_encoders_of_avere(gpu, tmp_path):
    pixels, sound = torch.randn(2, 3, 8, 56, 56), np.sin(np.arange(16000) / 9).astype(np.float32)
    video, audio = make_random_languagebind(tmp_path / "v"), make_random_whisper(tmp_path / "a", positions=100)
    for load, folder, inputs in (
        (load_video_encoder, video, lambda _: pixels),
        (load_audio_encoder, audio, lambda encoder: encoder.preprocess(sound)[None]),
    ):
        expected, found = load(folder), load(folder, device="gpu")
        one, other = expected.encode(inputs(expected)), found.encode(inputs(found))
        assert other[0].device == GPU
        for left, right in zip(one, other, strict=True):
            torch.testing.assert_close(right.cpu(), left, rtol=1e-4, atol=1e-4)


PRESETS, TUNED = ("paper", "vista-dpo"), ("lora", "full", "none")
HALVED = ("lora", "full")
"""What is trained in bfloat16 too."""
NEAR = 0.005
"""Losses of the two devices in bfloat16, as a share; 0.0011 was measured. A GPU's autocast keeps more in float32."""


@pytest.fixture(scope="module")
def kit(tmp_path_factory) -> Kit:
    return make_kit(tmp_path_factory.mktemp("kit"))


@pytest.fixture
def run_on_gpu(gpu, monkeypatch):
    """Runs take the pretended GPU, which Accelerate can't choose by itself."""
    monkeypatch.setattr(accelerate.Accelerator, "device", property(lambda _: gpu))


def same_run(one, other):
    lines = [[json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()] for run in (one, other)]
    assert len(lines[0]) == len(lines[1]) > 1
    for left, right in zip(*lines, strict=True):
        assert right["loss"] == pytest.approx(left["loss"], rel=1e-4)
        assert right["grad_norm"] == pytest.approx(left["grad_norm"], rel=1e-3)
    left, right = weights_of(one), weights_of(other)
    for name, tensor in left.items():
        torch.testing.assert_close(right[name], tensor, rtol=1e-3, atol=1e-4)


@pytest.fixture(scope="module")
def runs(kit, tmp_path_factory):
    """The same runs on the CPU, made before the pretended GPU is entered."""
    folder = tmp_path_factory.mktemp("runs")
    for preset in PRESETS:
        train_preferences(preference_config(kit, folder / preset, preset))
    for tune in TUNED:
        train_supervised(supervised_config(kit, folder / tune, tune))
    for tune in HALVED:
        train_supervised(supervised_config(kit, folder / f"{tune}-bf16", tune, precision="bf16"))
    train_preferences(replace(preference_config(kit, folder / "bf16", "paper"), precision="bf16"))
    return folder


def preference_config(kit, out, preset):
    held = {"reliance_rows": 4, "holdout": 0.2, "epochs": 1, "batch_size": 8}
    return PreferenceConfig(**{**kit.preference_settings(out, **held), **PREFERENCE_PRESETS[preset]})


def supervised_config(kit, out, tune, **more):
    checkpointed = tune == "full"
    return SupervisedConfig(
        **kit.supervised_settings(out, epochs=1, tune=tune, gradient_checkpointing=checkpointed, **more)
    )


@pytest.mark.parametrize("preset", PRESETS)
def test_preference_training(kit, runs, tmp_path, run_on_gpu, preset):
    run = train_preferences(preference_config(kit, tmp_path / "run", preset))
    same_run(runs / preset, run)


@pytest.mark.parametrize("tune", TUNED)
def test_supervised_training(kit, runs, tmp_path, run_on_gpu, tune):
    same_run(runs / tune, train_supervised(supervised_config(kit, tmp_path / "run", tune)))


@pytest.mark.parametrize("tune", HALVED)
def test_supervised_training_in_bfloat16(kit, runs, tmp_path, run_on_gpu, tune):
    config = supervised_config(kit, tmp_path / "run", tune, precision="bf16")
    near_run(runs / f"{tune}-bf16", train_supervised(config))


def test_preference_training_in_bfloat16(kit, runs, tmp_path, run_on_gpu):
    config = replace(preference_config(kit, tmp_path / "run", "paper"), precision="bf16")
    near_run(runs / "bf16", train_preferences(config))


def near_run(one, other):
    left, right = ((run / "metrics.jsonl").read_text().splitlines() for run in (one, other))
    losses = [[json.loads(line)["loss"] for line in lines] for lines in (left, right)]
    assert losses[1] == pytest.approx(losses[0], rel=NEAR)
    assert all(tensor.dtype == torch.float32 for tensor in weights_of(other).values())


def questions():
    tasks = ("reasoning_basic_audio", "reasoning_stress_video")
    choices = {tasks[0]: ("(A) a sob", "(B) rain", "(C) a laugh", "(D) hum"), tasks[1]: ("(A) Yes", "(B) No")}
    return [
        Question(f"{clip}-{task[-5:]}", f"{clip:03d}.mp4", task, "Which one?", choices[task], "AB"[clip % 2])
        for clip in (0, 1, 2, 7)
        for task in tasks
    ]


def probed(kit, folder, device):
    """Everything that evaluation reads from a model: bench, probes, contrastive decoding."""
    model = load_model(kit.model, device=device).eval()
    store, asked = FeatureStore.open(kit.store), questions()
    predictor = FeaturePredictor(model, store, "letters", 3)
    rows = {question.id: int(question.video[:3]) for question in asked}
    folder.mkdir()
    bench = bench_emorealm(model, store, asked, "cloze")
    with AnswerLog(folder / "swap.jsonl") as log:
        swapped = swap_probe(predictor, asked, rows, log, resamples=5)
    with measuring(model.language_model):
        attended = attention_probe(predictor, asked, rows, resamples=5)
    contrasted = ContrastPredictor(model, store, "letters", ContrastOptions(1.0))
    requests = [contrasted.request(question, "likelihood", rows[question.id]) for question in asked]
    answers = contrasted.predict_batch(requests)
    return bench.items, swapped.items, attended.items, list(answers.values())


def test_bench_probes_and_contrastive_decoding(kit, tmp_path):
    expected = probed(kit, tmp_path / "cpu", "cpu")
    with pretended_gpu():
        found = probed(kit, tmp_path / "gpu", "gpu")
    for left, right in zip(expected, found, strict=True):
        assert len(left) == len(right) > 0
        numbers_close(numbers_of(left), numbers_of(right))


def numbers_of(value):
    """Every number of nested records, in order."""
    if hasattr(value, "__dataclass_fields__"):
        value = {name: getattr(value, name) for name in value.__dataclass_fields__}
    if isinstance(value, dict):
        return [number for part in value.values() for number in numbers_of(part)]
    if isinstance(value, (list, tuple, np.ndarray)):
        return [number for part in value for number in numbers_of(part)]
    return [float(value)] if isinstance(value, (int, float, np.number)) else []


def numbers_close(left, right):
    assert len(left) == len(right) > 0
    np.testing.assert_allclose(right, left, rtol=1e-3, atol=1e-4)


def test_emotion_llama(gpu, tmp_path):
    folder, store = emotion_llama_kit.import_tiny(tmp_path / "m"), emotion_llama_kit.make_store(tmp_path / "s")
    asked = [("toy/000", "Why?", "He smiles."), ("toy/001", "Why?", "She cries."), ("toy/000", "What?", "Joy.")]
    expected = score_answers(load_model(folder), store, asked)
    found = score_answers(load_model(folder, device="gpu"), store, asked)
    assert found.device == GPU
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("layout", ["separate", "audio_in_video"])
@pytest.mark.parametrize("family", qwen_omni_kit.FAMILIES)
def test_qwen_omni(tmp_path, family, layout):
    reference = qwen_omni_kit.thinker(family, dtype=torch.float32)
    folder = qwen_omni_kit.save_checkpoint(reference, tmp_path)
    shown = [qwen_omni_kit.clip(family, seed=seed, dtype=torch.float32).rows(reference) for seed in (0, 1)]
    expected, replies = omni_scores(load_model(folder), shown, layout, EXPERTS[family])
    with pretended_gpu():
        found, other = omni_scores(load_model(folder, device="gpu"), shown, layout, EXPERTS[family])
        assert found.device == GPU
        torch.testing.assert_close(found.cpu(), expected, rtol=1e-4, atol=1e-3)
    assert other == replies


def test_grouped_products_of_experts(tmp_path):
    """In bfloat16, the only format for which PyTorch states their rules."""
    family, dtype = "qwen3_omni", torch.bfloat16
    reference = qwen_omni_kit.thinker(family, dtype=torch.float32)
    folder = qwen_omni_kit.save_checkpoint(reference, tmp_path)
    shown = [qwen_omni_kit.clip(family, seed=seed, dtype=torch.float32).rows(reference) for seed in (0, 1)]
    expected, _ = omni_scores(load_model(folder, dtype=dtype), shown, "separate", "grouped_mm")
    with pretended_gpu():
        found, _ = omni_scores(load_model(folder, device="gpu", dtype=dtype), shown, "separate", "grouped_mm")
        assert found.device == GPU
        torch.testing.assert_close(found.cpu(), expected, rtol=1e-2, atol=0.1)


EXPERTS = {"qwen2_5_omni": None, "qwen3_omni": "eager"}
"""How experts are computed in float32."""


def omni_scores(model, shown, layout, experts):
    if experts:
        model.language_model.set_experts_implementation(experts)
    named = [{f"{side}/{model.family}": row for side, row in clip.items()} for clip in shown]
    rows = [moved(clip, model.device) for clip in named]  # as a store's features are read
    texts = [("What cue?", "tears", 0), ("What cue?", "a smile", 1), ("Why?", "tears", 0)]
    asked = [model.sequence(q, a, streams=rows[n], prompt_format=layout) for q, a, n in texts]
    prompts = [model.prompt(q, streams=rows[n], prompt_format=layout) for q, _, n in texts]
    with torch.no_grad():
        return model.response_logprobs(asked), model.generate(prompts, 4)
