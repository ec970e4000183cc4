"""The exported task files: what they hold, and that their code asks the user's own questions about the right media."""

import json
import shutil
import subprocess
import sys
import types
import wave
from pathlib import Path

import av
import numpy as np
import pytest
import yaml

from avem.errors import DataError, SettingError
from avem.evaluate.harness.export import ExportOptions, export_benchmark
from avem.evaluate.harness.registry import HARNESSES
from avem.evaluate.predict.answers import read_answers
from avem.extract.decode.media import read_waveform
from tests.evaluate.harness.harness_kit import REPLIES, write_benchmark


def exported(folder, harness, **options):
    out = folder / harness
    made = export_benchmark(
        ExportOptions(harness=harness, out=out, questions=folder / "q.json", media_root=folder / "clips", **options)
    )
    return out, made


def loaded(path, monkeypatch, **modules):
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name.replace("__", "."), module)
    module = types.ModuleType(path.stem)
    module.__file__ = str(path)
    exec(compile(path.read_text(), str(path), "exec"), module.__dict__)
    return module


@pytest.mark.parametrize("harness", HARNESSES)
def test_no_question_and_no_whole_clip_is_in_the_export(tmp_path, harness):
    questions = write_benchmark(tmp_path)
    out, made = exported(tmp_path, harness)
    assert made.questions == {"audiovisual": 6, "audio": 6, "visual": 6}
    texts = [path.read_text() for path in out.rglob("*") if path.suffix in (".py", ".json", ".jsonl", ".yaml")]
    secrets = [text for q in questions for text in (q["question"], "(A) low voice", "(D) a laugh")]
    assert len(texts) > 1
    assert [text for text in secrets if any(text in content for content in texts)] == []
    with av.open(str(out / "silent/part_1/1.mp4")) as silent:
        assert not silent.streams.audio
        assert silent.streams.video
        assert sum(1 for _ in silent.decode(video=0)) == 8
    with wave.open(str(out / "sound/part_1/1.wav")) as sound:
        assert (sound.getframerate(), sound.getnchannels()) == (16000, 1)
        assert sound.getnframes() >= 16000


def test_clips_that_are_missing_or_silent_are_named(tmp_path):
    write_benchmark(tmp_path)
    (tmp_path / "clips/part_1/3.mp4").unlink()
    out, _ = exported(tmp_path, "inspect")
    shutil.copy(out / "silent/part_1/2.mp4", tmp_path / "clips/part_1/2.mp4")
    shutil.rmtree(out)
    _, made = exported(tmp_path, "inspect")
    assert made.questions == {"audiovisual": 4, "audio": 2, "visual": 4}
    assert sorted(made.absent) == ["004", "005"]
    assert made.soundless == ("part_1/2.mp4",)


def test_wrong_settings_are_refused_before_anything_is_written(tmp_path):
    write_benchmark(tmp_path)
    with pytest.raises(SettingError, match="known are lmms-eval, vlmevalkit, inspect"):
        exported(tmp_path, "helm")
    with pytest.raises(SettingError, match="--variants takes"):
        exported(tmp_path, "inspect", variants=("sound",))
    questions = json.loads((tmp_path / "q.json").read_text())
    questions[0]["video"] = "elsewhere/9.mp4"
    (tmp_path / "q.json").write_text(json.dumps(questions[:1]))
    with pytest.raises(DataError, match="No clip of"):
        exported(tmp_path, "inspect")
    assert not (tmp_path / "inspect").exists()


def test_a_changed_benchmark_is_noticed(tmp_path):
    write_benchmark(tmp_path)
    out, _ = exported(tmp_path, "lmms-eval")
    (tmp_path / "q.json").write_text("[]")
    code = f"import sys; sys.path.insert(0, {str(out)!r}); import emorealm_utils as u; u.load_questions('audio')"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode
    assert "has changed; run `avem emorealm export` again" in run.stderr


def test_lmms_eval_functions_ask_and_score(tmp_path, monkeypatch):
    write_benchmark(tmp_path)
    out, _ = exported(tmp_path, "lmms-eval")
    utils = loaded(out / "emorealm_utils.py", monkeypatch)
    docs = [json.loads(line) for line in (out / "index_audio.jsonl").read_text().splitlines()]
    assert docs[0] == {"id": "000", "variant": "audio"}
    assert utils.doc_to_text(docs[1]) == "Question 1? (A) Yes (B) No"
    assert utils.doc_to_target(docs[1]) == "B"
    [sound] = utils.doc_to_visual(docs[0])
    assert sound["sampling_rate"] == 16000
    heard = read_waveform(tmp_path / "clips/part_1/1.mp4")
    np.testing.assert_allclose(sound["array"], heard, atol=1e-4)  # 16 bits
    assert abs(heard).max() > 0.3
    assert utils.doc_to_visual({"id": "002", "variant": "visual"}) == [str(out.resolve() / "silent/part_1/2.mp4")]
    assert utils.doc_to_visual({"id": "002", "variant": "audiovisual"}) == [
        str((tmp_path / "clips/part_1/2.mp4").resolve())
    ]
    scored = [utils.process_results(doc, [REPLIES[doc["id"]]])["emorealm_accuracy"] for doc in docs]
    assert [item["letter"] for item in scored] == ["A", "B", "B", "A", None, None]
    assert utils.accuracy(scored) == 2 / 6
    assert utils.task_mean(scored) == (1 / 2 + 1 / 4) / 2
    assert scored[3]["video"] == "part_1/2.mp4"


def test_lmms_eval_yaml_names_what_is_there(tmp_path):
    class Loader(yaml.SafeLoader):
        pass

    Loader.add_constructor("!function", lambda loader, node: loader.construct_scalar(node))
    write_benchmark(tmp_path)
    out, _ = exported(tmp_path, "lmms-eval", variants=("audio",))
    assert [path.name for path in out.glob("*.yaml")] == ["emorealm_audio.yaml"]
    task = yaml.load((out / "emorealm_audio.yaml").read_text(), Loader)
    assert task["task"] == "emorealm_audio"
    assert task["cluster_key"] == "video"
    assert task["output_type"] == "generate_until"
    assert task["test_split"] == "test"
    assert Path(task["dataset_kwargs"]["data_files"]["test"]) == out.resolve() / "index_audio.jsonl"
    code = (out / "emorealm_utils.py").read_text()
    functions = [value for value in task.values() if str(value).startswith("emorealm_utils.")]
    functions += [metric["aggregation"] for metric in task["metric_list"]]
    assert len(functions) == 6
    assert all(f"def {name.split('.')[1]}(" in code for name in functions)


def test_vlmevalkit_dataset_runs_and_its_table_comes_back(tmp_path, monkeypatch):
    """Against the interface that VLMEvalKit documents: `prepare_dataset`, `build_prompt`, `evaluate`."""
    import pandas as pd

    class VideoBaseDataset:
        def __init__(self, dataset, pack, nframe, fps):
            found = self.prepare_dataset(dataset)
            self.data_root, self.nframe = found["root"], nframe
            self.data = pd.read_csv(found["data_file"], sep="\t")

    smp = types.ModuleType("vlmeval.smp")
    smp.LMUDataRoot, smp.load = lambda: str(tmp_path / "LMUData"), pd.read_excel
    base = types.ModuleType("vlmeval.dataset.video_base")
    base.VideoBaseDataset = VideoBaseDataset
    known = types.ModuleType("vlmeval.dataset.video_dataset_config")
    known.supported_video_datasets = {}
    write_benchmark(tmp_path)
    out, _ = exported(tmp_path, "vlmevalkit")
    module = loaded(
        out / "emorealm_vlmevalkit.py",
        monkeypatch,
        vlmeval=types.ModuleType("vlmeval"),
        vlmeval__smp=smp,
        vlmeval__dataset=types.ModuleType("vlmeval.dataset"),
        vlmeval__dataset__video_base=base,
        vlmeval__dataset__video_dataset_config=known,
    )
    module.register()
    assert len(known.supported_video_datasets) == 6
    dataset = known.supported_video_datasets["EmoReAlM_audio"]()
    assert dataset.build_prompt(dataset.data.iloc[2], video_llm=True) == [
        {"type": "audio", "value": str(out.resolve() / "sound/part_1/2.wav")},
        {"type": "text", "value": "Question 2? (A) Yes (B) No"},
    ]
    dataset.data["prediction"] = [*list(REPLIES.values())[:5], "Failed to obtain answer via API."]
    table = tmp_path / "model_EmoReAlM_audio.xlsx"
    dataset.data.to_excel(table, index=False)
    assert dataset.evaluate(str(table)) == {
        "task_mean": 37.5,
        "reasoning_basic_audio": 50.0,
        "modality_agreement": 25.0,
    }
    assert read_answers(table) == {name: reply for name, reply in REPLIES.items() if name != "005"}


def test_inspect_runs_the_task(tmp_path, monkeypatch):
    inspect_ai = pytest.importorskip("inspect_ai", reason="Inspect is not installed")
    from inspect_ai.model import ModelOutput, ModelUsage, get_model

    write_benchmark(tmp_path)
    exported(tmp_path, "inspect")
    monkeypatch.chdir(tmp_path)
    replies = [ModelOutput.from_content("mockllm/model", reply) for reply in REPLIES.values()]
    for reply in replies:
        reply.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
    for variant in ("audio", "visual", "audiovisual"):
        [log] = inspect_ai.eval(
            "inspect/emorealm.py",  # Inspect takes no absolute path
            model=get_model("mockllm/model", custom_outputs=replies, memoize=False),
            task_args={"variant": variant, "separate_sound": True},
            log_dir=str(tmp_path / "logs"),
            display="none",
            max_samples=1,
            max_connections=1,
        )
        assert log.status == "success"
        assert log.results.scores[0].metrics["accuracy"].value == pytest.approx(2 / 6)
        assert read_answers(Path(log.location.removeprefix("file://"))) == REPLIES


def test_lmms_eval_loads_the_tasks(tmp_path, monkeypatch):
    tasks = pytest.importorskip("lmms_eval.tasks", reason="lmms-eval is not installed")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    write_benchmark(tmp_path)
    out, _ = exported(tmp_path, "lmms-eval")
    manager = tasks.TaskManager(include_path=str(out))
    [task] = tasks.get_task_dict(["emorealm_audio"], manager).values()
    docs = list(task.test_docs())
    assert [doc["id"] for doc in docs] == list(REPLIES)
    assert task.doc_to_text(docs[1]) == "Question 1? (A) Yes (B) No"
    assert task.process_results(docs[1], ["(B) No"])["emorealm_accuracy"]["score"] == 1.0
