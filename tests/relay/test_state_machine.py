"""The relay keeps its promises whatever its two sides do, in memory and over the sockets of this machine."""

from __future__ import annotations

import gc
import os

from hypothesis import HealthCheck, Phase, settings
from twisted.trial.unittest import SynchronousTestCase

from tests.relay.game import Game, seen
from tests.support.machine import Machine, OfServe, OfTwistd


class StateMachine(SynchronousTestCase):
    """Hypothesis plays."""

    def play(self, game: type[Game], examples: int) -> None:
        """Play so many games: or, each time others, as many as the environment's ``GAMES`` says."""
        case = game.TestCase
        case.settings = settings(
            max_examples=int(os.environ.get("GAMES", examples)),
            stateful_step_count=40,
            derandomize="GAMES" not in os.environ,
            # Making a game of this kind smaller takes minutes, and its last moves tell enough.
            phases=[Phase.generate],
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        )
        seen.clear()
        # What there was before is not looked through after each game.
        gc.freeze()
        self.addCleanup(gc.unfreeze)
        case("runTest").runTest()
        for event in ("whole answers", "arrived", "answers early", "held back"):
            self.assertGreater(seen[event], 0, seen)
        for event in ("breaks", "leaves"):
            self.assertGreater(sum(n for name, n in seen.items() if name.startswith(event)), 10, seen)

    def test_relay(self) -> None:
        """Whatever the two sides do: whole answers or cut ones, each request logged once, nothing left."""
        self.play(Game, 120)

    def test_over_sockets(self) -> None:
        """The same over TCP, with the reactors of ``serve`` and of twistd; no descriptor is left either."""
        serve, twistd = OfServe(), OfTwistd()
        self.addCleanup(serve.dispose)
        self.addCleanup(twistd.dispose)

        class OverSockets(Game):
            def system(self) -> Machine:
                return Machine(serve, twistd)

        self.play(OverSockets, 60)
