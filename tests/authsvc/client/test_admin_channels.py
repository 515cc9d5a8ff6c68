"""Which address of several a call of ``AdminClient`` goes to."""

from __future__ import annotations

import pytest

from authsvc.client.admin_channels import AdminChannels

pytestmark = pytest.mark.anyio


async def test_calls_that_fail_at_one_address_all_go_to_the_next() -> None:
    channels = AdminChannels(["127.0.0.1:1", "127.0.0.1:2"], None)
    channels.open()
    first = channels.best([])
    assert first is not None
    assert channels.best([]) is first
    second = channels.best([first])
    assert second is not None
    assert second is not first
    assert channels.best([first]) is second
    assert channels.best([]) is second
    await channels.close()


async def test_the_next_call_leaves_an_address_that_did_not_answer_in_time() -> None:
    channels = AdminChannels(["127.0.0.1:1", "127.0.0.1:2"], None)
    channels.open()
    first = channels.best([])
    assert first is not None
    first.mark_unresponsive()
    second = channels.best([])
    assert second is not first
    assert channels.best([]) is second
    await channels.close()
