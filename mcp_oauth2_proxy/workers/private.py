"""The directory of the file that stands for ``memory://`` among several workers."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

_PREFIX = "mcp-oauth2-proxy-workers-"
#: What it is called: the rest is :func:`tempfile.mkdtemp`'s.
_NAME = re.compile(re.escape(_PREFIX) + r"[a-z0-9_]{8}")


class PrivateDirectory:
    """A new directory that only this user can enter; raises ``OSError`` where there can be none.

    It is locked for as long as its owner lives. One whose owner was killed with all its workers is removed by
    the next that is made: the temporary directory of a pod outlives the containers in it.
    """

    def __init__(self) -> None:
        place = Path(tempfile.gettempdir())
        for name in os.listdir(place):
            if _NAME.fullmatch(name):
                _remove_abandoned(place / name)
        self.path = tempfile.mkdtemp(prefix=_PREFIX)
        self._lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    @property
    def store(self) -> str:
        """Return the path of the store's file."""
        return os.path.join(self.path, "store.db")

    def remove(self) -> None:
        """Remove it with what is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def _remove_abandoned(path: Path) -> None:
    """Remove a directory of this user that nobody holds.

    Workers that have outlived their supervisor have the file open, and drain with it.
    """
    with suppress(OSError):
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            if os.fstat(lock).st_uid == os.geteuid():
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Without its file it is one whose owner is about to lock it.
                os.unlink("store.db", dir_fd=lock)
                shutil.rmtree(path, ignore_errors=True)
        finally:
            os.close(lock)
