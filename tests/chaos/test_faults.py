"""A run's faults: the same for the same seed, and none left out."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.chaos.faults import KINDS, schedule


class Schedule(SynchronousTestCase):
    """What a seed means."""

    def test_a_seed_repeats(self) -> None:
        """The printed seed gives the same faults at the same times; another seed gives others."""
        self.assertEqual(schedule("1", 600), schedule("1", 600))
        self.assertNotEqual(schedule("1", 600), schedule("2", 600))

    def test_a_longer_run_begins_alike(self) -> None:
        """A failure in the tenth minute can be looked for from the first."""
        self.assertEqual(schedule("1", 600)[:5], schedule("1", 60)[:5])

    def test_length(self) -> None:
        """A run is about as long as it was asked to be."""
        for seconds in (60, 600):
            planned = sum(episode.length for episode in schedule("3", seconds))
            self.assertTrue(0.4 * seconds < planned < seconds + 15, planned)

    def test_everything_breaks(self) -> None:
        """Ten minutes leave no fault out, and no part suffers two at once."""
        every = {(kind, target) for target, kinds in KINDS.items() for kind in kinds}
        for seed in map(str, range(5)):
            episodes = schedule(seed, 600)
            self.assertEqual({(one.kind, one.target) for each in episodes for one in each.faults}, every)
            for each in episodes:
                targets = [one.target for one in each.faults]
                self.assertEqual(len(targets), len(set(targets)))
