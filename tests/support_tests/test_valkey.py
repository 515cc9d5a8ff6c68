"""The Valkey servers that other tests use."""

from __future__ import annotations

from pathlib import Path

import pytest
from redis.cluster import RedisCluster
from redis.exceptions import AuthenticationError, NoPermissionError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from tests.support import valkey
from tests.support.valkey import ValkeyError, cluster, sentinel, single, with_replica


def test_acknowledged_writes_survive_a_kill_of_the_server(tmp_path: Path) -> None:
    with single(tmp_path) as server:
        port = server.port
        with server.client() as client:
            client.set("key", "value")
        server.kill()
        with pytest.raises(RedisConnectionError), server.client(retry=None) as client:
            client.ping()
        server.restart()
        assert server.port == port
        with server.client() as client:
            assert client.get("key") == "value"


def test_a_paused_server_answers_nothing_until_it_is_resumed(tmp_path: Path) -> None:
    with single(tmp_path) as server:
        with server.client(retry=None, socket_timeout=0.2) as client:
            server.pause()
            with pytest.raises(RedisTimeoutError):
                client.ping()
            server.resume()
        with server.client() as client:
            assert client.ping()


def test_two_servers_share_nothing(tmp_path: Path) -> None:
    with single(tmp_path) as one, single(tmp_path, "--maxmemory", "10mb") as other:
        assert one.folder != other.folder
        with one.client() as client:
            client.set("key", "value")
        with other.client() as client:
            assert client.get("key") is None
            assert client.config_get("maxmemory") == {"maxmemory": "10485760"}


def test_a_port_in_use_is_replaced_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with single(tmp_path) as first:
        offered = [first.port, first.port, valkey.free_port()]
        monkeypatch.setattr("chaos.valkey.server.free_port", lambda: offered.pop(0))
        with single(tmp_path) as second:
            assert second.port != first.port
            assert not offered


def test_a_server_that_cannot_start_reports_why(tmp_path: Path) -> None:
    with pytest.raises(ValkeyError, match="no-such-thing"), single(tmp_path, "--no-such-thing"):
        pass


def test_a_server_ends_with_its_block(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), single(tmp_path) as server:
        raise ZeroDivisionError
    with pytest.raises(ValkeyError, match="does not run"):
        _ = server.pid


def test_acl_users(tmp_path: Path) -> None:
    (tmp_path / "users.acl").write_text(
        "user default off\nuser service on >secret ~authsvc:* +@all\n"
    )
    with single(
        tmp_path,
        *("--aclfile", str(tmp_path / "users.acl")),
        login={"username": "service", "password": "secret"},
    ) as server:
        with server.client() as client:
            client.set("authsvc:key", "value")
            with pytest.raises(NoPermissionError):
                client.set("other", "value")
        anybody = {"username": None, "password": None, "retry": None}
        with server.client(**anybody) as stranger, pytest.raises(AuthenticationError):
            stranger.ping()


def test_a_replica_follows(tmp_path: Path) -> None:
    with with_replica(tmp_path) as pair, pair.primary.client() as client:
        client.set("key", "value")
        assert client.wait(1, 5_000) == 1
        with pair.replica.client() as follower:
            assert follower.get("key") == "value"


def test_sentinels_promote_the_replica_of_a_dead_primary(tmp_path: Path) -> None:
    with sentinel(tmp_path) as group, group.sentinels[0].client() as client:

        def known() -> int:
            return int(client.sentinel_get_master_addr_by_name(group.service)[1])

        assert known() == group.primary.port
        group.primary.kill()
        valkey.eventually(lambda: known() == group.replica.port, "a failover")


def test_a_cluster_keeps_its_keys_through_a_failover(tmp_path: Path) -> None:
    with cluster(tmp_path, replicas=1) as made:
        assert len(made.nodes) == 6
        old = made.primary_of("key")
        with RedisCluster(host=valkey.HOST, port=made.nodes[0].port) as client:
            for number in range(100):
                client.set(f"key-{number}", "value")
            client.set("key", "value")
        replica = made.replica_of(old)
        old.kill()
        valkey.eventually(lambda: made.primary_of("key") is replica, "a failover")
        with replica.client() as client:
            assert client.get("key") == "value"
