"""Adapters on small random models in the layouts of the hub, shown a real clip."""

import json
import math
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from avem.errors import CheckpointError, DataError, SettingError
from avem.evaluate.predict.adapters import ADAPTERS, adapter_for, load_adapter
from avem.evaluate.predict.adapters.vision import ready_torchvision
from avem.evaluate.predict.loading import open_media_model
from avem.evaluate.predict.media_model import MediaRequest
from avem.evaluate.runner import BenchOptions, run_emorealm
from tests.evaluate.adapter_kit import FAMILIES, save_small
from tests.evaluate.media_kit import write_clip
from tests.train.families.qwen_omni.qwen_omni_kit import save_checkpoint, thinker
from tests.train.families.qwen_omni.test_training import make_store
from tests.train.training_kit import make_store as made_for_another

SEEN = {
    "qwen3_vl": ("video",),
    "video_llama_3": ("video",),
    "qwen3_omni_moe_thinker": ("video", "audio"),
    "phi4_multimodal": ("video", "audio"),
    "qwen2_5_vl": ("video",),
    "internvl": ("video",),
    "qwen2_audio": ("audio",),
    "audioflamingo3": ("audio",),
    "qwen2_5_omni": ("video", "audio"),
    "voxtral": ("audio",),
    "gemma3n": ("video", "audio"),
}


def need_packages(family):
    if family == "gemma3n":
        pytest.importorskip("timm", reason="the vision tower of Gemma 3n needs timm, and it is not installed")
    if family == "voxtral":
        for name in ("mistral_common", "soundfile"):
            pytest.importorskip(name, reason="Voxtral needs avem[voxtral], and it is not installed")
    if "video" in SEEN[family]:
        try:
            ready_torchvision()
        except ImportError:
            pytest.skip("the video processors of transformers need torchvision, and it is not installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("adapters")
    write_clip(made / "clips" / "a.mp4")
    write_clip(made / "clips" / "b.mp4", seconds=2)
    return made


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_sees_hears_and_answers(family, folder):
    need_packages(family)
    place = save_small(family, folder / family)
    assert adapter_for(str(place)) == family
    model = load_adapter(str(place), "cpu", torch.float32)
    assert model.sees == SEEN[family]
    clips = {name: folder / "clips" / f"{name}.mp4" for name in "ab"}
    asked = {
        "a": MediaRequest("a", "likelihood", "Which? ", ("A", "B"), clips["a"], model.sees, 4),
        "b": MediaRequest("b", "likelihood", "Which? ", ("A", "B"), clips["b"], model.sees, 4),
        "text": MediaRequest("text", "text_only", "Which? ", ("A", "B"), None, model.sees, 4),
        "long": MediaRequest("long", "likelihood", "Which? ", ("smile", "A"), clips["a"], model.sees, 4),
        "reply": MediaRequest("reply", "generation", "Which? ", ("A", "B"), clips["a"], model.sees, 4),
        "broken": MediaRequest("broken", "generation", "Which? ", ("A", "B"), folder / "none.mp4", model.sees, 4),
    }
    found = {}
    failed = model.predict(list(asked.values()), found.__setitem__)
    assert failed.keys() == {"broken"}
    assert "none.mp4" in failed["broken"]
    values = {name: found[name].logprobs for name in ("a", "b", "text", "long")}
    assert all(math.isfinite(value) and value < 0 for pair in values.values() for value in pair)
    assert values["a"] != values["b"] != values["text"], "what is shown matters"
    assert values["long"][1] == pytest.approx(values["a"][0], abs=1e-4), "one pass for all options changes nothing"
    assert isinstance(found["reply"].reply, str)


@pytest.mark.parametrize("family", ["qwen2_audio"])
def test_bench_with_an_adapter(family, folder, tmp_path):
    place = save_small(family, tmp_path / "small-audio")
    question = {
        "id": "1",
        "video": "clips/a.mp4",
        "task": "reasoning_basic_audio",
        "question": "Which sound?",
        "choices": ["(A) a sob", "(B) a laugh"],
        "answer": "A",
    }
    (tmp_path / "q.json").write_text(json.dumps([question, {**question, "id": "2", "video": "clips/c.mp4"}]))
    options = BenchOptions(
        questions=tmp_path / "q.json",
        models=(str(place),),
        media_root=folder,
        out=tmp_path / "bench",
        resamples=20,
        device="cpu",
    )
    (result,) = run_emorealm(options)
    assert set(result.scores) == {"likelihood", "generation", "text_only"}
    assert result.items[0].logprobs != result.items[0].text_logprobs
    assert "no clip clips/c.mp4" in result.items[1].absent
    assert run_emorealm(options)[0] == result
    (tmp_path / "none.json").write_text(json.dumps([{**question, "video": "clips/c.mp4"}]))
    with pytest.raises(DataError, match=r"No question has a clip .*c\.mp4.*; name the clips' folder"):
        run_emorealm(replace(options, questions=tmp_path / "none.json", out=tmp_path / "none"))


def test_4_bits_are_for_models_that_read_features(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "qwen2_audio"}')
    with pytest.raises(SettingError, match="4bit is for models that read features"):
        open_media_model(str(tmp_path), None, "cpu", "4bit")


def test_models_that_no_adapter_runs(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    assert adapter_for(str(tmp_path)) is None
    assert open_media_model(str(tmp_path), None) is None
    with pytest.raises(DataError, match=f"some for {', '.join(ADAPTERS)}"):
        load_adapter(str(tmp_path), "cpu", torch.float32)
    (tmp_path / "config.json").write_text('{"model_type": "qwen2_audio"}')
    with pytest.raises(CheckpointError, match="can't be loaded as Qwen2AudioForConditionalGeneration"):
        load_adapter(str(tmp_path), "cpu", torch.float32)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(DataError, match="not a model's configuration"):
        adapter_for(str(tmp_path))


HALF_LOADED = """
import sys, pathlib, torch
from avem.evaluate.predict.adapters.vision import UNGUARDED, ready_torchvision
place = pathlib.Path(sys.argv[1], "torchvision", "__init__.py")
place.write_text("raise RuntimeError('CUDA versions differ')")
try:
    ready_torchvision()
except ImportError as error:
    print(error)
lines = [f"torch.library.register_fake('torchvision::{name}')(len)" for name in UNGUARDED]
place.write_text("\\n".join(["import torch", *lines]))
ready_torchvision()
try:
    torch.ops.torchvision.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
except NotImplementedError:
    print("declared, and no more")
"""


def test_torchvision_of_another_build_of_torch(tmp_path):
    """A package that does at its import what torchvision does where its operators can't be loaded."""
    (tmp_path / "torchvision").mkdir()
    places = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", HALF_LOADED, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": places},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first.endswith(": CUDA versions differ")
    assert second == "declared, and no more"


@pytest.mark.parametrize("family", ["qwen2_5_omni", "qwen3_omni_moe_thinker"])
def test_a_clip_is_shown_as_transformers_own_example_shows_it(family, folder):
    """The adapter's scores are those of the model's own forward pass on what its processor makes of the clip."""
    need_packages(family)
    adapter = load_adapter(str(save_small(family, folder / f"{family}-own")), "cpu", torch.float32)
    request = MediaRequest("a", "likelihood", "Which? ", ("A", "B"), folder / "clips" / "a.mp4", adapter.sees, 4)
    media = request.media(8)
    found = {}
    adapter.predict([request], found.__setitem__)
    processor = adapter.processor
    asked = [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "Which? "}]}]
    if adapter.system:
        asked.insert(0, {"role": "system", "content": [{"type": "text", "text": adapter.system}]})
    text = processor.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
    inputs = processor(
        text=[text],
        videos=[media.frames],
        audio=[media.samples],
        sampling_rate=16000,
        fps=media.frames_per_s,
        do_sample_frames=False,
        load_audio_from_video=True,
        audio_from_video_indices=[0],
        return_tensors="pt",
    )
    tokens = processor.tokenizer
    sound, picture = (tokens.convert_tokens_to_ids(getattr(processor, f"{kind}_token")) for kind in ("audio", "video"))
    placed = inputs["input_ids"][0].tolist()
    assert min(placed.count(sound), placed.count(picture)) > 0
    with torch.no_grad():
        logits = adapter.model(**inputs, use_audio_in_video=True).logits[0, -1].log_softmax(-1)
    own = [float(logits[tokens(option, add_special_tokens=False)["input_ids"][0]]) for option in "AB"]
    assert found["a"].logprobs == pytest.approx(own, abs=1e-5)


def test_a_full_checkpoint_of_qwen3_omni_runs_as_its_thinker(folder, tmp_path):
    """The hub has thinker and talker in one folder, with `thinker.` before the thinker's names."""
    need_packages("qwen3_omni_moe_thinker")
    alone = save_small("qwen3_omni_moe_thinker", tmp_path / "alone")
    whole = shutil.copytree(alone, tmp_path / "whole")
    config = json.loads((whole / "config.json").read_text())
    (whole / "config.json").write_text(
        json.dumps({"model_type": "qwen3_omni_moe", "enable_audio_output": False, "thinker_config": config})
    )
    tensors = load_file(whole / "model.safetensors")
    state = {f"thinker.{name}": tensor for name, tensor in tensors.items()}
    save_file({**state, "talker.codec_head.weight": torch.ones(3, 4)}, whole / "model.safetensors", {"format": "pt"})
    assert adapter_for(str(whole)) == "qwen3_omni_moe"
    request = MediaRequest("a", "likelihood", "Which? ", ("A", "B"), folder / "clips" / "a.mp4", ("video", "audio"), 4)
    found = []
    for place in (alone, whole):
        answers = {}
        assert not load_adapter(str(place), "cpu", torch.float32).predict([request], answers.__setitem__)
        found.append(answers["a"].logprobs)
    assert found[0] == found[1]


def test_a_model_that_avem_trains_reads_the_store_where_it_holds_its_features(tmp_path):
    model = thinker("qwen2_5_omni", dtype=torch.float32)
    place = save_checkpoint(model, tmp_path / "model")
    make_store(tmp_path / "cache", model, place)
    assert adapter_for(str(place)) == "qwen2_5_omni"
    assert open_media_model(str(place), None, cache=tmp_path / "cache") is None
    made_for_another(tmp_path / "other")
    for cache in (None, tmp_path / "none", tmp_path / "other"):
        with pytest.raises(CheckpointError):  # the folder has no processor: media files were to be shown
            open_media_model(str(place), None, "cpu", cache=cache)
