"""redis-py, as the store uses it: a client for each form of ``redis://`` URL; every call blocks.

Facts: redis-py repeats a command by itself when a connection breaks. What must happen at most once cannot be
repeated when nobody knows whether it happened, so that is switched off; a connection that broke while it was
idle is noticed before a command is sent. Protocol 2 is what every server since Redis 6.2 and Valkey speaks.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Lock
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import OutOfMemoryError, RedisClusterException, RedisError
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel

from mcp_oauth2_proxy.config.model import Secret, Store, StoreKind, StoreUrl
from mcp_oauth2_proxy.stores.interfaces import StoreFull, StoreUnavailable

#: Seconds that a TCP or TLS connection may take at most: more than that no network needs.
CONNECT_TIMEOUT = 1.0
#: Seconds that one Sentinel may take, so that a dead one does not keep us from the next.
SENTINEL_TIMEOUT = 0.5


class Client:
    """Connections that are made when they are needed first; may be used by several threads at once."""

    def __init__(self, store: Store) -> None:
        self._url = store.url
        self._timeout = store.timeout
        self._ca_file = store.ca_file
        self._connected: Any = None
        self._lock = Lock()

    def call(self, use: Callable[[Any], Any]) -> Any:
        """Return ``use(client)``; raises :exc:`StoreUnavailable` where Redis does not do it."""
        with redis_errors():
            return use(self._client())

    def pubsub(self) -> Any:
        """Return a new redis-py ``PubSub``; in a cluster at any node, for every node hears everything."""
        client = self._client()
        if isinstance(client, RedisCluster):
            node = random.choice(client.get_nodes())  # noqa: S311 (spreads, protects nothing)
            return client.get_redis_connection(node).pubsub()
        return client.pubsub()

    def close(self) -> None:
        """Close what is open; raises nothing."""
        with self._lock:
            client, self._connected = self._connected, None
        if client is not None:
            with suppress(Exception):
                client.close()

    def _client(self) -> Any:
        with self._lock:
            if self._connected is None:
                self._connected = self._make(self._url)
            return self._connected

    def _make(self, url: StoreUrl) -> Any:
        options = self._options(url.username, url.password, self._timeout)
        if url.kind is StoreKind.CLUSTER:
            nodes = [ClusterNode(host, port) for host, port in url.hosts]
            # No repetition here either, but a failure makes the client look for the cluster's new shape.
            return RedisCluster(startup_nodes=nodes, **options)
        if url.kind is StoreKind.SENTINEL:
            sentinels = self._options(
                url.sentinel_username, url.sentinel_password, min(SENTINEL_TIMEOUT, self._timeout)
            )
            sentinel = Sentinel(list(url.hosts), sentinel_kwargs=sentinels, **options)
            return sentinel.master_for(url.service, db=url.database)
        ((host, port),) = url.hosts
        return Redis(host, port, db=url.database, **options)

    def _options(self, username: str | None, password: Secret | None, timeout: float) -> dict[str, Any]:
        options = {
            "username": username,
            "password": password.reveal() if password is not None else None,
            "socket_timeout": timeout,
            "socket_connect_timeout": min(CONNECT_TIMEOUT, timeout),
            "socket_keepalive": True,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
            "client_name": "mcp-oauth2-proxy",
        }
        if self._url.tls:
            options |= {
                "ssl": True,
                "ssl_cert_reqs": "required",
                "ssl_check_hostname": True,
                "ssl_ca_certs": self._ca_file,
            }
        return options


@contextmanager
def redis_errors() -> Iterator[None]:
    """Turn what redis-py raises into the store's errors, with what is safe to show of it."""
    try:
        yield
    except OutOfMemoryError:
        raise StoreFull("Redis is full: maxmemory is reached") from None
    except MasterNotFoundError:
        raise StoreUnavailable("Redis: no Sentinel answers with a primary of this name") from None
    except (RedisError, RedisClusterException, OSError) as error:
        raise StoreUnavailable(f"Redis: {type(error).__name__}: {error}") from None
