"""Extraction into a bucket: the bytes of a local run, from the command line and from Ray's actors, after a kill too."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import fsspec
import pytest
from typer.testing import CliRunner

pytest.importorskip("moto.server", reason="moto's server is not installed")
pytest.importorskip("s3fs", reason="s3fs is not installed")

from avem.cache import FeatureStore
from avem.cache.remote import leases
from avem.cache.remote.mirror import close_mirror
from avem.cache.remote.transfer import belongs, local_files
from avem.cli import app
from avem.extract import ExtractOptions, extract
from avem.tools.project.benchmarks.bucket import Bucket, options, serving, used_by_fsspec


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, make_clip):
    root = tmp_path_factory.mktemp("corpus") / "mini"
    for index in range(5):
        make_clip(root / ("anger", "fear")[index % 2] / f"{index}.mp4", frames=4 + index, sound_s=0.5, seed=index)
    return root


@pytest.fixture
def settings(encoders):
    return {**encoders, "device": "cpu", "workers": 1, "batch_size": 2, "rows_per_shard": 2}


@pytest.fixture
def url(monkeypatch):
    with serving(Bucket()) as port, used_by_fsspec(port):
        monkeypatch.setenv("FSSPEC_S3", json.dumps(options(port)))  # for Ray's processes
        files = fsspec.filesystem("s3")
        if not files.exists("extracted"):
            files.mkdir("extracted")
        for path in files.find("extracted"):
            files.rm_file(path)
        yield "s3://extracted/cache"
        close_mirror("s3://extracted/cache")


def names(url):
    files = fsspec.filesystem("s3")
    files.invalidate_cache()
    return files.find(url)


def there(url):
    files, first = fsspec.filesystem("s3"), len(url.removeprefix("s3://")) + 1
    files.invalidate_cache()
    return {path[first:]: files.cat_file(path) for path in files.find(url) if belongs(path[first:])}


def here(store):
    return {name: (store / name).read_bytes() for name in local_files(store)}


def without_ledger(contents):
    return {name: content for name, content in contents.items() if not name.startswith("ledger/")}


def test_the_command_writes_the_bytes_of_a_local_run(corpus, settings, url, tmp_path):
    extract(corpus, tmp_path / "cache", ExtractOptions(**settings))
    dry = extract(corpus, url, ExtractOptions(**settings, dry_run=True))
    assert dry.pending == {"video": 5, "audio": 5}
    assert there(url) == {}
    report = extract(corpus, url, ExtractOptions(**settings))
    assert report.encoded == {"video": 5, "audio": 5}
    assert without_ledger(there(url)) == without_ledger(here(tmp_path / "cache"))
    assert there(url).keys() == here(tmp_path / "cache").keys()
    names = ["--video-encoder", str(settings["video_encoder"]), "--audio-encoder", str(settings["audio_encoder"])]
    again = CliRunner().invoke(app, ["extract", str(corpus), "--cache", url, *names, "--device", "cpu"])
    assert again.exit_code == 0, again.output
    assert "5 clips in s3://extracted/cache" in again.output.replace("\n", " ")
    assert FeatureStore.open(url).verify() == []


def test_ray_actors_write_the_bytes_of_a_local_run(corpus, settings, url, tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed")
    extract(corpus, tmp_path / "cache", ExtractOptions(**settings))
    extract(corpus, url, ExtractOptions(**settings, engine="ray"))
    assert without_ledger(there(url)) == without_ledger(here(tmp_path / "cache"))


@pytest.mark.slow
def test_a_run_continues_where_a_killed_one_was(corpus, settings, url, tmp_path, monkeypatch):
    monkeypatch.setattr(leases, "LEASE_S", 3.0)
    extract(corpus, tmp_path / "cache", ExtractOptions(**settings))
    program = (
        "import sys; from avem.extract import *; extract(sys.argv[1], sys.argv[2], ExtractOptions(**eval(sys.argv[3])))"
    )
    texts = {name: str(value) if "encoder" in name else value for name, value in settings.items()}
    with subprocess.Popen([sys.executable, "-c", program, str(corpus), url, repr(texts)]) as run:
        while run.poll() is None and not any("/features/c." in name for name in names(url)):
            time.sleep(0.05)
        run.kill()
    assert run.returncode == -signal.SIGKILL
    report = extract(corpus, url, ExtractOptions(**settings))
    assert report.left == {}
    assert without_ledger(there(url)) == without_ledger(here(tmp_path / "cache"))
