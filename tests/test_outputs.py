"""Nothing that avem did not make is deleted or overwritten: every command with an output, and every kind of target."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avem.cli import app
from avem.errors import AvemError, SettingError
from avem.files import replace_directory, save_page, write_new
from avem.guards.output_kinds import BENCH, MODEL, PAGE, RUN, SURVEY, kind_of
from avem.guards.outputs import file_target, folder_target
from avem.guards.ownership import opened

FOLDER_COMMANDS = {
    "train": "train --cache store --prefs rows.jsonl --model model --out TARGET",
    "train-sft": "train --stage sft --cache store --data rows.jsonl --model model --out TARGET",
    "merge": "models merge model TARGET",
    "merge-avere": "models merge model TARGET --layout avere",
    "bench": "bench emorealm --questions q.json --cache store --model model --out TARGET",
    "bench-answers": "bench emorealm --questions q.json --answers rows.jsonl --out TARGET",
    "dfew": "bench dfew --cache store --model model --out TARGET",
    "emer": "bench emer --references q.json --judge j --endpoint http://x/v1 --answers rows.jsonl --out TARGET",
    "swap": "probe swap --questions q.json --cache store --model model --out TARGET",
    "attention": "probe attention --questions q.json --cache store --model model --out TARGET",
    "sweep": "sweep table3 --cache store --prefs rows.jsonl --questions q.json --model model --out TARGET",
    "export": "cache export TARGET --cache store",
    "survey": "prefs survey q.json --out TARGET",
    "prefs": "prefs build data --model m --out TARGET",
    "emorealm": "emorealm build data --model m --out TARGET",
    "import": "cache import x.h5 --cache TARGET",
    "import-npy": "cache import --video-npy data --cache TARGET",
    "extract": "extract data --cache TARGET",
    "demo": "demo --out TARGET",
    "corpus": "demo corpus TARGET",
}
"""Every command that writes a folder; what each reads is in the folder `work`."""
READS = {
    "train": ("store", "rows.jsonl", "model"),
    "train-sft": ("store", "rows.jsonl", "model"),
    "merge": ("model",),
    "merge-avere": ("model",),
    "bench": ("q.json", "store", "model"),
    "bench-answers": ("q.json", "rows.jsonl"),
    "dfew": ("store", "model"),
    "emer": ("q.json", "rows.jsonl"),
    "swap": ("q.json", "store", "model"),
    "attention": ("q.json", "store", "model"),
    "sweep": ("store", "rows.jsonl", "q.json", "model"),
    "export": ("store",),
    "survey": ("q.json",),
    "prefs": ("data",),
    "emorealm": ("data",),
    "import": ("x.h5",),
    "import-npy": ("data",),
    "extract": ("data",),
    "demo": (),
    "corpus": (),
}
INSIDE = ("prefs", "emorealm", "import-npy", "extract")
"""What these read is the user's data, in which their folder may be."""
QUESTION = {
    "question_id": "q1",
    "video": "1.mp4",
    "task": "reasoning_basic_audio",
    "question": "Why?",
    "choices": ["(A) x", "(B) y"],
    "answer": "A",
}


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A folder with everything that the commands read, and with things that avem did not make."""
    folder = tmp_path / "work"
    for name in ("store", "model", "data", "precious/sub"):
        (folder / name).mkdir(parents=True)
    (folder / "store" / "zarr.json").write_text(
        json.dumps({"zarr_format": 3, "node_type": "group", "attributes": {"avem": {"format_version": 1}}})
    )
    (folder / "model" / "config.json").write_text('{"model_type": "llama"}')
    (folder / "data" / "clips.csv").write_text("path,emotion\n1.mp4,anger\n")
    (folder / "q.json").write_text(json.dumps([QUESTION]))
    (folder / "rows.jsonl").write_text("{}\n")
    (folder / "x.h5").write_bytes(b"")
    (folder / "precious" / "thesis.docx").write_text("years of work")
    (folder / "precious" / "sub" / "photo.jpg").write_text("a face")
    (folder / "file.txt").write_text("a note")
    (folder / "link").symlink_to("precious")
    (folder / "circle").symlink_to("circle")
    monkeypatch.chdir(folder)
    return folder


def tree(folder: Path) -> dict[str, bytes | str]:
    """Every path below a folder with what it holds."""
    return {
        str(path.relative_to(folder)): (
            str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else "folder"
        )
        for path in folder.rglob("*")
    }


def refused(command: str, target: str) -> str:
    """What a command says of a target that it refuses."""
    with pytest.raises(AvemError) as error:
        app([target if word == "TARGET" else word for word in command.split()], standalone_mode=False)
    said = str(error.value)
    assert error.value.exit_status == 2
    assert "\n" not in said
    assert "Errno" not in said
    return said


FOREIGN = [
    "precious",
    "precious/",
    "./precious",
    "precious/sub/..",
    "file.txt",
    "file.txt/below",
    "link",
    "link/sub",
    "circle",
    ".",
    "..",
    "/",
    "/proc/avem",
    "x" * 300,
]


@pytest.mark.parametrize("target", FOREIGN)
@pytest.mark.parametrize("name", FOLDER_COMMANDS)
def test_a_foreign_target_is_refused_and_untouched(work, name, target):
    before = tree(work.parent)
    refused(FOLDER_COMMANDS[name], target)
    assert tree(work.parent) == before


@pytest.mark.parametrize("name", FOLDER_COMMANDS)
def test_what_is_read_its_parents_and_what_is_inside_it_are_refused(work, name):
    before = tree(work.parent)
    (work / "alias").symlink_to(work)
    for read in READS[name]:
        for target in (read, f"alias/{read}", str(work / read), ".", "alias"):
            refused(FOLDER_COMMANDS[name], target)
        if (work / read).is_dir() and name not in INSIDE:
            assert "inside" in refused(FOLDER_COMMANDS[name], f"{read}/new")
            assert "inside" in refused(FOLDER_COMMANDS[name], f"alias/{read}/new/deeper")
    (work / "alias").unlink()
    assert tree(work.parent) == before


def test_wrong_targets_are_refused_before_torch_is_loaded(work):
    code = (
        "import json, sys\nfrom avem.cli import app\nfrom avem.errors import AvemError\n"
        "for words in json.load(sys.stdin):\n"
        "    try:\n        app(words, standalone_mode=False)\n        sys.exit(f'{words} was not refused')\n"
        "    except AvemError:\n        pass\n"
        "    if 'torch' in sys.modules:\n        sys.exit(f'{words} loaded torch')\n"
    )
    commands = [command.replace("TARGET", "precious").split() for command in FOLDER_COMMANDS.values()]
    commands += [command.replace("TARGET", "file.txt").split() for command in FILE_COMMANDS.values()]
    missing = [
        ["train"],
        ["train", "--cache", "no", "--prefs", "rows.jsonl"],
        ["bench", "emorealm"],
        ["bench", "dfew"],
        ["probe", "swap"],
        ["models", "merge", "no", "new"],
        ["cache", "info", "--cache", "no"],
        ["report", "no"],
        ["cache", "verify", "--cache", "no"],
        ["cache", "negatives", "--cache", "no"],
        ["cache", "logps"],
        ["cache", "export", "new", "--cache", "no"],
        ["sweep", "table3"],
        ["extract", "no"],
        ["cache", "import", "no"],
        ["cache", "repair", "--cache", "no"],
        ["prefs", "validate", "no"],
        ["prefs", "survey", "no"],
    ]
    done = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps([*commands, *missing]), capture_output=True, text=True, cwd=work
    )
    assert done.returncode == 0, done.stderr


FILE_COMMANDS = {
    "report": "report model --out TARGET",
    "negatives": "cache negatives --cache store --report TARGET",
    "convert": "prefs convert good.jsonl TARGET",
    "convert-reference": "prefs convert good.jsonl TARGET --to reference",
    "convert-trl": "prefs convert good.jsonl TARGET --to trl",
    "convert-llama-factory": "prefs convert good.jsonl TARGET --to llama-factory",
}
"""Every command that writes a file."""
ROW = {
    "row_id": "r",
    "clip_id": "c",
    "modality": "audio",
    "emotion": "anger",
    "task": "t",
    "question": "Why?",
    "chosen": "He shouts.",
    "rejected_video_relevant": "He frowns.",
    "rejected_emotion_relevant": "He sings.",
    "rejected_irrelevant": "It rains.",
    "provenance": {},
}


@pytest.fixture
def rows(work):
    (work / "good.jsonl").write_text(json.dumps(ROW) + "\n")
    return work


@pytest.mark.parametrize("target", ["file.txt", "precious", "precious/thesis.docx", "/dev/null", ".", "file.txt/x"])
@pytest.mark.parametrize("name", FILE_COMMANDS)
def test_a_foreign_file_is_refused_and_untouched(rows, name, target):
    before = tree(rows.parent)
    refused(FILE_COMMANDS[name], target)
    assert tree(rows.parent) == before
    assert Path("/dev/null").is_char_device()


def test_a_file_is_not_written_over_what_it_is_made_from(rows):
    (rows / "alias.jsonl").symlink_to("good.jsonl")
    os.link(rows / "good.jsonl", rows / "hard.jsonl")
    before = tree(rows)
    for target in ("good.jsonl", "./good.jsonl", "alias.jsonl", "hard.jsonl"):
        assert "read by this command" in refused("prefs convert good.jsonl TARGET --to trl", target)
    assert tree(rows) == before


def test_converting_again_to_the_same_is_fine_and_to_another_form_is_not(rows):
    app(["prefs", "convert", "good.jsonl", "out.json", "--to", "trl"], standalone_mode=False)
    first = (rows / "out.json").read_bytes()
    app(["prefs", "convert", "good.jsonl", "out.json", "--to", "trl"], standalone_mode=False)
    refused("prefs convert good.jsonl TARGET --to reference", "out.json")
    assert (rows / "out.json").read_bytes() == first


def test_a_registry_of_llama_factory_keeps_what_others_wrote(rows):
    (rows / "dataset_info.json").write_text('{"mine": {"file_name": "mine.json"}, "taken": {"file_name": "x"}}')
    app(["prefs", "convert", "good.jsonl", "new.jsonl", "--to", "llama-factory"], standalone_mode=False)
    known = json.loads((rows / "dataset_info.json").read_text())
    assert known["mine"] == {"file_name": "mine.json"}
    assert known["new"]["file_name"] == "new.jsonl"
    assert "another taken" in refused("prefs convert good.jsonl TARGET --to llama-factory", "taken.jsonl")
    assert not (rows / "taken.jsonl").exists()


def fill(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "avem", "avem_version": "0"}')


def test_a_directory_is_replaced_only_where_avem_wrote_all_of_it(tmp_path):
    target = tmp_path / "model"
    replace_directory(target, fill, MODEL)
    replace_directory(target, fill, MODEL)
    assert kind_of(target) is MODEL
    (target / "thesis.docx").write_text("years of work")
    with pytest.raises(SettingError, match=r"thesis\.docx"):
        replace_directory(target, fill, MODEL)
    with pytest.raises(SettingError, match=r"thesis\.docx"):
        replace_directory(target, fill)  # whatever the caller says of its kind
    assert (target / "thesis.docx").read_text() == "years of work"
    (target / "thesis.docx").unlink()
    with pytest.raises(SettingError, match="not a survey"):
        replace_directory(target, fill, SURVEY)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["model"]


def test_a_model_from_before_markers_is_replaced_but_not_with_a_file_of_the_users(tmp_path):
    target = tmp_path / "model"
    (target / "language_model").mkdir(parents=True)
    fill(target)
    (target / "language_model" / "model.safetensors").write_bytes(b"old")
    (target / "language_model" / "my notes.txt").write_text("mine")
    with pytest.raises(SettingError, match="my notes"):
        replace_directory(target, fill, MODEL)
    (target / "language_model" / "my notes.txt").unlink()
    replace_directory(target, fill, MODEL)
    assert not (target / "language_model").exists()


def test_a_failed_fill_leaves_the_old_directory(tmp_path):
    replace_directory(tmp_path / "model", fill, MODEL)
    before = tree(tmp_path)

    def fail(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(AvemError, match="the disk is full"):
        replace_directory(tmp_path / "model", fail, MODEL)
    assert tree(tmp_path) == before


def test_something_that_appears_while_a_directory_is_filled_is_kept(tmp_path):
    def fill_slowly(folder: Path) -> None:
        fill(folder)
        (tmp_path / "model").mkdir()
        (tmp_path / "model" / "thesis.docx").write_text("years of work")

    with pytest.raises(SettingError, match="not a model"):
        replace_directory(tmp_path / "model", fill_slowly, MODEL)
    assert tree(tmp_path) == {"model": "folder", "model/thesis.docx": b"years of work"}


def test_a_symbolic_link_to_an_empty_folder_stays_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    replace_directory(tmp_path / "link", fill, MODEL)
    assert (tmp_path / "link").is_symlink()
    assert kind_of(tmp_path / "real") is MODEL
    assert sorted(item.name for item in tmp_path.iterdir()) == ["link", "real"]


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077, 0o002])
def test_files_of_a_directory_follow_the_umask(tmp_path, umask):
    def fill_private(folder: Path) -> None:
        (folder / "sub").mkdir(mode=0o700)
        (folder / "sub" / "model.safetensors").touch(mode=0o600)  # as safetensors makes it
        fill(folder)

    old = os.umask(umask)
    try:
        replace_directory(tmp_path / "model", fill_private, MODEL)
    finally:
        os.umask(old)
    for path in (tmp_path / "model").rglob("*"):
        expected = (0o777 if path.is_dir() else 0o666) & ~umask
        assert path.stat().st_mode & 0o777 == expected, path


def test_the_current_folder_is_not_replaced(tmp_path, monkeypatch):
    for place in (tmp_path, tmp_path / "below"):
        place.mkdir(exist_ok=True)
        monkeypatch.chdir(place)
        with pytest.raises(SettingError):
            replace_directory(tmp_path, fill, MODEL)


def test_a_folder_that_is_filled_takes_hidden_files_and_leaves_nothing_after_a_fault(tmp_path):
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / ".DS_Store").write_bytes(b"a")
    with pytest.raises(ZeroDivisionError), opened(tmp_path / "bench", BENCH):
        raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError), opened(tmp_path / "new" / "deep", BENCH):
        raise ZeroDivisionError
    assert tree(tmp_path) == {"bench": "folder", "bench/.DS_Store": b"a"}


def test_pages_are_told_by_their_generator(tmp_path):
    page = tmp_path / "page.html"
    save_page(page, '<html><head><meta name="generator" content="avem 0.1"></head></html>')
    save_page(page, '<html><head><meta name="generator" content="avem 0.2"></head></html>')
    page.write_text("<html>mine</html>")
    with pytest.raises(SettingError, match="not a page made by avem"):
        file_target(page, PAGE)
    with pytest.raises(SettingError, match="is a folder"):
        file_target(tmp_path, PAGE)


def test_a_path_with_a_null_byte_is_no_path(tmp_path):
    for check in (lambda path: folder_target(path, RUN), lambda path: file_target(path, PAGE)):
        with pytest.raises(SettingError, match="not a path"):
            check(f"{tmp_path}/a\0b")


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_a_file_without_a_mark_is_never_overwritten_by_other_content(tmp_path_factory, old, new):
    path = tmp_path_factory.mktemp("files") / "file"
    path.write_bytes(old)
    if old == new:
        write_new(path, new)
    else:
        with pytest.raises(SettingError):
            write_new(path, new)
    assert path.read_bytes() == old
