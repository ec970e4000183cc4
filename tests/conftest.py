"""Fixtures for every room."""

from __future__ import annotations

import random
import shutil
import signal
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)  # tiny models: more threads only wait for each other
settings.register_profile("untimed", deadline=None)  # a loaded machine, or a first compilation, is no failure
settings.load_profile("untimed")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # of a job in the background, and its children
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _seed(name: str) -> None:
    seed = zlib.crc32(name.encode())
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef):
    """A fixture draws the same random numbers whatever ran before it, in whichever process."""
    _seed(f"{fixturedef.baseid}::{fixturedef.argname}")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """A test, too."""
    _seed(pyfuncitem.nodeid)


REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """A folder of real clips beside the repository, whose licence keeps them out of it; without it tests skip."""
    folder = REPOSITORY.parent / "shared"
    if not folder.is_dir():
        pytest.skip("the folder of real clips beside the repository is not here")
    return folder


@pytest.fixture(scope="session")
def golden() -> Path:
    """Reference inputs and outputs on random weights, computed with the authors' code (`golden/NOTES.md`)."""
    return REPOSITORY / "tests" / "golden"


@pytest.fixture(autouse=True)
def every_table_fits(monkeypatch):
    """Lay out each table that a test prints at 80 and at 130 columns and without a terminal, and check all three."""
    from avem.text.tables import Table
    from tests.table_kit import check_layouts

    layout, checked = Table.text, set()

    def text(table, width=None):
        if table not in checked:
            checked.add(table)
            check_layouts(table)
        return layout(table, width)

    monkeypatch.setattr(Table, "text", text)


@pytest.fixture(scope="session")
def chromium(tmp_path_factory):
    """Headless Chromium, started once: that takes longer than all that is done with it."""
    binary = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not binary or not driver:
        pytest.skip("no Chromium with its driver is installed")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = binary
    profile = tmp_path_factory.mktemp("profile")
    flags = ("headless=new", "no-sandbox", "disable-gpu", "disable-background-networking", "no-first-run")
    for flag in (*flags, f"user-data-dir={profile}", "window-size=1200,900"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield started
    started.quit()


@pytest.fixture
def browser(chromium):
    """The browser as it was when it started."""
    chromium.get_log("browser")
    yield chromium
    chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    chromium.get("about:blank")
