"""What one worker may do of what the whole may do. Pure."""

from __future__ import annotations

from attrs import evolve

from mcp_oauth2_proxy.config.model import Config, Limits, Rate, StoreKind, StoreUrl


def needs_private_store(config: Config, workers: int) -> bool:
    """Return whether the workers have to be given a store: each one's own memory knows half of a login."""
    return workers > 1 and config.store.url.kind is StoreKind.MEMORY


def share_of(config: Config, workers: int, private_store: str | None) -> Config:
    """Return the configuration of one of so many workers.

    A limit is what the operator wants of the service, whatever the number of its processes, so that each
    worker holds to its part, rounded up. A client whose connections all end up at one worker is held to
    that part: a limit is never laxer than it says. ``private_store`` is the file that stands for
    ``memory://``; it ends with the processes, so that nothing has to wait for the disk.
    """
    server, store = config.server, config.store
    if private_store is not None:
        store = evolve(store, url=StoreUrl(StoreKind.SQLITE, path=private_store, durable=False))
    return evolve(
        config,
        server=evolve(
            server,
            max_connections=_part(server.max_connections, workers),
            max_connections_per_address=_part(server.max_connections_per_address, workers),
        ),
        limits=_limits(config.limits, workers),
        store=store,
    )


def _part(count: int, workers: int) -> int:
    """Return one worker's part of a limit; 0, which is none, stays 0."""
    return -(-count // workers)


def _limits(limits: Limits, workers: int) -> Limits:
    def part(rate: Rate) -> Rate:
        return Rate(_part(rate.count, workers), rate.seconds)

    return Limits(
        register_per_address=part(limits.register_per_address),
        register_total=part(limits.register_total),
        authorize_per_address=part(limits.authorize_per_address),
        authorize_total=part(limits.authorize_total),
        token_per_address=part(limits.token_per_address),
        token_total=part(limits.token_total),
    )
