"""Fixtures for every room."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)  # tiny models: more threads only wait for each other

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
