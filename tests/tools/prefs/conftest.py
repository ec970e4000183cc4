"""A small corpus of real clips, and builds that ask a stand-in for its ground truth."""

from __future__ import annotations

import json

import pytest

from avem.tools.corpus.build import build_corpus
from avem.tools.corpus.scene import draw_scenes
from avem.tools.prefs.build import build
from avem.tools.prefs.options import BuildOptions

CLIPS, SEED = 28, 3


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    return build_corpus(tmp_path_factory.mktemp("prefs") / "corpus", CLIPS, SEED, workers=1)


@pytest.fixture(scope="session")
def scenes():
    return draw_scenes(CLIPS, SEED)


@pytest.fixture
def options(corpus, tmp_path):
    """Makes the options of a build; keywords replace the defaults."""

    def make(standin, **changes):
        plain = {
            "root": corpus.root,
            "out": tmp_path / "out",
            "endpoint": standin.endpoint,
            "model": "writer",
            "guess_models": ("guess-a", "guess-b"),
            "parallel": 4,
            "pause_s": 0.0,
            "retries": 2,
            "emotion_tolerance": 1.0,
        }
        return BuildOptions(**plain | changes)

    return make


@pytest.fixture
def run(options):
    """Runs a build to its end."""
    return lambda standin, **changes: build(options(standin, **changes))


def json_lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
