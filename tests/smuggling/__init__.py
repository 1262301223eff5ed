"""Bytes that attack, and what must become of them."""
