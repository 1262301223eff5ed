"""Tests of the relay: header rules, targets, and the streaming of both bodies."""
