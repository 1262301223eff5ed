"""The Redis store on real servers: the contract in its three forms, and what happens when servers go."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from OpenSSL.crypto import FILETYPE_PEM
from redis.exceptions import RedisError
from twisted.internet.defer import gatherResults
from twisted.trial.unittest import TestCase

from mcp_oauth2_proxy.config.model import Store
from mcp_oauth2_proxy.config.store_url import parse_store_url
from mcp_oauth2_proxy.stores.interfaces import StoreFull, StoreUnavailable
from mcp_oauth2_proxy.stores.open import open_store
from mcp_oauth2_proxy.stores.redis import PREFIX, RedisStore
from tests.stores.contract import PATIENCE, StoreContract
from tests.support.certificates import private_ca
from tests.support.program import free_port
from tests.support.reactor import global_reactor
from tests.support.redis import (
    Cluster,
    RedisServer,
    Sentinels,
    flush,
    let_time_pass,
    shared_cluster,
    shared_sentinels,
    shared_server,
)

_T = TypeVar("_T")


class RedisCase(TestCase):
    """Opens stores by their URL, and closes them in the end."""

    timeout = 90
    servers: Sequence[RedisServer] = ()
    url = ""

    def advance(self, seconds: float) -> None:
        let_time_pass(self.servers, seconds)

    def make_store(self, url: str = "", **settings: Any) -> RedisStore:
        store = RedisStore(Store(url=parse_store_url(url or self.url), **settings), global_reactor())
        self.addCleanup(store.close)
        return store

    def make_other(self, store: Any) -> RedisStore:
        return self.make_store()

    async def until_it_works(self, use: Callable[[], Awaitable[_T]]) -> _T:
        """Return what ``use()`` of the store brings, once it does."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return await use()
            except StoreUnavailable:
                self.assertLess(time.monotonic(), deadline, "the store did not come back")


class SingleContract(RedisCase, StoreContract):
    """One Redis keeps every store's promises."""

    def setUp(self) -> None:
        self.servers = [shared_server()]
        self.url = f"redis://127.0.0.1:{shared_server().port}"
        flush(self.servers)


class SentinelContract(RedisCase, StoreContract):
    """A primary behind Sentinels does as well."""

    def setUp(self) -> None:
        sentinels = shared_sentinels()
        self.servers, self.url = sentinels.servers, sentinels.url
        flush(self.servers)


class ClusterContract(RedisCase, StoreContract):
    """And so does a cluster of three nodes."""

    def setUp(self) -> None:
        cluster = shared_cluster()
        self.servers, self.url = cluster.servers, cluster.url
        flush(self.servers)

    async def test_every_node_is_used(self) -> None:
        """Values lie on all the nodes."""
        store = self.make_store()
        await gatherResults([store.put(f"code:{number}", b"1", 60) for number in range(50)])
        self.assertTrue(all(server.client().dbsize() > 5 for server in self.servers))


class Server(RedisCase):
    """What one server keeps, and what it may do to us."""

    def start(self, *options: str, **how: Any) -> RedisServer:
        server = RedisServer(*options, **how)
        self.addCleanup(server.stop)
        self.url = f"redis://127.0.0.1:{server.port}"
        return server

    async def test_redis_expires_by_itself(self) -> None:
        """A value is gone after its time without anybody's help."""
        self.url = f"redis://127.0.0.1:{shared_server().port}"
        store = self.make_store()
        await store.put("code:short", b"1", 0.05)
        deadline = time.monotonic() + PATIENCE
        while await store.get("code:short") is not None:
            self.assertLess(time.monotonic(), deadline)
        self.assertEqual(shared_server().client().exists(PREFIX + "code:short"), 0)

    async def test_the_documented_acl(self) -> None:
        """Others may use the same Redis, and an ACL may hold the proxy to its own keys and channels."""
        server = self.start()
        cluster = shared_cluster()
        commands = ["+set", "+get", "+getdel", "+publish", "+subscribe", "+ping", "+client|setname"]
        for one in (server, *cluster.servers):
            more = [] if one is server else ["+cluster|slots", "+command"]
            one.client().acl_setuser(
                "proxy",
                enabled=True,
                passwords=["+secret"],
                keys=[f"{PREFIX}*"],
                channels=[f"{PREFIX}*"],
                commands=commands + more,
            )
        for url in (self.url, cluster.url):
            store = self.make_store(url.replace("://", "://proxy:secret@"))
            heard: list[bytes] = []
            await store.subscribe("a", heard.append)
            await store.put("code:a", b"1", 60)
            self.assertEqual(await store.add("code:a", b"1", 60), False)
            self.assertEqual(await store.take("code:a"), b"1")
            await store.publish("a", b"x")
            await store.ping()
            deadline = time.monotonic() + PATIENCE
            while not heard:
                await store.get("a")
                self.assertLess(time.monotonic(), deadline)

    async def test_no_credential_in_an_error(self) -> None:
        """A wrong password is told without it, whatever is behind the URL."""
        server = self.start(password="right")
        place = f"127.0.0.1:{server.port}"
        for form in (
            f"redis://:hunter2@{place}",
            f"redis://hunter1:hunter2@{place}",
            f"redis+cluster://:hunter2@{place}",
            f"redis+sentinel://:hunter2@{place}/hunters?sentinel_password=hunter2",
            "redis://:hunter2@127.0.0.1:1",
        ):
            store = self.make_store(form)
            error = await self.assertFailure(store.put("a", b"1", 1), StoreUnavailable)
            self.assertTrue(str(error).startswith("Redis: "), str(error))
            self.assertNotIn("hunter1", str(error) + repr(store))
            self.assertNotIn("hunter2", str(error) + repr(store))

    async def test_password(self) -> None:
        """A password with special characters is written with percent signs."""
        server = self.start(password="p@ss:w/rd%")
        store = self.make_store(f"redis://:p%40ss%3Aw%2Frd%25@127.0.0.1:{server.port}/2")
        await store.put("code:a", b"1", 60)
        self.assertEqual(server.client().info("keyspace")["db2"]["keys"], 1)

    async def test_full(self) -> None:
        """A server that is full refuses what is new, and hands out what it has."""
        server = self.start("--maxmemory-policy", "noeviction")
        store = self.make_store()
        await store.put("code:a", b"1", 60)
        server.client().config_set("maxmemory", 1)
        await self.assertFailure(store.put("code:b", b"1", 60), StoreFull)
        await self.assertFailure(store.ping(), StoreFull)
        self.assertEqual(await store.take("code:a"), b"1")
        server.client().config_set("maxmemory", 0)
        await store.put("code:b", b"1", 60)

    async def test_tls(self) -> None:
        """``rediss://`` speaks TLS with a server that ``store.caFile`` vouches for, and no other."""
        authority, certificate = private_ca()
        _, other = private_ca("Somebody else's CA")
        server = self.start()
        ports = []
        for name, presented in (("good", certificate), ("bad", other)):
            paths = [server.directory / f"{name}.{kind}" for kind in ("crt", "key", "ca")]
            key: Any = presented.privateKey
            for path, content in zip(
                paths, (presented.dumpPEM(), key.dump(FILETYPE_PEM), authority), strict=True
            ):
                path.write_bytes(content)
            ports.append(free_port())
            files = ("--tls-cert-file", "--tls-key-file", "--tls-ca-cert-file")
            told = [text for pair in zip(files, map(str, paths), strict=True) for text in pair]
            self.start("--tls-port", str(ports[-1]), "--tls-auth-clients", "no", *told)
        ca_file = str(server.directory / "good.ca")
        store = self.make_store(f"rediss://localhost:{ports[0]}", ca_file=ca_file)
        await store.put("code:a", b"1", 60)
        self.assertEqual(await store.take("code:a"), b"1")
        for stranger in (
            self.make_store(f"rediss://localhost:{ports[1]}", ca_file=ca_file),
            self.make_store(f"rediss://127.0.0.1:{ports[0]}", ca_file=ca_file),
            self.make_store(f"rediss://localhost:{ports[0]}"),
        ):
            error = await self.assertFailure(stranger.ping(), StoreUnavailable)
            self.assertIn("certificate", str(error).lower())

    async def test_a_replica(self) -> None:
        """A URL that names a replica is found out before anybody logs in."""
        primary = self.start()
        replica = self.start("--replicaof", "127.0.0.1", str(primary.port))
        error = await self.assertFailure(
            self.make_store(f"redis://127.0.0.1:{replica.port}").ping(), StoreUnavailable
        )
        self.assertIn("read only", str(error).lower())

    async def test_a_server_that_does_not_answer(self) -> None:
        """A server that hangs costs a bounded wait; afterwards the same store works again."""
        server = self.start()
        store = self.make_store(timeout=0.3)
        server.client().set(f"{PREFIX}code:a", b"1", ex=60)
        server.pause()
        self.addCleanup(server.resume)
        await self.assertFailure(store.get("code:a"), StoreUnavailable)
        server.resume()
        self.assertEqual(await self.until_it_works(lambda: store.get("code:a")), b"1")

    async def test_a_restart(self) -> None:
        """A server that comes back is used again, and listeners are told that they may have missed some."""
        server = self.start()
        store = self.make_store()
        heard: list[bytes] = []
        missed: list[bool] = []
        await store.subscribe("a", heard.append, lambda: missed.append(True))
        server.kill()
        await self.assertFailure(store.ping(), StoreUnavailable)
        server.start()
        await self.until_it_works(store.ping)
        deadline = time.monotonic() + PATIENCE
        while not missed:
            await store.ping()
            self.assertLess(time.monotonic(), deadline, "the subscription did not come back")
        await store.publish("a", b"after")
        while not heard:
            await store.ping()
            self.assertLess(time.monotonic(), deadline)
        self.assertEqual((heard, missed), ([b"after"], [True]))

    async def test_a_connection_that_hangs(self) -> None:
        """A listener whose server falls silent does not wait for ever."""
        server = self.start()
        store = self.make_store(timeout=0.3)
        missed: list[bool] = []
        await store.subscribe("a", lambda _: None, lambda: missed.append(True))
        server.pause()
        self.addCleanup(server.resume)
        deadline = time.monotonic() + PATIENCE
        listening = store._listening
        while listening._confirmed:
            await self.assertFailure(store.ping(), StoreUnavailable)
            self.assertLess(time.monotonic(), deadline, "the silence was not noticed")
        server.resume()
        while not missed:
            await self.until_it_works(store.ping)
            self.assertLess(time.monotonic(), deadline, "the subscription did not come back")

    async def test_there_is_no_server_at_first(self) -> None:
        """A proxy that starts before its Redis subscribes when it is there."""
        server = self.start()
        server.kill()
        store = self.make_store()
        subscribing = store.subscribe("a", lambda _: None)
        await self.assertFailure(store.ping(), StoreUnavailable)
        self.assertFalse(subscribing.called)
        server.start()
        await subscribing

    def test_opening(self) -> None:
        """``store.url`` is enough, and nothing is connected before it is needed."""
        store = open_store(Store(url=parse_store_url("redis://:hunter2@127.0.0.1:1")), global_reactor())
        self.assertIsInstance(store._store, RedisStore)
        self.assertNotIn("hunter2", repr(store))


class Failover(RedisCase):
    """Servers that die while others take over."""

    async def test_sentinels_name_another_primary(self) -> None:
        """When the primary dies the store goes on with its successor, and so do listeners."""
        sentinels = Sentinels()
        self.addCleanup(sentinels.stop)
        store = self.make_store(sentinels.url)
        heard: list[bytes] = []
        await store.subscribe("a", heard.append)
        await store.put("code:a", b"1", 60)
        primary = sentinels.primary()
        # WAIT is for what its own connection wrote: with that the replica has all that was written before.
        client = primary.client()
        client.set("after", b"")
        self.assertEqual(client.wait(1, 5000), 1)
        primary.kill()
        await self.until_it_works(store.ping)
        self.assertIsNot(sentinels.primary(), primary)
        self.assertEqual(await store.take("code:a"), b"1")
        deadline = time.monotonic() + PATIENCE
        while not heard:
            await store.publish("a", b"after")
            self.assertLess(time.monotonic(), deadline, "the subscription did not come back")

    async def test_a_cluster_loses_and_regains_a_node(self) -> None:
        """Without one of its nodes the cluster refuses, and with it everything works again."""
        cluster = Cluster()
        self.addCleanup(cluster.stop)
        store = self.make_store(cluster.url)
        keys = [f"code:{number}" for number in range(30)]
        await gatherResults([store.put(key, b"1", 60) for key in keys])
        lost = cluster.servers[1]
        lost.kill()
        failures = 0
        for key in keys:
            try:
                await store.put(key, b"2", 60)
            except StoreUnavailable:
                failures += 1
        self.assertGreater(failures, 0)
        lost.start()
        deadline = time.monotonic() + PATIENCE
        for key in keys:
            while True:
                try:
                    await store.put(key, b"3", 60)
                except StoreUnavailable:
                    self.assertLess(time.monotonic(), deadline, "the cluster did not come back")
                else:
                    break
        self.assertEqual([await store.take(key) for key in keys], [b"3"] * len(keys))


class Support(TestCase):
    """The tests' own way with time."""

    def test_let_time_pass(self) -> None:
        """A value is older by as much as was asked, and gone where that is more than it had."""
        server = shared_server()
        client = server.client()
        client.set("young", b"1", ex=60)
        client.set("old", b"1", ex=10)
        client.set("for ever", b"1")
        let_time_pass([server], 30)
        self.assertEqual(client.exists("old"), 0)
        self.assertTrue(25_000 < client.pttl("young") <= 30_000)
        self.assertEqual(client.ttl("for ever"), -1)
        self.assertRaises(RedisError, client.execute_command, "NONSENSE")
