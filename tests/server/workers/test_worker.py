"""What runs in a worker, as far as it can be looked at without one."""

import json
import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from fastrpc.server.workers import worker
from fastrpc.server.workers.worker import Reports, application_files


def test_reports_are_lines_of_json_and_a_reader_that_is_gone_harms_nobody() -> None:
    pipe, end = os.pipe()
    told = Reports(end)
    told.ready(["tcp://127.0.0.1:1"])
    told.failed("why\nnot", is_config=True)
    lines = os.read(pipe, 4096).splitlines()
    assert [json.loads(line) for line in lines] == [
        {"ready": ["tcp://127.0.0.1:1"]},
        {"failed": "why\nnot", "is_config": True},
    ]
    os.close(pipe)
    told.ready([])
    os.close(end)


def test_only_files_of_the_application_are_told_and_each_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shop_of_this_test.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    __import__("shop_of_this_test")
    files = application_files()
    assert str(tmp_path / "shop_of_this_test.py") in files
    assert json.__file__ not in files
    assert pytest.__file__ not in files
    assert worker.__file__ not in files
    pipe, end = os.pipe()
    told = Reports(end)
    told.files()
    assert set(json.loads(os.read(pipe, 2**20))["files"]) == files
    os.set_blocking(pipe, False)
    told.files()
    with pytest.raises(BlockingIOError):
        os.read(pipe, 1)
    os.close(pipe)
    os.close(end)
    del sys.modules["shop_of_this_test"]


def test_who_has_lost_the_supervisor_drains_and_is_ended_if_it_will_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    did: list[object] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: did.append(number))
    monkeypatch.setattr(threading.Event, "wait", lambda _, seconds: did.append(seconds))
    pipe, end = os.pipe()
    os.close(end)
    worker._outlive(pipe, 7.0)
    assert did == [signal.SIGTERM, 7.0 + worker.MARGIN, signal.SIGKILL]
    os.close(pipe)
