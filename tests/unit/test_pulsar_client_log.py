"""The client's log is read by us alone, whatever the system has for that."""

from __future__ import annotations

import os

import pytest

pytest.importorskip("pulsar")

from minionize.engines.pulsar.client_log import ClientLog


@pytest.mark.parametrize("in_memory", [True, False])
def test_why_a_message_was_refused(monkeypatch: pytest.MonkeyPatch, in_memory: bool) -> None:
    if not in_memory:  # a Python that was built for an old kernel
        monkeypatch.delattr(os, "memfd_create")
    log = ClientLog()
    with open(log.path, "ab") as file:
        file.write(b"WARN Received send error from server: before\n")
        file.flush()
        mark = log.mark()
        file.write(b"INFO other\nWARN Received send error from server: too long \n")
    assert log.refusals(mark) == ["too long"]
