"""The directory of the workers' common store, and those that others have left."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.workers.private import PrivateDirectory


class Private(SynchronousTestCase):
    """In a temporary directory that is the test's own."""

    def setUp(self) -> None:
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.place = Path(place.name)
        self.patch(tempfile, "tempdir", place.name)

    def names(self) -> set[str]:
        return {path.name for path in self.place.iterdir()}

    def abandoned(self, name: str) -> Path:
        """Leave a directory as one does who is killed."""
        path = self.place / name
        path.mkdir()
        (path / "store.db").touch()
        (path / "store.db-wal").touch()
        return path

    def test_a_life(self) -> None:
        """Only this user can enter it, and it goes with what is in it."""
        private = PrivateDirectory()
        self.assertEqual(stat.S_IMODE(os.stat(private.path).st_mode), 0o700)
        Path(private.store).touch()
        private.remove()
        self.assertEqual(self.names(), set())

    def test_what_was_left_behind(self) -> None:
        """The next one removes what nobody holds any more."""
        self.abandoned("mcp-oauth2-proxy-workers-abcdefgh")
        private = PrivateDirectory()
        self.addCleanup(private.remove)
        self.assertEqual(self.names(), {Path(private.path).name})

    def test_what_is_in_use(self) -> None:
        """That of another service on the machine stays, also before it has its file."""
        one, two = PrivateDirectory(), PrivateDirectory()
        Path(one.store).touch()
        three = PrivateDirectory()
        for private in (one, two, three):
            self.assertTrue(os.path.isdir(private.path))
            self.addCleanup(private.remove)

    def test_what_is_not_ours(self) -> None:
        """Other names, files and links stay, and what a link points to."""
        elsewhere = self.abandoned("elsewhere")
        (self.place / "mcp-oauth2-proxy-workers-linklink").symlink_to(elsewhere)
        (self.place / "mcp-oauth2-proxy-workers-filefile").touch()
        self.abandoned("mcp-oauth2-proxy-workers-abcdefgh-kept")
        before = self.names()
        private = PrivateDirectory()
        self.addCleanup(private.remove)
        self.assertEqual(self.names() - before, {Path(private.path).name})
        self.assertEqual(before - self.names(), set())
        self.assertTrue((elsewhere / "store.db").exists())
