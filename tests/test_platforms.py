"""avem where things are missing: file locks, Linux's calls, triton, decord."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from avem.cache import FeatureStore, mine_negatives
from tests.cache.helpers import make_store

ROOT = Path(__file__).parents[1]

ABSENT_ON_WINDOWS = (
    "sched_getaffinity",
    "pread",
    "preadv",
    "pwrite",
    "posix_fadvise",
    "fdatasync",
    "O_DIRECTORY",
    "sysconf",
    "getuid",
    "geteuid",
    "getpgid",
    "killpg",
    "fchmod",
    "chown",
    "mkfifo",
    "statvfs",
    "uname",
    "fork",
    "nice",
    "getloadavg",
)
ABSENT_ON_MACOS = ("sched_getaffinity", "posix_fadvise", "fdatasync")

WITHOUT = """
import sys
import torch, numpy, zarr, fsspec, pyarrow.parquet, pyarrow.compute, faiss, numba, scipy.sparse, h5py, google_crc32c
import hypothesis, multiprocessing.connection, concurrent.futures, subprocess, tempfile, asyncio, typer, rich.table
import os, mmap
import importlib.abc

BLOCKED = {blocked!r}

class Block(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError("No module named " + repr(name), name=name)

sys.meta_path.insert(0, Block())
for name in BLOCKED:
    sys.modules.pop(name, None)
for name in {absent!r}:
    if hasattr(os, name):
        delattr(os, name)
"""


def run_without(blocked, absent, code, *arguments):
    """Run code in a process of its own, in which some modules can't be imported and `os` lacks some names."""
    whole = WITHOUT.format(blocked=tuple(blocked), absent=tuple(absent)) + textwrap.dedent(code)
    done = subprocess.run(
        [sys.executable, "-c", whole, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


READ = """
    from avem.cache import FeatureStore, StoreWriter, store_info
    from avem.errors import StoreError
    from avem.cli import main
    import multiprocessing
    class Map(mmap.mmap):
        madvise = property()  # raises AttributeError, as where there is none
    mmap.mmap = Map
    store = FeatureStore.open(sys.argv[1])
    torch.save({kind: store.features(kind, list(range(len(store)))) for kind in store.kinds}, sys.argv[2])
    numpy.save(sys.argv[2] + ".npy", store.pooled("video"))
    assert store.rows(["toy/004"]).tolist() == [4]
    assert (store.negatives("hard", "audiovisual") >= -1).all()
    assert store.verify() == []
    assert store_info(store).clips == len(store)
    try:
        StoreWriter.open(sys.argv[1]).finish()
    except StoreError as error:
        print(error)
"""


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_a_store_is_read_where_there_are_no_file_locks(tmp_path, dtype):
    store = make_store(tmp_path / "cache", clips=10, dtype=dtype)
    mine_negatives(store, k=1)
    blocked = ("fcntl", "resource", "pwd", "grp", "termios", "posix", "syslog")
    said = run_without(blocked, ABSENT_ON_WINDOWS, READ, tmp_path / "cache", tmp_path / "read")
    read = torch.load(tmp_path / "read")
    for kind in ("video", "audio"):
        assert torch.equal(read[kind], store.features(kind, range(10)))
    assert "only reads here" in said  # and writing is one sentence


def test_a_store_is_written_where_locks_are_of_whole_files(tmp_path):
    code = """
        import fcntl
        for name in ("F_OFD_SETLK", "F_OFD_SETLKW", "F_OFD_GETLK"):
            delattr(fcntl, name)
        from pathlib import Path
        from avem.cache.disk.locks import ShardLocks
        from tests.cache.helpers import make_store
        make_store(Path(sys.argv[1]), clips=10)
        one, other = (ShardLocks(Path(sys.argv[1]) / "ledger" / "video.lock") for _ in range(2))
        assert one.take(0) and one.take(0) and not other.take(0) and other.take(1)
        one.release(0)
        assert other.take(0) and not one.take(1)
        other.close()
        assert one.take(1)
    """
    run_without((), ABSENT_ON_MACOS, code, tmp_path / "cache")
    assert torch.equal(
        FeatureStore.open(tmp_path / "cache").video([7]), make_store(tmp_path / "same", clips=10).video([7])
    )


def test_whisper_is_imported_when_used_and_encodes_without_triton(tmp_path):
    code = """
        import avem.extract.encoders.registry, avem.extract.engine.encoders, avem.extract.pipeline, avem.cache, avem.cli
        import avem.extract.decode.media
        assert not {"whisper", "tiktoken", "triton"} & set(sys.modules), "imported before it is used"
        from pathlib import Path
        from avem.extract.encoders.random_weights import make_random_whisper
        from avem.extract import load_audio_encoder
        encoder = load_audio_encoder(make_random_whisper(Path(sys.argv[1]), width=32, layers=1, heads=2, positions=50))
        features, pooled = encoder.encode(encoder.preprocess(numpy.zeros(16000, numpy.float32))[None])
        assert features.shape == (1, 50, 32) and "whisper" in sys.modules and "triton" not in sys.modules
        from whisper.audio import HOP_LENGTH, SAMPLE_RATE
        from avem.extract.encoders import whisper
        assert (whisper.HOP_LENGTH, whisper.SAMPLE_RATE) == (HOP_LENGTH, SAMPLE_RATE)
    """
    run_without(("triton",), (), code, tmp_path / "whisper")


def test_a_missing_openai_whisper_is_a_sentence(tmp_path):
    code = """
        from avem.errors import MissingFileError
        from avem.extract.encoders.whisper import WhisperShape, new_encoder
        try:
            new_encoder(WhisperShape(80, 50, 32, 2, 1))
        except MissingFileError as error:
            print(error)
    """
    assert "pip install openai-whisper" in run_without(("whisper",), (), code)


def test_decord_is_a_dependency_only_where_it_has_wheels():
    import tomllib

    from packaging.requirements import Requirement

    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    (decord,) = [Requirement(text) for text in listed if text.startswith("decord")]
    systems = {
        ("linux", "x86_64"): True,
        ("linux", "aarch64"): False,
        ("darwin", "arm64"): False,
        ("win32", "AMD64"): True,
        ("win32", "ARM64"): False,
    }
    for (system, machine), wanted in systems.items():
        assert decord.marker.evaluate({"sys_platform": system, "platform_machine": machine}) is wanted


def test_nothing_imports_decord_outside_of_decoding():
    code = """
        import avem.cli, avem.cache, avem.extract.pipeline, avem.extract.datasets, avem.train, avem.evaluate
        import avem.extract.decode.media, avem.tools.project.benchmarks.extraction
        assert "decord" not in sys.modules
    """
    run_without(("decord",), (), code)
