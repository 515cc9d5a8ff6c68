"""The space of a store, as its server or its file system gives it."""

from __future__ import annotations

from pathlib import Path

import pytest

from authsvc.domain.errors import AuthError
from authsvc.domain.service_status import StoreSpace
from authsvc.stores.redis.space import Info, space_of
from authsvc.stores.sqlite.space import read_space


def info(used: int, limit: int = 0, **more: str) -> Info:
    return {"used_memory": used, "maxmemory": limit, **more}


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ([info(5)], StoreSpace("memory", 5, None, True)),
        ([info(5, 10)], StoreSpace("memory", 5, 10, True)),
        ([info(5, 100), info(4, 5), info(90, 0)], StoreSpace("memory", 4, 5, True)),
        ([info(5), info(7)], StoreSpace("memory", 7, None, True)),
        ([info(5, aof_last_write_status="err")], StoreSpace("memory", 5, None, False)),
        ([info(5, rdb_last_bgsave_status="err")], StoreSpace("memory", 5, None, False)),
        (
            [info(9, 10), info(5, 10, aof_last_bgrewrite_status="err")],
            StoreSpace("memory", 9, 10, False),
        ),
        ([info(5, aof_last_write_status="ok")], StoreSpace("memory", 5, None, True)),
    ],
)
def test_the_fullest_node_counts(nodes: list[Info], expected: StoreSpace) -> None:
    assert space_of({str(number): node for number, node in enumerate(nodes)}) == expected


def test_a_file_system_has_what_is_not_available_in_use(tmp_path: Path) -> None:
    space = read_space(tmp_path)
    assert space.limit_bytes is not None
    assert 0 < space.used_bytes <= space.limit_bytes
    with pytest.raises(AuthError, match="No such file"):
        read_space(tmp_path / "gone")
