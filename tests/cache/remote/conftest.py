"""A bucket on this machine for every test of remote stores."""

import fsspec
import pytest

pytest.importorskip("moto.server", reason="moto's server is not installed")
pytest.importorskip("s3fs", reason="s3fs is not installed")

from avem.tools.project.benchmarks.bucket import Bucket, serving, used_by_fsspec


@pytest.fixture(scope="session")
def _server():
    server = Bucket()
    with serving(server) as port, used_by_fsspec(port):
        fsspec.filesystem("s3").mkdir("bucket")
        yield server


@pytest.fixture
def bucket(_server):
    """The server, which counts requests and makes faults on demand; its bucket is empty at first."""
    files = fsspec.filesystem("s3")
    files.invalidate_cache()
    for path in files.find("bucket"):
        files.rm_file(path)
    _server.clear()
    yield _server
    _server.fault, _server.latency_s = None, 0.0


@pytest.fixture
def upload(bucket):
    """Copies a folder below `s3://bucket/` as it is and gives its URL."""

    def copy(folder, name="cache"):
        files = fsspec.filesystem("s3")
        for path in sorted(item for item in folder.rglob("*") if item.is_file()):
            files.pipe_file(f"bucket/{name}/{path.relative_to(folder).as_posix()}", path.read_bytes())
        bucket.clear()
        return f"s3://bucket/{name}"

    return copy
