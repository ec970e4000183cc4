"""`avem extract` shows what was done and ends with the status that says so."""

from __future__ import annotations

import json
import shutil
import sys
import wave

import pytest
from typer.testing import CliRunner

from avem.cache import FeatureStore
from avem.cli import app, main
from tests.extract.long_kit import write_long


@pytest.fixture
def avem(monkeypatch, capsys, encoders):
    """Runs the command line; exit status, standard output and standard error."""

    def run(*arguments):
        options = [text for name, path in encoders.items() for text in (f"--{name.replace('_', '-')}", str(path))]
        monkeypatch.setattr(sys, "argv", ["avem", "extract", *map(str, arguments), "--workers", "1", *options])
        with pytest.raises(SystemExit) as end:
            main()
        shown = capsys.readouterr()
        return end.value.code or 0, shown.out, shown.err

    return run


def test_a_corpus_with_a_failing_clip_ends_with_status_3(tmp_path, make_clip, avem):
    make_clip(tmp_path / "d" / "anger" / "1.mp4")
    make_clip(tmp_path / "d" / "anger" / "2.mp4", sound=None)
    store = tmp_path / "store"
    status, out, _ = avem(tmp_path / "d", "--cache", store, "--dry-run")
    assert status == 0
    assert "2 video, 2 audio to extract" in out
    assert not store.exists()
    status, out, _ = avem(tmp_path / "d", "--cache", store, "--streams", "video")
    assert (status, FeatureStore.open(store).available("video").tolist()) == (0, [True, True])
    status, out, err = avem(tmp_path / "d", "--cache", store)
    assert status == 3
    assert "d/anger/2 (audio): 2.mp4 has no audio stream." in out
    assert "--retry-failed" in err
    assert str(store / "ledger" / "extract-runs.jsonl") in out


@pytest.mark.parametrize(("size", "status"), [("auto", 0), ("3", 0), ("many", 2), ("0", 2)])
def test_batch_sizes(tmp_path, make_clip, avem, size, status):
    make_clip(tmp_path / "d" / "anger" / "1.mp4")
    found, _, err = avem(tmp_path / "d", "--cache", tmp_path / "store", "--batch-size", size, "--device", "cpu")
    assert (found, "batch-size" in err or "neither a number nor auto" in err) == (status, status == 2)


def test_what_the_user_can_mend_is_one_sentence_and_status_2(tmp_path, make_clip, avem):
    status, out, err = avem(tmp_path / "nowhere")
    assert (status, out) == (2, "")
    assert err.startswith("avem: There is no file or folder")
    (tmp_path / "empty").mkdir()
    status, _, err = avem(tmp_path / "empty", "--cache", tmp_path / "none")
    assert status == 2
    assert "No dataset is recognised" in err
    make_clip(tmp_path / "d" / "anger" / "1.mp4")
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "precious").touch()
    status, _, err = avem(tmp_path / "d", "--cache", tmp_path / "store")
    assert status == 2
    assert "not a feature store made by avem" in err
    status, _, err = avem(tmp_path / "d", "--cache", tmp_path / "new", "--dtype", "float8")
    assert (status, "--dtype" in err) == (2, True)


def test_long_clips_are_counted_and_divided_on_request(tmp_path, avem):
    write_long(tmp_path / "d" / "anger" / "1.mov", 61)
    write_long(tmp_path / "d" / "fear" / "2.mov", 1, silent=True)
    common = (tmp_path / "d", "--cache", tmp_path / "store", "--streams", "audio")
    status, out, _ = avem(*common, "--dry-run")
    assert (status, "1 clip is longer than 30 s (d/anger/1)" in out) == (0, True)
    status, out, _ = avem(*common, "--long", "windows")
    assert (status, "3 clips are windows of a longer clip." in out) == (0, True)
    assert "1 clip is silent, every sample is zero (d/fear/2)" in out
    status, _, err = avem(*common, "--long", "half")
    assert (status, "'half' is not one of 'cut', 'windows'" in err) == (2, True)


def test_the_summary_is_printed_in_lines_and_counts_clips_once(tmp_path, make_clip, avem):
    make_clip(tmp_path / "d" / "anger" / "1.mp4")
    for name in ("2", "3"):
        (tmp_path / "d" / "anger" / f"{name}.mp4").write_bytes(b"no clip")
    make_clip(tmp_path / "d" / "anger" / "4.mp4", sound=None)
    status, out, err = avem(tmp_path / "d", "--cache", tmp_path / "store")
    assert status == 3
    assert "\\n" not in out
    first, *_, last = out.splitlines()
    assert first.endswith("2 video, 1 audio; 3 clips failed (2 video, 3 audio).")
    assert last.startswith("  d/anger/4 (audio): ")
    assert "  d/anger/2 (video, audio): " in out
    assert err.splitlines()[-1].startswith("avem: 3 clips failed for the reasons above;")


def test_a_run_a_dry_run_and_info_count_the_same_failures(tmp_path, make_clip, avem):
    folder, store = tmp_path / "d" / "anger", tmp_path / "store"
    make_clip(folder / "ok.mp4")
    shutil.copy(folder / "ok.mp4", folder / "copy.mp4")
    make_clip(folder / "no sound.mp4", sound=None)
    with wave.open(str(folder / "no picture.wav"), "wb") as sound:
        sound.setparams((1, 2, 16000, 0, "NONE", ""))
        sound.writeframes(bytes(range(250)) * 128)
    (folder / "broken.mp4").write_bytes(b"no clip")
    shutil.copy(folder / "broken.mp4", folder / "broken again.mp4")
    names = ["ok.mp4", "copy.mp4", "no sound.mp4", "no picture.wav", "broken.mp4", "broken again.mp4", "gone.mp4"]
    rows = [f"anger/{name},anger" for name in names]
    (tmp_path / "d" / "clips.csv").write_text("\n".join(["path,emotion", *rows]))
    given = (tmp_path / "d" / "clips.csv", "--cache", store)
    status, out, err = avem(*given, "--dry-run")
    assert (status, "; 1 file can't be read." in out, "clips failed" in out + err) == (3, True, False), out
    counts = "4 clips failed (3 video, 3 audio)"
    said = []
    for options in ((), (), ("--dry-run",)):  # now, later, and asked only
        status, out, err = avem(*given, *options)
        assert status == 3
        assert out.startswith("6 clips in ")
        assert f"; {counts}; 1 file can't be read." in out.splitlines()[0], options
        assert (
            "avem: 4 clips failed and 1 file can't be read for the reasons above; the same command with --retry-failed "
            "retries the clips that failed, and reads the rest once it is readable." in err
        )
        said.append({line for line in out.splitlines() if line.startswith("  ") and "(file)" not in line})
    done = CliRunner().invoke(app, ["cache", "info", "--cache", str(store)])
    lines = done.output.splitlines()
    assert lines[0].split(": ")[1].startswith("6 clips ")
    at = lines.index(f"{counts}:")
    assert [set(lines[at + 1 :])] * 3 == said
    assert len(said[0]) == 4
    listed = CliRunner().invoke(app, ["cache", "list", "--cache", str(store), "--status", "failed"])
    assert "4 of 6 clips." in listed.output
    (run,) = map(json.loads, (store / "ledger" / "extract-runs.jsonl").read_text().splitlines())
    assert run["failed"] == 4
    status, out, _ = avem(*given, "--dry-run", "--retry-failed")
    assert "3 video, 3 audio to extract" in out
    assert "failed" not in out  # they are to be tried again


def test_a_run_a_dry_run_and_info_count_the_same_clips_without_a_label(tmp_path, make_clip, avem):
    folder, store = tmp_path / "d", tmp_path / "store"
    for name in "abc":
        make_clip(folder / f"{name}.mp4")
    rows = ["a.mp4,anger", "b.mp4,", "c.mp4,", "gone.mp4,", "never there.mp4,"]
    (folder / "clips.csv").write_text("\n".join(["path,emotion", *rows]))
    given = (folder, "--cache", store)
    said = [avem(*given, *options)[1] for options in (("--dry-run",), (), ())]
    (folder / "c.mp4").unlink()  # the store has it
    said += [avem(*given, *options)[1] for options in (("--dry-run",), ())]
    said.append(CliRunner().invoke(app, ["cache", "info", "--cache", str(store)]).output)
    for text in said:
        assert [line for line in text.splitlines() if "no label" in line] == ["2 clips have no label."]


def test_a_dry_run_refuses_a_clip_of_another_content_as_the_run_does(tmp_path, make_clip, avem):
    folder, store = tmp_path / "d" / "anger", tmp_path / "store"
    for name in "abc":
        make_clip(folder / f"{name}.mp4")
    given = (tmp_path / "d", "--cache", store)
    assert avem(*given)[0] == 0
    make_clip(folder / "b.mp4", frames=7)
    make_clip(folder / "new.mp4")
    before = {path: path.read_bytes() for path in store.rglob("*") if path.is_file()}
    asked, done = avem(*given, "--dry-run"), avem(*given)
    assert asked == done
    assert asked[0] == 2
    assert f"d/anger/b (anger/b.mp4) is in {store} with another content" in asked[2]
    assert {path: path.read_bytes() for path in store.rglob("*") if path.is_file()} == before


def test_one_clip_a_table_and_a_named_dataset(tmp_path, make_clip, avem):
    one, two = tmp_path / "a" / "clips", tmp_path / "b" / "clips"
    make_clip(one / "x.mp4")
    make_clip(two / "x.mp4", seed=1)
    status, out, _ = avem(one / "x.mp4", "--cache", tmp_path / "store")
    assert status == 0
    assert out.startswith("1 clip in")
    status, _, err = avem(two, "--cache", tmp_path / "store")
    assert status == 2
    assert "another dataset called clips, give it a name of its own with --name" in err
    (two / "labels.csv").write_bytes("File;Emotion\nx.mp4;happy\n".encode("utf-16"))
    status, out, _ = avem(two / "labels.csv", "--cache", tmp_path / "store", "--name", "second")
    assert status == 0
    store = FeatureStore.open(tmp_path / "store")
    assert store.columns(["clip_id", "dataset", "emotion"]).to_pylist() == [
        {"clip_id": "clips/x", "dataset": "clips", "emotion": None},
        {"clip_id": "second/x", "dataset": "second", "emotion": "happiness"},
    ]
    assert store.available("video").all()


def test_a_plan_needs_no_weights(tmp_path, make_clip, monkeypatch):
    make_clip(tmp_path / "clips" / "1.mp4")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "no models"))
    done = CliRunner().invoke(app, ["extract", str(tmp_path / "clips"), "--cache", str(tmp_path / "s"), "--dry-run"])
    assert done.exit_code == 0, done.output
    assert "1 video, 1 audio to extract" in done.output
    assert "8.22 MB of" in done.output  # 1.02 * (2 * (8 * 257 * 1024 + 1500 * 1280) + 4 * (768 + 1280)) bytes
    assert not (tmp_path / "s").exists()
