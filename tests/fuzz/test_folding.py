"""What the fuzzer found becomes seeds: few, short, always the same, and never too many."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.fuzz.folding import ROOM, fitting, minimal
from tests.fuzz.fuzzing import DIRECTIONS, NO_ATHERIS
from tests.fuzz.targets import KEPT, cases, kept

GET = b"GET /mcp HTTP/1.1\r\nHost: mcp.example\r\n\r\n"
TWO = GET.replace(b"mcp.example", b"mcp.example\r\nHost: b")
JUNK = b"\0\0"


class Minimal(SynchronousTestCase):
    """libFuzzer's merge, by which :func:`~tests.fuzz.folding.fold` chooses."""

    skip = NO_ATHERIS

    def test_only_what_is_new(self) -> None:
        """The shortest of those that reach the same stay, none that is known does; the order is fixed."""
        # The second of these reaches what the first has left in caches.
        alike = [GET.replace(b"/mcp", b"/mcp" + b"-" * more) for more in range(6)]
        found = [*reversed(alike), TWO, JUNK, GET]
        chosen = minimal("requests", [], found)
        self.assertLessEqual({JUNK, GET, TWO}, set(chosen))
        self.assertEqual(set(chosen) & set(alike[2:]), set())
        self.assertEqual(chosen, sorted(chosen, key=len))
        self.assertEqual(minimal("requests", [], reversed(found)), chosen)
        self.assertEqual(minimal("requests", set(chosen) - {TWO}, found), [TWO])

    def test_what_breaks_a_rule(self) -> None:
        """Is no seed: it would end every run at its beginning."""
        chosen = minimal("planted", [], [b"GET /", b"POST /"])
        self.assertNotIn(b"GET /", chosen)


class Kept(SynchronousTestCase):
    """The seeds in the tree."""

    def test_room(self) -> None:
        """The first, which are the shortest, are kept while there is room for them as they are written."""
        seeds = [b"a", b"\0", b"ccc"]
        self.assertEqual(fitting(seeds, 1000), seeds)
        self.assertEqual(fitting(seeds, len("b'a'\n") + len("b'\\x00'\n")), seeds[:2])
        self.assertEqual(fitting(seeds, 4), [])

    def test_as_they_are_written(self) -> None:
        """In the order of folding, each once, none that the corpus of attacks has, and within the room."""
        for direction in DIRECTIONS:
            seeds = kept(direction)
            self.assertEqual(seeds, sorted(set(seeds), key=lambda data: (len(data), data)))
            self.assertEqual(set(seeds) & set(cases(direction)), set())
            self.assertLessEqual((KEPT / f"{direction}.txt").stat().st_size, ROOM)
