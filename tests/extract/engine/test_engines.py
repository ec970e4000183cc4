"""Several devices and Ray's actors write what one device writes, byte for byte, even when one of them is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from avem.cache import FeatureStore
from avem.errors import SettingError
from avem.extract import ExtractOptions, extract
from avem.extract.engine.device import Part
from tests.extract.long_kit import write_long
from tests.extract.omni_kit import write_thinker


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, make_clip):
    root = tmp_path_factory.mktemp("corpus") / "mini"
    for index in range(12):
        make_clip(root / ("anger", "fear")[index % 2] / f"{index}.mp4", frames=4 + index, sound_s=0.5, seed=index)
    return root


@pytest.fixture(scope="module")
def settings(encoders):
    return {**encoders, "device": "cpu", "workers": 1, "batch_size": 2, "rows_per_shard": 2}


@pytest.fixture(scope="module")
def expected(corpus, settings, tmp_path_factory):
    """What one device writes."""
    store = tmp_path_factory.mktemp("stores") / "store"
    extract(corpus, store, ExtractOptions(**settings))
    return arrays_of(store)


def arrays_of(store: Path) -> dict[str, bytes]:
    """Bytes of every array and of the manifest."""
    paths = sorted(path for path in store.rglob("*") if path.is_file() and "ledger" not in path.parts)
    return {str(path.relative_to(store)): path.read_bytes() for path in paths}


def test_every_device_begins_at_a_place_of_its_own_and_goes_round():
    assert [Part(index, 3).order(range(7)) for index in range(3)] == [
        [0, 1, 2, 3, 4, 5, 6],
        [2, 3, 4, 5, 6, 0, 1],
        [4, 5, 6, 0, 1, 2, 3],
    ]
    assert Part(1, 3).order([]) == []
    assert Part().order([4, 9]) == [4, 9]


def test_several_devices_share_the_shards_and_write_the_same_bytes(corpus, settings, expected, tmp_path, monkeypatch):
    from avem.extract.engine import local as engines

    parts = []
    whole_fill = engines.fill

    def remember(job, encoders, pool, part, lines, stop):
        report = whole_fill(job, encoders, pool, part, lines, stop)
        parts.append((encoders, part.index, report.encoded))
        return report

    monkeypatch.setattr(engines, "fill", remember)
    report = extract(corpus, tmp_path / "store", ExtractOptions(**{**settings, "device": "cpu,cpu", "workers": 2}))
    assert arrays_of(tmp_path / "store") == expected
    assert (report.devices, report.workers, report.encoded) == (2, 2, {"video": 12, "audio": 12})
    assert sorted(index for _, index, _ in parts) == [0, 1]
    assert parts[0][0] is not parts[1][0]
    assert sum(encoded["video"] for _, _, encoded in parts) == 12
    assert "on 2 devices" in report.summary


def test_each_stage_has_a_progress_line_that_counts_failures(settings, tmp_path, make_clip, monkeypatch):
    from avem.extract.engine import local as engines

    shown = []
    whole_stages = engines.stages

    @contextmanager
    def remember(*lines):
        with whole_stages(*lines) as made:
            shown.extend(made)
            yield made

    monkeypatch.setattr(engines, "stages", remember)
    for index in range(3):
        make_clip(tmp_path / "d" / "anger" / f"{index}.mp4", sound=None if index == 1 else 0.3)
    extract(tmp_path / "d", tmp_path / "store", ExtractOptions(**settings))
    lines = [(line.name, line.unit, line.total, line.done, line.failures) for line in shown]
    assert lines == [("decode", "clips", 3, 3, 1), ("encode", "rows", 6, 6, 1), ("write", "rows", 6, 6, 1)]


def test_an_error_on_one_device_ends_the_run_with_it(corpus, settings, tmp_path, monkeypatch):
    from avem.cache.stream import StreamWriter
    from avem.errors import StoreError

    def fail(self, *_):
        raise StoreError("The disk is full.")

    monkeypatch.setattr(StreamWriter, "write", fail)
    with pytest.raises(StoreError, match="disk is full"):
        extract(corpus, tmp_path / "store", ExtractOptions(**{**settings, "device": "cpu,cpu"}))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"device": "cpu,"}, "commas between"),
        ({"engine": "spark"}, "--engine must be one of local, ray"),
        ({"device": "cpu,cuda:77"}, "--device cuda:77"),
    ],
)
def test_devices_and_engines_that_are_not_there(corpus, settings, tmp_path, changes, words):
    with pytest.raises(SettingError, match=words):
        extract(corpus, tmp_path / "store", ExtractOptions(**{**settings, **changes}))


def test_ray_is_an_extra(corpus, settings, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SettingError, match=r"avem\[ray\]"):
        extract(corpus, tmp_path / "store", ExtractOptions(**settings, engine="ray"))


@pytest.fixture(scope="module")
def cluster():
    """A Ray cluster of two machines with a processor each."""
    ray = pytest.importorskip("ray", reason="the extra avem[ray] is not installed")
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    machine = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    try:
        nodes = Cluster(initialize_head=True, head_node_args={**machine, "include_dashboard": False})
        nodes.add_node(**machine)
    except Exception as error:  # noqa: BLE001 - Ray raises the bare class when its processes are slow to start
        pytest.skip(f"Ray does not start here: {error}")
    ray.init(address=nodes.address, log_to_driver=False)
    yield nodes
    ray.shutdown()
    nodes.shutdown()


def filling_actor() -> int | None:
    """Process id of an actor that is at work on shards, if there is one."""
    from ray._private.state import actors

    for actor in actors().values():
        title = Path("/proc") / str(actor["Pid"]) / "cmdline"
        if actor["Pid"] and title.is_file() and title.read_bytes().startswith(b"ray::Device.fill"):
            return int(actor["Pid"])
    return None


@pytest.mark.slow
def test_a_ray_cluster_writes_the_same_bytes_though_a_worker_is_killed(
    corpus, settings, expected, tmp_path, cluster, monkeypatch, caplog
):
    from avem.extract.engine import ray as ray_engine

    store = tmp_path / "store"
    killed = []

    def kill_once_something_is_written():
        while not list((store / "ledger" / "video").glob("0*.json")):
            time.sleep(0.01)
        while (victim := filling_actor()) is None:
            time.sleep(0.01)
        os.kill(victim, signal.SIGKILL)
        killed.append(victim)

    monkeypatch.setattr(ray_engine, "POLL_S", 0.2)
    threading.Thread(target=kill_once_something_is_written, daemon=True).start()
    report = extract(corpus, store, ExtractOptions(**settings, engine="ray"))
    assert killed
    assert "An actor died" in caplog.text
    assert arrays_of(store) == expected
    assert (report.devices, report.encoded, report.failures) == (2, {"video": 12, "audio": 12}, [])
    assert FeatureStore.open(store).verify() == []


def descendants(pid: int) -> set[int]:
    """Processes that a process started, and those that these started."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):  # it ended in between
            continue
    found, last = set(), {pid}
    while last := {child for child, parent in parents.items() if parent in last} - found:
        found |= last
    return found


def command_of(pid: int) -> str:
    """The command line of a process; empty where it has ended, or waits for its parent to take note."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except (FileNotFoundError, ProcessLookupError):
        return ""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it reads /proc")
def test_what_ray_started_ends_with_a_killed_driver(corpus, encoders, tmp_path):
    pytest.importorskip("ray", reason="the extra avem[ray] is not installed")
    words = [f"--{name.replace('_', '-')}={value}" for name, value in encoders.items()]
    command = [sys.executable, "-m", "avem", "extract", corpus, "--cache", tmp_path / "store", *words]
    command += ["--engine=ray", "--device=cpu", "--workers=1"]
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
    environment.pop("RAY_ADDRESS", None)
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) as driver:
        while not any("ray::Device" in command_of(pid) for pid in descendants(driver.pid)):
            if driver.poll() is not None:
                pytest.skip(f"Ray does not start here: {driver.stderr.read().decode()[-300:]}")
            time.sleep(0.05)
        started = descendants(driver.pid)
        driver.kill()
    assert len(started) >= 5
    left = started
    for _ in range(900):
        if not (left := {pid for pid in left if command_of(pid)}):
            break
        time.sleep(0.1)
    assert {pid: command_of(pid) for pid in left} == {}


@pytest.mark.slow
def test_a_ray_cluster_makes_the_same_windows(settings, tmp_path, cluster):
    write_long(tmp_path / "talks" / "fear" / "long.mov", 65)
    for engine in ("local", "ray"):
        options = ExtractOptions(**settings, engine=engine, long="windows")
        report = extract(tmp_path / "talks", tmp_path / engine, options)
        assert (report.encoded, report.failures) == ({"video": 3, "audio": 3}, [])
    assert arrays_of(tmp_path / "ray") == arrays_of(tmp_path / "local")
    assert FeatureStore.open(tmp_path / "ray").clips["start_s"].to_pylist() == [0.0, 30.0, 60.0]


@pytest.mark.slow
@pytest.mark.parametrize("model_type", ["qwen2_5_omni", "qwen3_omni_moe"])
def test_a_ray_cluster_sees_and_hears_as_a_qwen_omni_model_does(model_type, tmp_path, make_clip, cluster):
    """Rows of any length and their companions, for Qwen3-Omni deepstack levels too."""
    model = write_thinker(tmp_path / "model", model_type)
    for index in range(5):
        sound = None if index == 2 else 0.3
        make_clip(tmp_path / f"data/fear/{index}.mp4", frames=5 + 7 * index, size=(64 + 32 * index, 48), sound=sound)
    for engine in ("local", "ray"):
        options = ExtractOptions(
            model=model, device="cpu", workers=1, rows_per_shard=1, precision="float32", engine=engine
        )
        report = extract(tmp_path / "data", tmp_path / engine, options)
        assert report.encoded == {"video": 5, "audio": 4}
    assert arrays_of(tmp_path / "ray") == arrays_of(tmp_path / "local")
    family = model_type.removesuffix("_moe")
    companions = FeatureStore.open(tmp_path / "ray").spec(f"video/{family}").companions
    assert ("deepstack" in companions) == (family == "qwen3_omni")
