"""What a program does first."""

from __future__ import annotations

import gc

import pytest

from authsvc.common.process import imports_of_a_server


def test_imports_are_frozen_and_no_garbage_is_collected_meanwhile() -> None:
    gc.unfreeze()
    try:
        with imports_of_a_server():
            assert not gc.isenabled()
        assert gc.isenabled()
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()


def test_garbage_is_collected_after_an_import_that_fails() -> None:
    with pytest.raises(ImportError), imports_of_a_server():
        raise ImportError("a missing extra")
    assert gc.isenabled()
