"""Clients that cannot run here, as data: one file each, replayed by one engine."""
