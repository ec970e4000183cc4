"""The door is wide enough: a family with ragged streams, two visual ones and three-axis positions does everything."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from avem.cache import ClipRecord, Companion, FeatureStore, RowDetails, StoreWriter, StreamSpec
from avem.errors import CheckpointError, FingerprintError, PromptError, UnknownClipError
from avem.evaluate.predict.feature_model import FeaturePredictor
from avem.evaluate.predict.log import AnswerLog
from avem.evaluate.probes.attention import attention_probe
from avem.evaluate.probes.swap import swap_probe
from avem.files import write_json_lines
from avem.records import Modality, Question
from avem.train import (
    PreferenceConfig,
    SupervisedConfig,
    load_model,
    score_answers,
    train_preferences,
    train_supervised,
)
from avem.train.data.examples import preference_examples
from avem.train.data.features import ClipFeatures
from avem.train.data.noise import FeatureNoise, noise_row
from avem.train.data.rows import read_preferences
from avem.train.data.streams import ClipStreams
from avem.train.families.registry import FAMILIES, Family
from avem.train.model import scoring
from avem.train.packing.epoch import Packing, plan_epoch
from avem.train.packing.specs import ScoreSpec, SequenceBuilder
from avem.train.prefix.tree import build_tree
from avem.train.stages import preview_stage
from tests.train.families.toy_family import PATCH, SOUND, STILL, toy
from tests.train.metrics_kit import epoch_means
from tests.train.training_kit import (
    CLIPS,
    EMOTIONS,
    SILENT,
    instruction_rows,
    make_kit,
    negatives,
    preference_rows,
    write_negatives,
)

SIZES = [(2, 2, 3), (1, 1, 1), (3, 2, 2), (2, 1, 4), (1, 3, 3), (4, 1, 1), (2, 2, 2), (1, 2, 5)]
"""Slots, height and width of each clip; no two alike."""
SOUNDS = [5, 9, 1, 14, 6, 3, 11, 4]


def make_store(path, skip=(), weights="w1"):
    writer = StoreWriter.open(path)
    writer.add_clips(
        [ClipRecord(f"toy/{n:03d}", "toy", f"{n:03d}.mp4", f"{n:064x}", emotion=EMOTIONS[n % 3]) for n in range(CLIPS)],
        root=path.parent,
    )
    patches = {"grid": Companion((3,), "int32"), "glow": Companion((1, None, PATCH), "float16")}
    specs = {
        "video": StreamSpec("video", "toy", {"encoder": "toy", "w": weights}, (None, PATCH), 4, companions=patches),
        "frame": StreamSpec("frame", "still", {"encoder": "still"}, (STILL,), 4),
        "audio": StreamSpec(
            "audio", "toy", {"encoder": "toy"}, (None, SOUND), 4, companions={"seconds": Companion((), "float32")}
        ),
    }
    rng = np.random.default_rng(5)

    def normal(*shape):
        return torch.from_numpy(rng.normal(size=shape)).half()

    for slot, spec in specs.items():
        if slot in skip:
            continue
        stream = writer.stream(spec)
        for shard in stream.pending():
            rows = list(shard.rows)
            lengths = {"video": [int(np.prod(SIZES[r])) for r in rows], "audio": [SOUNDS[r] for r in rows]}.get(slot)
            features = (
                normal(len(rows), STILL)
                if lengths is None
                else [normal(n, PATCH if slot == "video" else SOUND) for n in lengths]
            )
            companions = {}
            if slot == "video":
                grids = torch.tensor([SIZES[r] for r in rows], dtype=torch.int32)
                companions = {"grid": grids, "glow": [normal(1, n, PATCH) for n in lengths]}
            elif slot == "audio":
                companions = {"seconds": torch.tensor([SOUNDS[r] / 4 for r in rows], dtype=torch.float32)}
            silent = RowDetails("failed", "no audio stream", has_audio=False)
            details = [silent if slot == "audio" and f"toy/{r:03d}" == SILENT else RowDetails() for r in rows]
            stream.write(shard, features, normal(len(rows), 4), details, companions=companions)
    writer.finish()
    for modality in ("audio", "video", "audiovisual"):
        write_negatives(path, "hard", modality, negatives(modality))
    return FeatureStore.open(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("door")


@pytest.fixture(scope="module")
def store(folder):
    return make_store(folder / "cache")


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    entry = Family("toy", "tests.train.families.toy_family", ("toy",))
    monkeypatch.setattr("avem.train.families.registry.FAMILIES", [*FAMILIES, entry])


@pytest.fixture(scope="module")
def model_path(folder):
    toy(torch.float32).save(folder / "model")
    write_json_lines(folder / "prefs.jsonl", [row.to_json() for row in preference_rows()])
    return folder / "model"


def settings(folder, out, **changes):
    return PreferenceConfig(
        **{
            "cache": folder / "cache",
            "model": str(folder / "model"),
            "prefs": folder / "prefs.jsonl",
            "out": folder / out,
            "device": "cpu",
            "precision": "float32",
            "learning_rate": 3e-3,
            "epochs": 6,
            "batch_size": 4,
            "accumulation": 1,
            "tokens_per_batch": 600,
            "trackers": "none",
            **changes,
        }
    )


ASKED = [
    (f"toy/{clip:03d}", question, answer)
    for clip in range(CLIPS)
    for question in ("Why?", "What is heard?")
    for answer in ("Joy.", "Just rain.")
]


def exact_norm(self, hidden):
    """Root-mean-square norm in the input's own format; transformers' rounds to float32 on the way."""
    return self.weight * hidden * torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)


def test_packed_scores_and_gradients_equal_one_by_one(store, monkeypatch):
    monkeypatch.setattr(LlamaRMSNorm, "forward", exact_norm)
    model = toy()
    weights = torch.linspace(-1, 1, len(ASKED), dtype=torch.float64)
    found = []
    for share in (True, False):
        scores = score_answers(model, store, ASKED, share_prefixes=share)
        parts = [p for p in model.parameters() if p.requires_grad]
        found.append((scores, torch.autograd.grad((scores * weights).sum(), parts)))
    (packed, own), (single, other) = found
    assert packed.dtype == torch.float64
    torch.testing.assert_close(packed, single, atol=1e-9, rtol=0)
    for mine, theirs in zip(own, other, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-9, rtol=1e-9)
    assert packed.unique().numel() == len(ASKED)


def test_scores_equal_a_forward_pass_written_out(store):
    """One clip, its embeddings and ids put together by hand."""
    model, row = toy(), 0
    (slots, height, width), heard = SIZES[row], SOUNDS[row]
    patches, grid = store.stream("video/toy").rows([row])[0], slots * height * width
    glow, still = store.stream("video/toy").companion("glow", [row])[0], store.stream("frame").rows([row])[0]
    sound = store.stream("audio").rows([row])[0]
    assert len(patches) == grid
    table, tokenizer = model.language_model.get_input_embeddings(), model.tokenizer

    def text(words, start=()):
        return [*start, *tokenizer(words, add_special_tokens=False).input_ids]

    before, after = text("clip ", [tokenizer.bos_token_id]), text(" ask: Why?\n")
    answer = [*text("Joy."), tokenizer.eos_token_id]
    seen = model.patches(patches.double()) + model.glow(glow.double())[0]
    cut = heard // 2
    parts = [seen[:6], model.sound(sound[:cut].double()), seen[6:], model.sound(sound[cut:].double())]
    media = torch.cat([*parts, model.still(still.double())[None]])
    embedded = torch.cat([table(torch.tensor(before)), media, table(torch.tensor([*after, *answer]))])
    at, ids = len(before), [[float(n)] * 3 for n in range(len(before))]
    for slot, part in enumerate((range(cut), range(cut, heard))):
        ids += [[at + 2.5 * slot, at + h, at + w] for h in range(height) for w in range(width)]
        ids += [[at + float(step)] * 3 for step in part]
    last = max(max(one) for one in ids) + 1
    ids += [[last + n] * 3 for n in range(1 + len(after) + len(answer))]
    places = torch.tensor(ids, dtype=torch.float64) @ torch.tensor([1.0, 0.25, 0.0625], dtype=torch.float64)
    mask = torch.ones(1, len(ids), dtype=torch.int64)
    states = model.language_model.model(
        inputs_embeds=embedded[None], position_ids=places[None], attention_mask=mask
    ).last_hidden_state
    logprobs = model.language_model.lm_head(states)[0].log_softmax(-1)
    start = len(ids) - len(answer)
    wanted = sum(logprobs[start - 1 + n, token] for n, token in enumerate(answer))
    found = score_answers(model, store, [("toy/000", "Why?", "Joy.")])
    torch.testing.assert_close(found[0], wanted, atol=1e-9, rtol=0)


def test_counts_of_a_plan_are_those_of_the_tree(store, folder, model_path, monkeypatch):
    model = toy()
    builder = SequenceBuilder(model, store)
    examples = preference_examples(read_preferences(folder / "prefs.jsonl"), store, builder, settings(folder, "unused"))
    lengths = {len(builder.ids(ScoreSpec("Q", "A", row, row))[0]) for row in range(CLIPS - 1)}
    assert len(lengths) > 1
    (step,) = plan_epoch(examples[:3], builder, Packing("grouped", 8, 100_000), seed=0)
    specs = [spec for example in examples[:3] for spec in example.specs]
    media = ClipFeatures(builder.streams, specs, torch.device("cpu"), 10).media(specs)
    sequences = [builder.sequence(spec, media) for spec in specs]
    trees = []
    monkeypatch.setattr(scoring, "build_tree", lambda *given: trees.append(build_tree(*given)) or trees[-1])
    model.response_logprobs(sequences)
    plain = sum(len(model.embed(sequence)) for sequence in sequences)
    assert trees[0].positions <= step.tokens < plain
    assert sum(builder.length(spec) for spec in specs) == plain


@pytest.mark.parametrize("modality", list(Modality))
def test_a_question_replaces_all_streams_of_its_side(store, folder, model_path, modality):
    builder = SequenceBuilder(toy(), store)
    rows = [row for row in read_preferences(folder / "prefs.jsonl") if row.modality == modality]
    (example, *_) = preference_examples(rows, store, builder, settings(folder, "unused"))
    own, rejected = example.scores["w"], example.scores["w_given_l"]
    media = ClipFeatures(builder.streams, [own, rejected], torch.device("cpu"), 10).media([own, rejected])
    sides = {"video": (own.video, rejected.video), "audio": (own.audio, rejected.audio)}
    for side, (mine, other) in sides.items():
        held = getattr(media, side)
        for name in builder.streams.names(side):
            left, right = held[mine][name].features, held[other][name].features
            alike = left.shape == right.shape and torch.equal(left, right)
            assert alike == (side not in modality.streams), name


def test_noise_reaches_every_stream_and_ragged_companions(store):
    streams = ClipStreams.of(toy(), store)
    spec = ScoreSpec("Q", "A", noise_row(2), noise_row(2))
    features = ClipFeatures(streams, [spec], torch.device("cpu"), 10, noise=FeatureNoise("diffused", 0))
    (noisy,), (clean,) = features.media([spec]).video.values(), streams.read("video", [2])
    for name in ("video/toy", "frame/still"):
        assert noisy[name].features.shape == clean[name].features.shape
        assert not torch.equal(noisy[name].features, clean[name].features)
    assert torch.equal(noisy["video/toy"].companions["grid"], clean["video/toy"].companions["grid"])
    assert not torch.equal(noisy["video/toy"].companions["glow"], clean["video/toy"].companions["glow"])


@pytest.mark.parametrize(("keep_features_mb", "negatives_of"), [(0, "hard"), (100, "diffused")])
def test_a_run_trains_resumes_its_scores_and_loads(store, folder, model_path, keep_features_mb, negatives_of):
    config = settings(folder, f"run-{negatives_of}", keep_features_mb=keep_features_mb, negatives=negatives_of)
    run = train_preferences(config)
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert metrics[-1]["loss"] < 0.8 * metrics[0]["loss"]
    base, tuned = load_model(model_path, dtype=torch.float64), load_model(run, dtype=torch.float64)
    assert (tuned.family, tuned.was_trained) == ("toy", True)
    assert tuned.digests.keys() == {"video/toy", "frame/still", "audio/toy"}
    scores = [score_answers(model, store, ASKED[:4]) for model in (base, tuned)]
    assert not torch.allclose(*scores, atol=1e-3)
    again = score_answers(tuned, store, ASKED[:4], share_prefixes=False)
    torch.testing.assert_close(scores[1], again, atol=1e-9, rtol=0)


def test_a_dry_run_reads_no_weights_and_counts_ragged_rows(store, folder, model_path):
    summary = preview_stage(settings(folder, "never"))
    assert summary.rows == len(preference_rows()) * 6
    assert summary.tokens < summary.plain_tokens
    held = summary.memory.features
    sizes = [2 * (2 * PATCH * int(np.prod(size)) + STILL + 3) for size in SIZES]
    sizes += [2 * (SOUND * sound + 1) for sound in SOUNDS[: CLIPS - 1]]
    assert held == sum(sizes)
    assert not (folder / "never").exists()


def test_bench_and_probes_read_the_family(store):
    model = toy()
    predictor = FeaturePredictor(model, store, "letters", 4)
    questions = [
        Question(f"q{n}", f"toy/{n:03d}", "reasoning_basic_audio", "Which?", ("(A) x", "(B) y"), "A") for n in range(4)
    ]
    requests = [predictor.request(question, "likelihood", n) for n, question in enumerate(questions)]
    together = predictor.predict_batch(requests)
    for request in requests:
        alone = predictor.predict_batch([request])[request.key].logprobs
        assert together[request.key].logprobs == pytest.approx(alone, abs=1e-9)
    assert len({answer.logprobs for answer in together.values()}) == 4
    result = attention_probe(predictor, questions, {q.id: n for n, q in enumerate(questions)}, resamples=0)
    for number, item in enumerate(result.items):
        assert item.video_tokens == int(np.prod(SIZES[number])) + 1
        assert item.audio_tokens == SOUNDS[number]


def test_the_swap_replaces_the_whole_other_side(store, tmp_path):
    predictor = FeaturePredictor(toy(), store, "cloze", 1)
    question = Question("q", "toy/001", "reasoning_basic_audio", "Which?", ("(A) x", "(B) yes"), "B")
    with AnswerLog(tmp_path / "swap.jsonl") as log:
        (item,) = swap_probe(predictor, [question], {"q": 1}, log, resamples=0).items
    other = store.rows([item.adversary])[0]
    streams, model = ClipStreams.of(predictor.model, store), predictor.model
    audio = streams.read("audio", [1])[0]
    for value, row in ((item.logprob, 1), (item.swapped, other)):
        made = model.sequence("Which?", "yes", streams.read("video", [row])[0], audio)
        begun = replace(made, ids=made.ids[:-1])  # without the end of the sequence
        assert value == pytest.approx(model.response_logprobs([begun], share_prefixes=False).item(), abs=1e-9)


def test_supervised_training_takes_the_family(store, folder, model_path):
    rows = [row for row in instruction_rows() if row.modality == Modality.VISUAL]
    write_json_lines(folder / "rows.jsonl", [row.to_json() for row in rows])
    common, known = settings(folder, "sft", streams="video").to_json(), fields(SupervisedConfig)
    given = {field.name: common[field.name] for field in known if field.name in common}
    more = {"data": folder / "rows.jsonl", "tune": "none", "train_projectors": True, "pairing": "grouped"}
    run = train_supervised(SupervisedConfig(**{**given, **more}))
    losses = epoch_means(run, "loss", given["epochs"])
    assert losses[-1] < losses[0]
    before, after = load_model(model_path).state_dict(), load_model(run).state_dict()
    changed = {name.partition(".")[0] for name in after if not torch.equal(before[name], after[name])}
    assert changed == {"patches", "still", "glow"}  # the video side's projectors and nothing else


def test_the_known_families_score_through_the_same_door(tmp_path):
    kit = make_kit(tmp_path)
    model, known = load_model(kit.model, dtype=torch.float64), FeatureStore.open(kit.store)
    assert model.family == "generic"
    answers = [("toy/000", "Why?", "Joy."), (SILENT, "Why?", "Joy."), ("toy/000", "Why?", "Joy.")]
    made = [
        model.sequence("Why?", "Joy.", known.video([row])[0], known.audio([row])[0] if row == 0 else None)
        for row in (0, CLIPS - 1, 0)
    ]
    wanted = model.response_logprobs(made, share_prefixes=False)
    torch.testing.assert_close(score_answers(model, known, answers), wanted, atol=1e-9, rtol=0)


def test_a_model_finds_its_stream_among_others_of_the_slot(store, folder, model_path, tmp_path):
    """A store for two families: the toy takes its own ragged video, and a fixed one beside it changes nothing."""
    both = make_store(tmp_path / "both")
    writer = StoreWriter.open(tmp_path / "both")
    stream = writer.stream(StreamSpec("video", "other", {"encoder": "other"}, (4, 3, 6), 4))
    for shard in stream.pending():
        count = len(shard.rows)
        stream.write(shard, torch.ones(count, 4, 3, 6), torch.ones(count, 4), [RowDetails()] * count)
    writer.finish()
    both = FeatureStore.open(tmp_path / "both")
    assert both.streams == ("video/toy", "frame/still", "audio/toy", "video/other")
    model = toy()
    torch.testing.assert_close(score_answers(model, both, ASKED[:3]), score_answers(model, store, ASKED[:3]))
    assert ClipStreams(both).fingerprints().keys() == {"video"}  # of a family that reads fixed rows alone


def test_generation_in_batches_equals_one_by_one_and_the_forward_pass(store):
    model = toy()
    streams = ClipStreams.of(model, store)
    media = [(streams.read("video", [row])[0], streams.read("audio", [row])[0]) for row in (0, 3, 6)]
    prompts = [model.prompt(question, *pair) for pair in media for question in ("Why?", "What is heard here?")]
    together = model.generate(prompts, 6)
    assert together == [model.generate([prompt], 6)[0] for prompt in prompts]
    first = [model.next_logits(prompt).argmax().item() for prompt in prompts]
    shown = [model.tokenizer.decode([token], skip_special_tokens=True).strip() for token in first]
    assert all(reply.startswith(start) for reply, start in zip(together, shown, strict=True))


def test_a_prompt_takes_streams_by_name(store):
    model, streams = toy(), ClipStreams.of(toy(), store)
    video, audio = streams.read("video", [2])[0], streams.read("audio", [2])[0]
    by_side = model.sequence("Why?", "Joy.", video, audio, task="say")
    by_name = model.sequence("Why?", "Joy.", streams={**video, **audio}, task="say")
    assert by_side.ids.tolist() == by_name.ids.tolist()
    torch.testing.assert_close(*[model.response_logprobs([one]) for one in (by_side, by_name)])
    with pytest.raises(PromptError, match="does not read face/mae"):
        model.sequence("Why?", "Joy.", streams={"face/mae": torch.zeros(3)})
    with pytest.raises(PromptError, match="give its streams by name"):
        model.sequence("Why?", "Joy.", torch.zeros(4, PATCH))


def test_missing_and_ambiguous_streams_are_one_sentence(folder):
    lacking = make_store(folder / "lacking", skip=("frame",))
    with pytest.raises(FingerprintError, match=r"no frame/still features .* `avem extract CLIPS --for .* --cache .*`"):
        SequenceBuilder(toy(), lacking)
    assert SequenceBuilder(toy(), lacking, "audio").takes == (False, True)
    needs = replace(toy().streams[0], expect={"encoder": "toy", "w": "w2"})
    with pytest.raises(FingerprintError, match="was made by another encoder or with other weights"):
        ClipStreams(lacking, [needs], model="M")


def test_an_unknown_clip_and_an_unknown_family_are_named(store, tmp_path):
    with pytest.raises(UnknownClipError, match="toy/099"):
        score_answers(toy(), store, [("toy/099", "Why?", "Joy.")])
    assert score_answers(toy(), store, []).shape == (0,)
    (tmp_path / "config.json").write_text('{"model_type": "nothing"}')
    with pytest.raises(CheckpointError, match="neither an AVERE checkpoint"):
        load_model(tmp_path)
