"""Folders with one `.npy` per clip become a store."""

import os

import numpy as np
import pytest

from avem.cache import FeatureStore, store_info
from avem.cache.exchange.npy import import_npy, read_labels
from avem.cli import main
from avem.errors import DataError, MissingFileError, SettingError, StoreError
from tests.fuzz.command_kit import run


@pytest.fixture
def folders(tmp_path):
    """Utterance vectors of video (as Emotion-LLaMA has them) and steps of audio, for clips a, b and c."""
    rng = np.random.default_rng(0)
    kinds = {"video": tmp_path / "features/maeVideo_399_UTT", "audio": tmp_path / "features/HL FRA"}
    for kind, folder in kinds.items():
        folder.mkdir(parents=True)
        for name in "abc":
            np.save(folder / f"{name}.npy", rng.normal(size=(4, 6) if kind == "audio" else 5).astype(np.float32))
    return kinds


def test_a_folder_per_stream_with_labels(tmp_path, folders):
    (tmp_path / "list.txt").write_text("a 115 happy\nb 89 neutral\n\nc 3 worried\n")
    store = import_npy(folders, tmp_path / "cache", labels=tmp_path / "list.txt", dataset="mer")
    assert store.clips["clip_id"].to_pylist() == ["mer/a", "mer/b", "mer/c"]
    assert store.clips["emotion"].to_pylist() == ["happiness", "neutral", None]
    assert store.clips["emotions_raw"].to_pylist() == ["happy", "neutral", "worried"]
    assert store.spec("video").encoder == "maeVideo_399_UTT"
    assert store.spec("audio").encoder == "HL-FRA"
    for row, name in enumerate("abc"):
        video, audio = (np.load(folders[kind] / f"{name}.npy") for kind in ("video", "audio"))
        assert np.array_equal(store.video([row])[0].numpy(), video.astype(np.float16)[None, None])
        assert np.array_equal(store.audio([row])[0].numpy(), audio.astype(np.float16))
        mean = audio.mean(axis=0)
        np.testing.assert_allclose(store.pooled("audio")[row], mean / np.linalg.norm(mean), atol=1e-6)
    assert store.media_path(1) == folders["video"] / "b.npy"
    assert store.verify() == []


def test_a_second_stream_and_more_clips_can_follow(tmp_path, folders):
    import_npy({"audio": folders["audio"]}, tmp_path / "cache")
    np.save(folders["audio"] / "d.npy", np.ones((4, 6)))
    store = import_npy(folders, tmp_path / "cache")
    assert store.clips["clip_id"].to_pylist() == ["npy/a", "npy/b", "npy/c", "npy/d"]
    assert store.available("audio").tolist() == [True] * 4
    assert store.available("video").tolist() == [True] * 3 + [False]
    np.save(folders["audio"] / "a.npy", np.zeros((4, 6)))
    with pytest.raises(StoreError, match=r"npy/a .* another content"):
        import_npy({"audio": folders["audio"]}, tmp_path / "cache")


def test_files_that_can_not_be_kept_are_failed_clips(tmp_path, folders):
    np.save(folders["audio"] / "b.npy", np.zeros((9, 6)))
    (folders["audio"] / "c.npy").write_bytes(b"\x93NUMPY")
    np.save(folders["audio"] / "d.npy", np.full((4, 6), np.nan))
    np.save(folders["audio"] / "e.npy", np.array(["no", "number"]))
    np.save(folders["audio"] / "f.npy", np.array([{}], dtype=object))
    store = import_npy({"audio": folders["audio"]}, tmp_path / "cache")
    assert store.available("audio").tolist() == [True] + [False] * 5
    for status, said in zip(
        store.clips["audio_status"].to_pylist()[1:],
        [
            "shape (9, 6), not (4, 6)",
            "can't be read",
            "NaN",
            "no features",
            "can't be read",
        ],
        strict=True,
    ):
        assert said in status


def test_labels_of_both_forms_and_none(tmp_path):
    (tmp_path / "a.csv").write_text("split,clip_id,emotion\ntrain,x.mp4,anger\ntest,y,\n")
    assert read_labels(tmp_path / "a.csv") == {
        "x": {"emotion": "anger", "split": "train", "source": ""},
        "y": {"emotion": "", "split": "test", "source": ""},
    }
    (tmp_path / "b.txt").write_text("x 12\n")
    with pytest.raises(DataError, match="line 1"):
        read_labels(tmp_path / "b.txt")
    with pytest.raises(MissingFileError, match=r"no file .*nothing\.csv"):
        read_labels(tmp_path / "nothing.csv")


def test_refuses_folders_without_features(tmp_path):
    with pytest.raises(MissingFileError, match="no folder"):
        import_npy({"video": tmp_path / "nothing"}, tmp_path / "cache")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no \.npy files"):
        import_npy({"video": tmp_path / "empty"}, tmp_path / "cache")
    np.save(tmp_path / "empty/x.npy", np.zeros((1, 2, 3, 4)))
    with pytest.raises(DataError, match=r"None of the \.npy files"):
        import_npy({"video": tmp_path / "empty"}, tmp_path / "cache")
    with pytest.raises(SettingError, match="nothing to import"):
        import_npy({}, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_the_command(tmp_path, folders, monkeypatch, capsys):
    arguments = ["--cache", str(tmp_path / "cache"), "--audio-npy", str(folders["audio"]), "--dtype", "int8"]
    for given, status in ((arguments, 0), ([*arguments, "x.h5"], 2), (arguments[:2], 2)):
        monkeypatch.setattr("sys.argv", ["avem", "cache", "import", *given])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == status
    assert "3 clips are in" in capsys.readouterr().out
    assert FeatureStore.open(tmp_path / "cache").spec("audio").dtype == "int8"


def test_what_cannot_be_used_is_counted_and_can_be_mended(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "npy"
    folder.mkdir()
    np.save(folder / "a.npy", np.ones((3, 4), dtype=np.float32))
    (folder / "b.npy").write_text("not an array")
    os.mkfifo(folder / "c.npy")
    monkeypatch.chdir(tmp_path)
    arguments = ["cache", "import", "--video-npy", "npy", "--cache", "cache"]

    status, shown = run(arguments, monkeypatch, capsys)
    assert status == 3
    assert "2 .npy files can't be used" in shown
    info = store_info(FeatureStore.open("cache"))
    assert {failure.clip_id for failure in info.failures} == {"npy/b", "npy/c"}
    assert any("c.npy can't be read (is a FIFO, not a file)" in failure.reason for failure in info.failures)

    (folder / "c.npy").unlink()
    for name in "bc":
        np.save(folder / f"{name}.npy", np.full((3, 4), 2, dtype=np.float32))
    assert run(arguments, monkeypatch, capsys) == (0, "")
    assert FeatureStore.open("cache").available("video").all()


def test_failures_of_another_stream_are_not_counted(tmp_path, monkeypatch, capsys):
    for name in ("video", "audio"):
        (tmp_path / name).mkdir()
        for clip in "ab":
            np.save(tmp_path / name / f"{clip}.npy", np.ones((3, 4), dtype=np.float32))
    (tmp_path / "video" / "b.npy").write_text("not an array")
    monkeypatch.chdir(tmp_path)
    assert run(["cache", "import", "--video-npy", "video", "--cache", "cache"], monkeypatch, capsys)[0] == 3
    assert run(["cache", "import", "--audio-npy", "audio", "--cache", "cache"], monkeypatch, capsys) == (0, "")


def test_vectors_saved_as_sequences_of_one_are_vectors(tmp_path):
    """Some tools save a clip's vector as [1, C]; a folder of nothing else is no stream of sequences."""
    values = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    for number, name in enumerate("abc"):
        for folder, array in (("face", values[number] if name == "b" else values[number][None]), ("long", values)):
            (tmp_path / folder).mkdir(exist_ok=True)
            np.save(tmp_path / folder / f"{name}.npy", array)
    store = import_npy({"face/mae": tmp_path / "face", "motion/long": tmp_path / "long"}, tmp_path / "cache")
    assert store.stream("face/mae").spec.row_shape == (5,)
    assert np.array_equal(store.stream("face/mae").rows([0, 1, 2]).numpy(), values.astype(np.float16))
    assert store.stream("motion/long").spec.row_shape == (None, 5)


def test_streams_of_any_name_take_vectors_and_sequences(tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(1)
    steps = {"a": 3, "b": 50, "c": 1}
    for name, count in steps.items():
        for folder, values in (("mae", rng.normal(size=6)), ("steps", rng.normal(size=(count, 4)))):
            (tmp_path / folder).mkdir(exist_ok=True)
            np.save(tmp_path / folder / f"{name}.npy", values.astype(np.float16))
    np.save(tmp_path / "steps" / "d.npy", np.zeros((5, 7), dtype=np.float16))
    monkeypatch.chdir(tmp_path)
    command = ["cache", "import", "--cache", "cache", "--stream", "face/mae=mae", "--stream", "audio/steps=steps"]
    status, said = run(command, monkeypatch, capsys)
    assert status == 3
    assert "d.npy is of shape (5, 7), not [n, C] with C of 4" in said
    store = FeatureStore.open("cache")
    assert store.streams == ("face/mae", "audio/steps")
    assert (store.spec("face").row_shape, store.spec("audio").row_shape) == ((6,), (None, 4))
    for row, (name, count) in enumerate(steps.items()):
        assert np.array_equal(store.stream("face/mae").rows([row])[0].numpy(), np.load(f"mae/{name}.npy"))
        assert store.stream("audio/steps").rows([row])[0].shape == (count, 4)
        assert np.array_equal(store.stream("audio/steps").rows([row])[0].numpy(), np.load(f"steps/{name}.npy"))
    assert store.verify() == []


@pytest.mark.parametrize("value", ["face=mae", "face/mae", "face/mae=", "/mae=mae", "a/b/c=mae", "ledger/x=mae"])
def test_what_stream_does_not_take(tmp_path, monkeypatch, capsys, value):
    (tmp_path / "mae").mkdir()
    np.save(tmp_path / "mae" / "a.npy", np.ones(3, dtype=np.float32))
    monkeypatch.chdir(tmp_path)
    status, said = run(["cache", "import", "--cache", "cache", "--stream", value], monkeypatch, capsys)
    assert status == 2
    assert "Traceback" not in said
    assert "--stream takes SLOT/NAME=FOLDER" in said or "slot" in said
    assert not (tmp_path / "cache").exists()
