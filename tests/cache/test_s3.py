"""A store in a bucket: read like one on disk, through a server that fails now and then; named when it stays away."""

from __future__ import annotations

import threading
from itertools import count

import fsspec
import numpy as np
import pytest
import torch

from avem.cache import FeatureStore, mine_negatives
from avem.errors import MissingFileError, StoreError
from tests.cache.helpers import make_store

moto_server = pytest.importorskip("moto.server", reason="moto's server is not installed")
pytest.importorskip("s3fs", reason="s3fs is not installed")


class Faulty:
    """moto's server, of which every so many-th request fails with status 503."""

    def __init__(self) -> None:
        self.every = 0
        self.failures = 0
        self._app = moto_server.DomainDispatcherApplication(moto_server.create_backend_app)
        self._numbers = count(1)

    def __call__(self, environ, start_response):
        if self.every and next(self._numbers) % self.every == 0:
            self.failures += 1
            start_response("503 Slow Down", [("Content-Type", "application/xml")])
            body = b"<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"
            return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]
        return self._app(environ, start_response)


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    """A store on disk, the same in a bucket, and the server to make fail."""
    from werkzeug.serving import make_server

    local = tmp_path_factory.mktemp("s3")
    make_store(local / "cache", clips=6)
    app = Faulty()
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    options = {
        "key": "k",
        "secret": "s",
        "client_kwargs": {"endpoint_url": f"http://127.0.0.1:{server.server_port}"},
        "config_kwargs": {"retries": {"max_attempts": 3}},
    }
    before = dict(fsspec.config.conf)
    fsspec.config.conf["s3"] = options
    files = fsspec.filesystem("s3", **options)
    files.mkdir("bucket")
    files.put(str(local / "cache"), "bucket/cache", recursive=True)
    yield local / "cache", "s3://bucket/cache", app
    fsspec.config.conf.clear()
    fsspec.config.conf.update(before)
    server.shutdown()
    thread.join()


@pytest.mark.parametrize("every", [0, 4])
def test_reads_what_is_there(bucket, every):
    local, url, app = bucket
    app.every, failures = every, app.failures
    try:
        store, same = FeatureStore.open(url), FeatureStore.open(local)
        assert store.clips.equals(same.clips)
        assert torch.equal(store.video([4, 1, 1]), same.video([4, 1, 1]))
        assert np.array_equal(store.pooled("audio"), same.pooled("audio"))
        assert store.verify() == []
    finally:
        app.every = 0
    assert (app.failures > failures) == bool(every)


def test_a_server_that_stays_away_is_named(bucket):
    _, url, app = bucket
    store = FeatureStore.open(url)
    app.every = 1
    try:
        with pytest.raises(StoreError, match=r"s3://bucket/cache"):
            FeatureStore.open(url)
        with pytest.raises(StoreError, match="s3://bucket/cache/video"):
            store.video([1])
    finally:
        app.every = 0
    with pytest.raises(MissingFileError, match="no feature store at s3://bucket/nothing"):
        FeatureStore.open("s3://bucket/nothing")
    with pytest.raises(StoreError, match="is remote"):
        mine_negatives(FeatureStore.open(url))
