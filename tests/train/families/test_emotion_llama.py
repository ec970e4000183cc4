"""Emotion-LLaMA of other sizes than the golden data's: scoring, training, files in and out, and what is refused."""

from __future__ import annotations

import json
import pickle
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
import torch
from peft import PeftModel
from transformers import LlamaForCausalLM

from avem.cache import FeatureStore
from avem.cache.filled import zero_fingerprint
from avem.cli import main
from avem.errors import AvemError, CheckpointError, DataError, FingerprintError, PromptError, SettingError
from avem.evaluate.bench import bench_emorealm
from avem.files import json_sha256, write_json_lines
from avem.records import Emotion, InstructionRow, Modality, PreferenceRow, Question
from avem.train import load_model, score_answers
from avem.train.checkpoints.load import load_skeleton
from avem.train.checkpoints.merge import merge_model
from avem.train.data.examples import preference_examples
from avem.train.data.features import ClipFeatures
from avem.train.families.emotion_llama.adapters import adapter_parameters
from avem.train.families.emotion_llama.export import export_released
from avem.train.families.emotion_llama.importing import EncoderFacts, import_released
from avem.train.families.emotion_llama.projections import FACE, FRAME, MOTION, SOUND, STREAMS
from avem.train.model.lora import quiet_peft
from avem.train.packing.specs import SequenceBuilder
from avem.train.preference import PreferenceTraining, train_preferences
from avem.train.run.training import preview_training
from avem.train.settings.config import PreferenceConfig, SupervisedConfig
from avem.train.supervised import train_supervised
from tests.train.families.emotion_llama_kit import (
    ALPHA,
    EMOTIONS,
    FACES,
    HIDDEN,
    MOTIONS,
    RANK,
    SOUNDS,
    WIDTH,
    Released,
    import_tiny,
    make_llama,
    make_released,
    make_store,
)


@pytest.fixture(scope="module")
def released(tmp_path_factory) -> Released:
    return make_released(tmp_path_factory.mktemp("released"))


@pytest.fixture(scope="module")
def imported(tmp_path_factory) -> Path:
    return import_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> FeatureStore:
    return make_store(tmp_path_factory.mktemp("stores") / "cache")


def rows(modality=(Modality.VISUAL, Modality.AUDIO, Modality.AUDIOVISUAL), clips=6) -> list[PreferenceRow]:
    return [
        PreferenceRow(
            row_id=f"{clip}-{asked}",
            clip_id=f"toy/{clip:03d}",
            modality=asked,
            task="toy",
            question=f"What {asked} cue?",
            chosen=f"a {EMOTIONS[clip % 3]} cue",
            rejected_video_relevant=f"the wall, {clip}",
            rejected_emotion_relevant="tears",
            rejected_irrelevant="a boat",
            emotion=Emotion(EMOTIONS[clip % 3]),
        )
        for clip in range(clips)
        for asked in modality
    ]


def config(store, model, folder, **changes) -> PreferenceConfig:
    prefs = folder / "prefs.jsonl"
    write_json_lines(prefs, [row.to_json() for row in rows()])
    settings = {"learning_rate": 1e-2, "batch_size": 6, "accumulation": 1, "trackers": "none", "reliance_rows": 0}
    settings["lora_new"] = changes.get("lora_rank") != RANK
    return PreferenceConfig(
        cache=store.location.url, model=str(model), prefs=prefs, out=folder / "run", device="cpu", **settings | changes
    )


def clip(seed, dtype=torch.float64) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {FRAME: (37, WIDTH), FACE: (FACES,), MOTION: (MOTIONS,), SOUND: (SOUNDS,)}
    return {name: torch.randn(shape, generator=generator, dtype=dtype) for name, shape in shapes.items()}


def test_shared_prefixes_change_nothing_whichever_side_is_replaced(imported):
    model = load_model(imported, dtype=torch.float64)
    own, other = clip(1), clip(2)
    shown = [
        own,
        {**own, SOUND: other[SOUND]},
        {**other, SOUND: own[SOUND]},
        other,
    ]
    sequences = [
        model.sequence("What is it?", answer, streams=streams, subtitle=said, prompt_format=layout)
        for streams in shown
        for answer in ("he smiles", "he smiles and cries", "$$ or not")
        for said in (None, "never mind")
        for layout in ("emotion_llama_train", "emotion_llama_generate")
    ]
    with torch.no_grad():
        shared = model.response_logprobs(sequences)
        alone = model.response_logprobs(sequences, share_prefixes=False)
    assert (shared - alone).abs().max() < 1e-9
    assert len(set(shared.tolist())) == len(sequences)


def test_media_tokens_of_another_size(imported):
    model = load_model(imported)
    both = {name: torch.stack([clip(1)[name], clip(2)[name]]) for name in STREAMS}
    tokens = model.media_tokens(both)
    assert tokens.shape == (2, 9 + 4, HIDDEN)
    one = model.media_tokens({name: rows[:1] for name, rows in both.items()})
    torch.testing.assert_close(one[0], tokens[0])


def test_a_frame_strip_is_four_patches_of_a_row(imported):
    model = load_model(imported)
    plain = clip(1, torch.float32)
    moved = {**plain, FRAME: plain[FRAME].clone()}
    moved[FRAME][1 + 4] += 1.0 * torch.randn(WIDTH)  # the fifth patch: the second strip, over the end of no row
    with torch.no_grad():
        first, second = (
            model.media_tokens({name: one[None] for name, one in each.items()})[0] for each in (plain, moved)
        )
    assert torch.nonzero((first != second).any(-1)).flatten().tolist() == [1]


@pytest.mark.parametrize(("modality", "replaced"), [(Modality.AUDIO, "sound"), (Modality.VISUAL, "the rest")])
def test_a_question_about_one_modality_replaces_its_streams(imported, store, tmp_path, modality, replaced):
    model, settings = load_model(imported), config(store, imported, tmp_path)
    builder = SequenceBuilder(model, store)
    from avem.cache import ensure_negatives

    ensure_negatives(store, "hard", 0)
    example = preference_examples(rows([modality]), store, builder, settings)[0]
    features = ClipFeatures(builder.streams, example.specs, torch.device("cpu"), 100)
    media = features.media(example.specs)
    own, other = (builder.sequence(example.scores[name], media) for name in ("w", "w_given_l"))
    differ = torch.nonzero((model.embed(own) != model.embed(other)).any(-1)).flatten().tolist()
    image = own.ids.tolist().index(-200)
    after = own.ids.tolist().index(-200, image + 1) + 9 - 1  # the face: the image is nine positions and one id
    expected = [after + 2] if replaced == "sound" else [*range(image, image + 9), after, after + 1, after + 3]
    assert differ == expected


def test_answers_are_scored_from_the_store_as_by_hand(imported, store):
    model = load_model(imported, dtype=torch.float64)
    asked = [("toy/001", "What?", "she smiles"), ("toy/004", "Why so?", "it costs $$ 5"), ("toy/001", "What?", "no")]
    by_hand = [
        model.sequence(
            question, answer, streams={name: store.stream(name).rows(store.rows([clip_id]))[0] for name in STREAMS}
        )
        for clip_id, question, answer in asked
    ]
    with torch.no_grad():
        expected = model.response_logprobs(by_hand, share_prefixes=False)
        for share in (True, False):
            torch.testing.assert_close(score_answers(model, store, asked, share), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("further", [True, False])
def test_training_exporting_and_importing_again_gives_one_model(imported, released, store, tmp_path, further):
    lora = {"lora_rank": RANK, "lora_scale": ALPHA / RANK} if further else {"lora_rank": 2}
    settings = config(store, imported, tmp_path, max_steps=2, train_projectors=True, seed=3, **lora)
    run = train_preferences(settings)
    trained, start = load_model(run / "final"), load_model(imported)
    asked = [("What?", "a happy cue"), ("Why so?", "the wall, 3")]

    def score(model):
        with torch.no_grad():
            return model.response_logprobs([model.sequence(*each, streams=clip(5)) for each in asked])

    assert (score(trained) - score(start)).abs().min() > 1e-2
    report = export_released(run, tmp_path / "back.pth")
    assert (report.rank, report.alpha) == (RANK, ALPHA) if further else (RANK + 2, ALPHA / RANK * (RANK + 2))
    files = replace(released.files(), checkpoint=tmp_path / "back.pth")
    import_released(files, tmp_path / "again", lora_alpha=report.alpha, lora_rank=report.rank)
    torch.testing.assert_close(score(load_model(tmp_path / "again")), score(trained), rtol=0, atol=2e-5)
    merged = merge_model(run, tmp_path / "merged")
    torch.testing.assert_close(score(load_model(merged)), score(trained), rtol=0, atol=2e-5)
    with pytest.raises(SettingError, match="folded into its language model"):
        export_released(merged, tmp_path / "merged.pth")


def test_a_run_on_a_run_is_exported_with_both_adapters(imported, released, store, tmp_path):
    first = train_preferences(config(store, imported, tmp_path / "a", max_steps=1, lora_rank=2))
    second = train_preferences(config(store, first, tmp_path / "b", max_steps=1, lora_rank=4, train_projectors=True))
    report = export_released(second, tmp_path / "back.pth")
    assert report.rank == RANK + 2 + 4
    import_released(
        replace(released.files(), checkpoint=tmp_path / "back.pth"), tmp_path / "again", lora_alpha=report.alpha
    )
    scores = []
    for path in (second, tmp_path / "again"):
        model = load_model(path, dtype=torch.float64)
        with torch.no_grad():
            scores.append(model.response_logprobs([model.sequence("What?", "a cue", streams=clip(4))]))
    torch.testing.assert_close(*scores, rtol=0, atol=1e-5)


def test_what_was_imported_is_exported_bit_for_bit(imported, released, tmp_path, capsys):
    assert run(["models", "export", "emotion-llama", str(imported), str(tmp_path / "back.pth")]) == 0
    back, own = (torch.load(path, weights_only=True)["model"] for path in (tmp_path / "back.pth", released.checkpoint))
    assert back.keys() == own.keys()
    assert all(torch.equal(back[name], own[name]) and back[name].dtype == own[name].dtype for name in own)
    told = capsys.readouterr().out
    assert f"lora_r: {RANK} and lora_alpha: 6" in told
    assert "ln_vision (stays weight 1, bias 0)" in told
    assert "attention.fc_out.bias" in told


def test_export_leaves_other_files_alone(imported, tmp_path):
    (tmp_path / "mine.pth").write_text("mine")
    with pytest.raises(SettingError):
        export_released(imported, tmp_path / "mine.pth")
    assert (tmp_path / "mine.pth").read_text() == "mine"


def test_peft_loads_the_released_adapters_from_the_folder(imported):
    ours = load_model(imported)
    base = LlamaForCausalLM.from_pretrained(imported / "language_model")
    with quiet_peft():
        theirs = PeftModel.from_pretrained(base, str(imported))
    ids = torch.tensor([[1, 5, 9, 30]])
    with torch.no_grad():
        torch.testing.assert_close(theirs(input_ids=ids).logits, ours.language_model(input_ids=ids).logits)
    own, other = adapter_parameters(ours.peft_model), adapter_parameters(theirs)
    assert own.keys() == other.keys()
    assert all(torch.equal(own[name], other[name]) for name in own)


def test_new_names_of_peft_are_read_too(released, tmp_path):
    content = torch.load(released.checkpoint, weights_only=True)["model"]
    renamed = {
        name.replace("lora_A.", "lora_A.default.").replace("lora_B.", "lora_B.default."): one
        for name, one in content.items()
    }
    assert renamed.keys() != content.keys()
    torch.save({"model": renamed}, tmp_path / "new.pth")
    out = tmp_path / "model"
    import_released(replace(released.files(), checkpoint=tmp_path / "new.pth"), out, lora_alpha=ALPHA)
    export_released(out, tmp_path / "back.pth")
    back = torch.load(tmp_path / "back.pth", weights_only=True)["model"]
    assert back.keys() == content.keys()


def test_alpha_scales_the_adapters(released, tmp_path):
    scores = []
    for alpha in (ALPHA, 2 * ALPHA):
        import_released(released.files(), tmp_path / f"{alpha}", lora_alpha=alpha)
        model = load_model(tmp_path / f"{alpha}", dtype=torch.float64)
        adapted = model.language_model.model.layers[0].self_attn.q_proj
        x = torch.ones(1, HIDDEN, dtype=torch.float64)
        with torch.no_grad():
            scores.append(adapted(x) - adapted.base_layer(x))
    torch.testing.assert_close(scores[1], 2 * scores[0])


def test_skeleton_has_shapes_and_no_weights(imported):
    model = load_skeleton(imported)
    assert model.device.type == "meta"
    assert model.projections.sizes.motion == MOTIONS
    assert model.fingerprint() == ""


def test_card_and_configuration_say_which_streams_are_zeros(imported, tmp_path):
    model = load_model(imported)
    filled = {FACE: json_sha256(zero_fingerprint("mae", FACES)), SOUND: json_sha256({"encoder": "hubert"})}
    model.record_features(filled)
    model.add_lora(2)
    model.save_adapter(tmp_path / "final")
    assert "Filled with zeros, not computed: face/mae." in (tmp_path / "final" / "README.md").read_text()
    again = load_model(tmp_path / "final")
    assert again.config.zeros == (FACE,)
    again.check_features(SOUND, filled[SOUND])
    with pytest.raises(FingerprintError, match="face/mae"):
        again.check_features(FACE, "0" * 64)


def test_supervised_training_preference_training_and_the_bench(imported, store, tmp_path):
    settings = config(store, imported, tmp_path / "sft", max_steps=1, lora_rank=RANK, lora_scale=ALPHA / RANK)
    shared = ("cache", "model", "device", "trackers", "lora_rank", "lora_scale")
    kept = {name: getattr(settings, name) for name in shared}
    data = tmp_path / "rows.jsonl"
    made = [InstructionRow(one.row_id, one.clip_id, one.modality, one.task, one.question, one.chosen) for one in rows()]
    write_json_lines(data, [row.to_json() for row in made])
    learning = {"learning_rate": 1e-2, "max_steps": 1, "tune": "lora", "reliance_rows": 0}
    sft = train_supervised(SupervisedConfig(data=data, out=tmp_path / "sft" / "run", **kept, **learning))
    dpo = train_preferences(config(store, sft, tmp_path / "dpo", max_steps=1, lora_rank=2))
    questions = [
        Question(f"q{clip}", f"{clip:03d}.mp4", "reasoning_basic_audio", "Why?", ("(A) a cue", "(B) the wall"), "A")
        for clip in range(3)
    ]
    results = [
        bench_emorealm(load_model(path), store, questions, out_dir=tmp_path / path.name, max_new_tokens=2, resamples=10)
        for path in (imported, dpo)
    ]
    answers = [read_answers(tmp_path / path.name) for path in (imported, dpo)]
    assert len(answers[0]) == len(answers[1]) == 3 + 3 + 1  # by likelihood and generation; the text alone is one
    assert not {record["key"] for record in answers[0]} & {record["key"] for record in answers[1]}
    assert all(result is not None for result in results)
    assert export_released(dpo, tmp_path / "back.pth").rank == RANK + 2


def read_answers(folder: Path) -> list[dict]:
    return [json.loads(line) for path in folder.rglob("answers.jsonl") for line in path.read_text().splitlines()]


# ---- what is refused ------------------------------------------------------------------------------------------------


def test_a_clip_without_one_of_its_streams(imported, tmp_path):
    model = load_model(imported)
    for name in STREAMS:
        with pytest.raises(PromptError, match=f"stream {name} is missing"):
            model.sequence("What?", "this", streams={one: row for one, row in clip(1).items() if one != name})
        with pytest.raises(PromptError, match=f"stream {name} is missing"):
            model.media_tokens({one: row[None] for one, row in clip(1).items() if one != name})
    lacking = make_store(tmp_path / "cache", without=(MOTION, 2))
    builder, settings = SequenceBuilder(model, lacking), config(lacking, imported, tmp_path, lambda_av=0.0)
    for modality in (Modality.VISUAL, Modality.AUDIO):
        with pytest.raises(DataError, match=r"toy/002 has no motion/videomae features"):
            preference_examples(rows([modality]), lacking, builder, settings)
    with pytest.raises(DataError, match=r"toy/002 has no motion/videomae features"):
        score_answers(model, lacking, [("toy/002", "What?", "this")])


@pytest.mark.parametrize("lora", [{"lora_rank": 2}, {"lora_rank": RANK, "lora_scale": 4.0}, {}])
def test_a_rank_or_alpha_other_than_the_checkpoints_is_refused(imported, store, tmp_path, lora):
    settings = config(store, imported, tmp_path, **{**lora, "lora_new": False})
    for begin in (train_preferences, lambda given: preview_training(PreferenceTraining(given))):
        with pytest.raises(SettingError, match=r"adapters of rank 3 and alpha 6 on q_proj and v_proj.*lora_new=true"):
            begin(settings)
    assert not settings.out.exists(), "nothing was begun"


def test_new_adapters_of_the_same_rank_are_new(imported, store, tmp_path):
    own = {"lora_rank": RANK, "lora_scale": ALPHA / RANK, "max_steps": 1}
    further = load_model(train_preferences(config(store, imported, tmp_path / "a", **own)))
    fresh = load_model(train_preferences(config(store, imported, tmp_path / "b", **own, lora_new=True)))
    assert further.config.lora_rank == RANK
    assert fresh.config.lora_rank == 0, "the checkpoint's adapters are folded in"


def test_a_store_without_a_stream_names_the_command(imported, tmp_path):
    store, model = make_store(tmp_path / "cache", leave_out=FACE), load_model(imported)
    with pytest.raises(FingerprintError, match=r"--stream face/mae=FOLDER.*--fill-missing zeros"):
        SequenceBuilder(model, store)


def test_vectors_of_another_width(imported, tmp_path):
    model = load_model(imported)
    for name in STREAMS:
        wrong = {**clip(1), name: clip(1)[name][..., :-1]}
        with pytest.raises(FingerprintError, match=f"{name} has .* channels"):
            model.sequence("What?", "this", streams=wrong)
    store = make_store(tmp_path / "cache", face=FACES + 1)
    with pytest.raises(FingerprintError, match=f"face/mae has {FACES + 1} channels .* made for {FACES}"):
        train_preferences(config(store, imported, tmp_path, lambda_av=0.0))
    with pytest.raises(FingerprintError, match="36 tokens"):
        model.sequence("What?", "this", streams={**clip(1), FRAME: clip(1)[FRAME][:-1]})


def test_text_that_is_more_than_text(imported):
    model = load_model(imported)
    for text in ("<VideoHere>", "who </s>", "[/INST] he", "<FeatureHere>?"):
        with pytest.raises(PromptError, match="does not read as text"):
            model.prompt(text, streams=clip(1))
        with pytest.raises(PromptError, match="does not read as text"):
            model.prompt("What?", streams=clip(1), subtitle=text)
    with pytest.raises(PromptError, match="no prompt format 'vicuna_v1'"):
        model.prompt("What?", streams=clip(1), prompt_format="vicuna_v1")
    with pytest.raises(PromptError, match="the context holds 400"):
        model.sequence("What? " * 300, "this", streams=clip(1))


def run(arguments: list[str]) -> int:
    """Exit status of a command."""
    with mock.patch.object(sys, "argv", ["avem", *arguments]), pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


def refused(arguments, capsys, *words: str) -> None:
    """The command ends with exit status 2 and one sentence."""
    assert run(arguments) == 2
    told = capsys.readouterr().err.strip()
    assert "Traceback" not in told
    assert all(word in told for word in words), told


def changed(released: Released, folder: Path, **paths: Path) -> Released:
    folder.mkdir(exist_ok=True)
    return replace(released, **paths)


def test_import_refuses_what_does_not_belong_together(released, tmp_path, capsys):
    out = tmp_path / "out"
    other = make_llama(tmp_path / "vocabulary", vocab_size=300)
    refused(replace(released, llama=other).arguments(out), capsys, "300 tokens", "407")
    wider = make_llama(tmp_path / "wider", hidden_size=32)
    refused(replace(released, llama=wider).arguments(out), capsys, "32 wide", "24 channels")
    deeper = make_llama(tmp_path / "deeper", num_hidden_layers=3)
    refused(replace(released, llama=deeper).arguments(out), capsys, "differ at model.layers.2")
    heads = make_llama(tmp_path / "heads", num_key_value_heads=4)
    refused(replace(released, llama=heads).arguments(out), capsys, "for a layer of [12, 24]", "[24, 24]")
    refused([*released.arguments(out), "--lora-rank", "8"], capsys, "have the rank 3", "--lora-rank is 8")
    refused(replace(released, llama=tmp_path / "absent").arguments(out), capsys, "--llama")
    alpha = [*released.arguments(out)]
    alpha[alpha.index("--lora-alpha") + 1] = "0"
    refused(alpha, capsys, "--lora-alpha is 0")
    assert not out.exists()


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_import_refuses_damaged_and_hostile_checkpoints(released, tmp_path, capsys):
    out, path = tmp_path / "out", tmp_path / "bad.pth"
    arguments = replace(released, checkpoint=path).arguments(out)
    content = torch.load(released.checkpoint, weights_only=True)["model"]
    lora = [name for name in content if ".lora_A." in name]
    cases = {
        "no llama_proj.weight": {name: one for name, one in content.items() if name != "llama_proj.weight"},
        "no low-rank adapters": {name: one for name, one in content.items() if ".lora_" not in name},
        "without the matrix": {name: one for name, one in content.items() if name != lora[0]},
        "ranks 2, 3": {**content, lora[0]: content[lora[0]][:2]},
        "no part of Emotion-LLaMA takes: visual_encoder.x": {**content, "visual_encoder.x": torch.zeros(1)},
        "not whole tokens": {**content, "llama_proj.weight": torch.zeros(HIDDEN, 4 * WIDTH + 1)},
    }
    for words, tensors in cases.items():
        torch.save({"model": tensors}, path)
        refused(arguments, capsys, words)
    torch.save(content, path)
    refused(arguments, capsys, "no entry `model`")
    path.write_bytes(released.checkpoint.read_bytes()[:3000])
    refused(arguments, capsys, "fetch it again")
    torch.save({"model": content, "config": Payload(tmp_path / "ran")}, path, pickle_module=pickle)
    refused(arguments, capsys, "a pickle can run code")
    assert not (tmp_path / "ran").exists()
    assert not out.exists()


def test_import_refuses_encoders_of_another_width(released, tmp_path):
    for name, option in ((FRAME, "--eva"), (SOUND, "--hubert")):
        files = replace(released.files(), encoders={name: EncoderFacts("0" * 64, 5)})
        with pytest.raises(CheckpointError, match=f"gives 5 channels .* with {option}"):
            import_released(files, tmp_path / "out", lora_alpha=ALPHA)


def test_a_folder_whose_parts_disagree(imported, tmp_path):
    def copy(name):
        shutil.copytree(imported, tmp_path / name)
        (tmp_path / name / "checksums.json").unlink()
        return tmp_path / name

    def edit(folder, **values):
        settings = json.loads((folder / "config.json").read_text())
        settings["emotion_llama"] |= values
        (folder / "config.json").write_text(json.dumps(settings))
        return folder

    with pytest.raises(CheckpointError, match=r"have the rank 3 and its config.json says 8"):
        load_model(edit(copy("rank"), lora_rank=8))
    with pytest.raises(CheckpointError, match="does not know: depth"):
        load_model(edit(copy("unknown"), depth=1))
    with pytest.raises(CheckpointError, match="lora_alpha is 'much'"):
        load_model(edit(copy("type"), lora_alpha="much"))
    with pytest.raises(CheckpointError, match="must be above 0"):
        load_model(edit(copy("alpha"), lora_alpha=-1.0))
    missing = copy("missing")
    (missing / "adapter_model.safetensors").unlink()
    with pytest.raises(AvemError, match="no adapter_model"):
        load_model(missing)
