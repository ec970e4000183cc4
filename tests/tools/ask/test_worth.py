"""What an answer is worth: each sentence is there where its fact is known, and not where it is not."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace

import pytest
import torch

from avem.errors import FingerprintError, MissingFileError
from avem.extract.encoders.random_weights import make_random_whisper
from avem.files import write_json_lines
from avem.records import InstructionRow, Modality
from avem.tools.ask.emotions import EmotionQuestion
from avem.tools.ask.features import FeatureSession
from avem.tools.ask.inputs import AskedClip
from avem.tools.ask.results import LABELS, ClipAnswer, Condition, Emotions, Known, PartAnswer, QuestionAnswer, Reading
from avem.tools.ask.settings import AskOptions
from avem.tools.ask.text import WORTH, clip_lines
from avem.tools.ask.worth.history import History, Learnt, Stage
from avem.tools.ask.worth.known import unknown_words, words_that_count
from avem.tools.ask.worth.sentences import EVEN, worth
from avem.tools.demo.models import make_tokenizer
from avem.train import AudiovisualLM, SupervisedConfig, train_supervised
from tests.tools.ask.conftest import WIDTH, digest
from tests.train.model_kit import byte_tokenizer, tiny_config, tiny_language_model

ASKED = "What does the face show?"


def answered(*said, shares=None, known=None, named=None, questions=("What?",)):
    """A clip with answers, bars of certain shares, and what is known."""
    answers = tuple(
        QuestionAnswer(question, tuple(PartAnswer({Condition.FULL: Reading(text, -1.0)}) for text in said))
        for question in questions
    )
    emotions = None
    if shares is not None:
        rest = (1 - shares) / (len(LABELS) - 1)
        bars = tuple(math.log(shares if label == "anger" else rest) for label in LABELS)
        emotions = Emotions(ASKED, {Condition.FULL: (bars,)})
    if named is not None:
        emotions = Emotions(ASKED, named={Condition.FULL: (named,)})
    return ClipAnswer("a.mp4", answers=answers, emotions=emotions, known=known or Known())


def test_nothing_is_said_where_nothing_is_known():
    assert worth(answered("The brows show anger.", shares=0.9)) == ()
    assert worth(answered("Joy.")) == ()
    assert worth(ClipAnswer("a.mp4", failed="It is broken.", known=Known("anger", "cache"))) == ()
    assert WORTH not in clip_lines(answered("Joy."))


def test_an_answer_that_contradicts_the_bars():
    (said,) = worth(answered("The hands show happiness.", shares=0.9))
    assert said.startswith("The answer names happiness, and asked for the feeling alone the model says anger")
    assert "contradicts" not in " ".join(worth(answered("The hands show happiness.", shares=EVEN / 7 - 0.001)))
    assert "contradicts" not in " ".join(worth(answered("Joy or anger.", shares=0.9)))


@pytest.mark.parametrize(
    ("question", "sound", "picture", "said"),
    [
        ("What in the sound shows it?", -1.0, -5.0, "about the sound, and the answer rests mostly on the picture."),
        ("What in the face shows it?", -5.0, -1.0, "about the picture, and the answer rests mostly on the sound."),
        ("What in the sound shows it?", -5.0, -1.0, None),
        ("What in the sound shows it?", -1.0, -1.5, None),
        ("What in the face and the voice shows it?", -1.0, -5.0, None),
        ("What shows it?", -1.0, -5.0, None),
    ],
)
def test_the_side_that_an_answer_rests_on(question, sound, picture, said):
    full, without = Reading("It.", -1.0), {Condition.NO_SOUND: sound, Condition.NO_PICTURE: picture}
    readings = {Condition.FULL: full, **{each: Reading("It.", full.logprob + by) for each, by in without.items()}}
    found = worth(ClipAnswer("a.mp4", answers=(QuestionAnswer(question, (PartAnswer(readings),)),)))
    assert [one.removeprefix("The question is ") for one in found] == ([] if said is None else [said])


@pytest.mark.parametrize(
    ("said", "shares", "named", "expected"),
    [
        (["The brows show anger."], 0.9, None, "; the answer names the same and the longest bar is the same."),
        (["She is sad."], 0.9, None, "; the answer names sadness and the longest bar is the same."),
        (["She is sad.", "Then angry."], None, None, "; the answers name sadness and anger."),
        (["The."], None, "fear", "; asked for the feeling, the model names fear."),
        (["The."], None, "", "."),
    ],
)
def test_the_label_stands_beside_what_the_model_says(said, shares, named, expected):
    found = worth(answered(*said, shares=shares, named=named, known=Known("anger", "cache")))
    assert found == (f"The clip's label in cache is anger{expected}",)


def test_bars_are_nearly_even_by_their_longest_share():
    even = 1 / len(LABELS)
    (said,) = worth(answered("x", shares=EVEN * even - 0.001))
    assert said.startswith("The bars are nearly even: the longest, anger, has 21 %, and an even split gives each 14 %")
    assert worth(answered("x", shares=EVEN * even + 0.001)) == ()


def test_bars_in_words_that_the_model_lacks_mean_little():
    known = Known(bars_asked=False, bars_unknown=("sad", "angry"))
    (said,) = worth(answered("x", shares=0.9, known=known))
    assert "their question is none of those that the model was trained on" in said
    assert 'no word for "sad" and "angry"' in said
    assert "nearly even" not in said
    (said,) = worth(answered("x", shares=0.9, known=Known(unknown={ASKED: ("face",)}, bars_asked=None)))
    assert 'no word for "face" in their question' in said
    assert worth(answered("x", shares=0.9, known=Known(bars_asked=True))) == ()
    assert worth(answered("x", known=known)) == (), "there are no bars"


def test_words_of_question_and_answers_that_the_model_lacks_are_one_clause():
    known = Known(unknown={ASKED: ("face",)}, bars_unknown=("fear", "afraid"))
    (said,) = worth(answered("x", shares=0.9, known=known))
    assert 'the model has no word for "face" in their question and for "fear" and "afraid" in their answers.' in said
    assert said.count("the model has no word") == 1


def test_words_count_where_an_emotion_has_no_other():
    words = make_tokenizer(["happiness sadness anger fear disgust surprise neutral The person feels."])
    assert words_that_count(words, EmotionQuestion.of(AskOptions(model="m"))) == ()
    words = make_tokenizer(["happiness anger disgust surprise neutral fearful The person feels."])
    assert words_that_count(words, EmotionQuestion.of(AskOptions(model="m"))) == ("sadness", "sad")
    own = EmotionQuestion.of(AskOptions(model="m", emotion_question="?", emotion_answer="The person feels {}."))
    assert words_that_count(words, own) == ("sadness", "fear")


def test_a_clip_of_several_runs_is_named_once_for_each_name(world):
    rows = tuple(InstructionRow("r", f"held/happy/{number}", Modality.AUDIO, "t", ASKED, "Joy.") for number in range(2))
    stages = [Stage(rows, world.cache, run=run, file=file) for run, file in (("runs/b", "p"), ("runs/a", "i"))]
    found = History(tuple(stages), complete=True).learnt_from(sha256(world, "held/happy/1"))
    assert found == Learnt(True, "as held/happy/1, in p of runs/b and i of runs/a")


def test_unknown_words_of_a_question_are_named_with_a_question_it_knows():
    known = Known(unknown={"What?": tuple("abcdefghij")}, usual=ASKED)
    (said,) = worth(answered("x", known=known))
    assert '"h" and 2 more in the question:' in said
    assert said.endswith(f'It was most often trained on "{ASKED}"')
    both = worth(answered("x", known=known, questions=("What?", "Why?")))
    assert both == (said.replace("in the question:", 'in the question "What?":'),)


def test_a_word_tokenizer_says_which_words_it_lacks_and_a_byte_tokenizer_knows_all():
    words = make_tokenizer(["What does the face show?"])
    assert unknown_words(words, "Why does the face weep, weep?") == ("Why", "weep")
    assert unknown_words(words, "What does the face show!") == (), "marks are no words"
    assert unknown_words(byte_tokenizer(), "Why?") == ()
    words.unk_token = None
    assert unknown_words(words, "Why?") == ()


@pytest.fixture(scope="module")
def run(world, tmp_path_factory):
    """A model of few words and a run on it that saw the clip 0 of the store, started in the folder that holds both."""
    root = tmp_path_factory.mktemp("trained")
    shutil.copytree(world.cache, root / "cache")
    row = InstructionRow("r", "held/happy/0", Modality.AUDIOVISUAL, "t", ASKED, "It shows anger.")
    write_json_lines(root / "rows.jsonl", [row.to_json()])
    config = tiny_config(
        video_hidden_size=WIDTH, audio_hidden_size=WIDTH, video_projector="linear", audio_projector="stack-mlp"
    )
    model = AudiovisualLM.create(
        tiny_language_model().to(torch.float32), make_tokenizer([ASKED, "It shows anger."]), config, seed=1
    )
    model.use_prompt_format("chat")
    store = world.store()
    model.record_features({kind: digest(store, kind) for kind in ("video", "audio")})
    model.save(root / "untrained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        settings = {"cache": "cache", "model": "untrained", "data": "rows.jsonl", "out": "runs/base", "tune": "full"}
        steps = {"epochs": 1, "batch_size": 1, "accumulation": 1, "learning_rate": 1e-3}
        train_supervised(SupervisedConfig(**settings, **steps, device="cpu", trackers="none"))
    return root


def sha256(world, name):
    store = world.store()
    return store.clip(int(store.rows([name])[0]))["sha256"]


def test_the_history_of_a_run_is_found_from_elsewhere(world, run):
    """Its settings name paths that were relative to where it was started."""
    history = History.of(str(run / "runs" / "base"))
    assert history.known
    assert history.questions == {ASKED: 1}
    assert history.learnt_from(sha256(world, "held/happy/0")) == Learnt(
        True, f"as held/happy/0, in {run / 'rows.jsonl'} of {run / 'runs' / 'base'}"
    )
    assert history.learnt_from(sha256(world, "held/happy/1")) == Learnt(False)
    assert History.of(str(run / "runs" / "base" / "final")).learnt_from(sha256(world, "held/happy/0")).trained


@pytest.mark.parametrize("loss", ["rows", "changed rows", "store", "record", "held out"])
def test_what_cannot_be_checked_is_not_known(world, run, tmp_path, monkeypatch, loss):
    monkeypatch.chdir(tmp_path)
    moved = shutil.copytree(run, tmp_path / "moved")
    if loss == "store":
        shutil.rmtree(moved / "cache")
    elif loss == "rows":
        (moved / "rows.jsonl").unlink()
    elif loss == "record":
        (moved / "runs" / "base" / "config.json").unlink()
    elif loss == "held out":
        config = moved / "runs" / "base" / "final" / "config.json"
        settings = json.loads(config.read_text())
        settings["provenance"]["training"]["holdout"] = 0.1
        config.write_text(json.dumps(settings))
    else:
        (moved / "rows.jsonl").write_text((moved / "rows.jsonl").read_text().replace("anger", "joy"))
    history = History.of(str(moved / "runs" / "base"))
    learnt = history.learnt_from(sha256(world, "held/happy/0"))
    rows, base = ("" if loss == "rows" else "moved/") + "rows.jsonl", "moved/runs/base"
    assert learnt.trained is None
    assert learnt.detail.startswith(
        {
            "rows": f"{rows}, which {base} was trained on, is gone",
            "changed rows": f"{rows} has changed since {base} was trained on it",
            "store": f"the store cache, which names the files of the clips in {rows}, is gone",
            "record": f"the record of {base}, which tells whether {rows} is what it was trained on, is gone",
            "held out": f"{base} was trained on a part of {rows} alone",
        }[loss]
    )
    assert history.learnt_from(sha256(world, "held/happy/1")) == learnt
    (said,) = worth(answered("x", known=Known(trained=learnt.trained, training=learnt.detail)))
    assert said == f"Whether the model was trained on this clip is not known: {learnt.detail}."
    assert history.known == (loss == "store")


def test_a_model_that_never_was_a_run_has_no_history(world, tmp_path):
    assert not History.of(str(world.model)).known
    assert History.of("someone/on-the-hub") == History()
    assert History.of(str(tmp_path / "nothing")) == History()


def test_a_session_knows_label_training_and_words(world, run):
    options = AskOptions(model=str(run / "runs" / "base"), device="cpu", max_new_tokens=2, cache=run / "cache")
    session = FeatureSession(options)
    (found,) = [session.ask(AskedClip("held/happy/0"), ["Why is she happy?"])]
    assert (found.known.label, found.known.labelled_in) == ("happiness", str(run / "cache"))
    assert found.known.trained is True
    assert found.known.unknown["Why is she happy?"] == ("Why", "is", "she", "happy")
    assert found.known.bars_asked is False
    assert "fear" in found.known.bars_unknown
    record = found.to_json()["known"]
    assert record["trained_on"] is True
    assert record["label"] == "happiness"
    lines = clip_lines(found)
    assert record["training"] in " ".join(worth(found))
    assert any("trained on this clip" in line for line in lines)
    assert "angry" not in found.known.bars_unknown, "it knows anger"
    assert max(len(line) for line in lines if "/" not in line) <= 80, "paths are not broken"
    new = session.known(AskedClip("held/happy/1"), [ASKED])
    assert (new.trained, new.unknown.get(ASKED)) == (False, None)
    own = FeatureSession(replace(options, emotion_question=ASKED, emotion_answer="It shows {}."), session.model)
    assert own.known(AskedClip("held/happy/0"), [ASKED]).bars_asked is True
    assert EmotionQuestion.of(own.options).question == ASKED


@pytest.mark.parametrize("store", ["of the training", "./cache"])
def test_without_a_store_the_one_that_holds_the_clip_is_found(world, run, tmp_path, monkeypatch, store):
    """A project without options: the encoders' default names are of the hub, which is not asked."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    place = shutil.copytree(run, tmp_path / "project")
    if store == "./cache":
        for each in ("rows.jsonl", "runs/base/config.json"):
            (place / each).unlink()
        (tmp_path / "other").mkdir()
        (place / "cache").rename(tmp_path / "other" / "cache")
    monkeypatch.chdir(place if store == "of the training" else tmp_path / "other")
    options = AskOptions(model=str(place / "runs" / "base"), device="cpu", max_new_tokens=2)
    session = FeatureSession(options)
    held, new = (AskedClip(path.name, path) for path in (world.held / "0.mp4", world.new / "a.mp4"))
    found = session.ask(held, [ASKED])
    assert found.source == "from cache"
    assert found.known.label == "happiness"
    assert "features" in session.content(held)
    with pytest.raises(MissingFileError, match="can't be used"):
        session.ask(new, [ASKED])
    own = FeatureSession(replace(options, **world.encoders), session.model)
    assert own.ask(held, [ASKED]).source == "encoded now", "encoders were named"


def test_missing_or_wrong_encoders_are_answered_with_what_is_there(world, run, tmp_path, monkeypatch):
    """First the store that holds the clip, then the encoders that made it; without either, the hub's own error."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(run)
    options = AskOptions(model="runs/base", device="cpu", max_new_tokens=2, video_encoder="nobody/video")
    session = FeatureSession(options)
    held, new = (AskedClip(path.name, path) for path in (world.held / "0.mp4", world.new / "a.mp4"))
    with pytest.raises(
        MissingFileError, match=r"nobody/video can't be used.*; give --cache cache, which holds"
    ) as said:
        session.ask(held, [ASKED])
    assert "--video-encoder" not in str(said.value)
    with pytest.raises(MissingFileError, match="hf download nobody/video"):
        session.ask(new, [ASKED])
    other = make_random_whisper(tmp_path / "other", width=WIDTH, layers=1, heads=2, positions=50, seed=5)
    wrong = replace(options, video_encoder=str(world.root / "video"), audio_encoder=str(other))
    with pytest.raises(FingerprintError, match=r"trained on.*\. Give --cache cache, which holds this clip"):
        FeatureSession(wrong, session.model).ask(held, [ASKED])
    moved = shutil.copytree(run, tmp_path / "moved")
    for name in ("video", "audio"):
        shutil.copytree(world.root / name, moved / "encoders" / name)
    monkeypatch.chdir(moved)
    with pytest.raises(MissingFileError) as said:
        FeatureSession(options, session.model).ask(new, [ASKED])
    assert "give --video-encoder encoders/video --audio-encoder encoders/audio, which the model" in str(said.value)
