"""One owner of a folder: real processes, a real kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from avem.errors import SettingError
from avem.evaluate.predict.log import AnswerLog
from avem.guards.output_kinds import LOCK
from avem.guards.ownership import owned

HOLD = (
    "import sys, time\nfrom pathlib import Path\nfrom avem.guards.ownership import owned\n"
    "with owned(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(600)\n"
)


@pytest.fixture
def holder(tmp_path):
    """A process that owns `tmp_path / "run"`."""
    with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / "run"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_the_second_owner_is_told_who_the_first_is(tmp_path, holder):
    with (
        pytest.raises(SettingError, match=rf"Another run writes .*run \(process {holder.pid} on .+\)"),
        owned(tmp_path / "run"),
    ):
        pass


def test_a_killed_owner_leaves_the_folder_free(tmp_path, holder):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert (tmp_path / "run" / LOCK).is_file()
    with owned(tmp_path / "run"):
        pass
    assert not (tmp_path / "run" / LOCK).exists()


def test_the_same_process_is_not_an_owner_twice(tmp_path):
    with owned(tmp_path), pytest.raises(SettingError, match="Another run"), owned(tmp_path):
        pass


def test_one_answer_log_has_one_writer(tmp_path):
    path = tmp_path / "answers.jsonl"
    with AnswerLog(path) as log:
        log.append({"a": {"id": "q"}})
        with pytest.raises(SettingError, match=r"Another run writes .*answers\.jsonl"):
            AnswerLog(path)
    with AnswerLog(path) as log:
        assert log.get("a") == {"id": "q"}
    assert [item.name for item in tmp_path.iterdir()] == ["answers.jsonl"]
