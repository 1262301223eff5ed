"""docs/scaling.md: its arithmetic, and the configurations that it shows."""

from __future__ import annotations

import re

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from tests.support.nginx import BALANCE, CONFIGURATION
from tests.support.program import REPOSITORY
from tools.capacity import Costs, Habits, distinct, need, with_capacity

PAGE = (REPOSITORY / "docs" / "scaling.md").read_text(encoding="utf-8")
#: Costs and habits whose results can be seen without a calculator.
ROUND = Costs(request=1.0, new_token=1.0, stream_opened=1.0, login=10.0, refresh=2.0)
CALM = Habits(between_calls=10, token_lifetime=100, logins_within=1000, stream_grace=100, busy=0.5)


class Arithmetic(SynchronousTestCase):
    """What so many clients need."""

    def test_the_page_is_current(self) -> None:
        """The tables are what tools/generate.py writes: run it after a change."""
        self.assertEqual(PAGE, with_capacity(PAGE))

    def test_by_hand(self) -> None:
        """1000 clients: 100 calls of 1 ms, 10 refreshes of 2, 1 login of 10, 5 streams of 1 ms a second."""
        it = need(1000, ROUND, CALM)
        self.assertEqual((it.calls, it.refreshes, it.logins), (100, 10, 1))
        self.assertAlmostEqual(it.cores, 0.135)
        self.assertEqual(it.replicas, 2)

    def test_replicas(self) -> None:
        """As many as keep each below its share of a core, and as its streams ask for."""
        self.assertEqual(need(10_000, ROUND, CALM).replicas, 3)  # 1.35 cores, half of each may be busy
        self.assertEqual(need(10_000, ROUND, evolve(CALM, streams=500)).replicas, 20)

    def test_tokens_are_judged_by_each_replica(self) -> None:
        """A token that meets more replicas costs more; kept at one it is judged once."""
        dear = evolve(ROUND, new_token=3.0)
        few, many = (need(10_000, dear, evolve(CALM, replicas=count)) for count in (5, 50))
        self.assertLess(few.cores, many.cores)
        once = need(10_000, dear, evolve(CALM, replicas=50), sticky=True)
        self.assertAlmostEqual(once.cores, 1.35 + 100 * 2 / 1000)

    def test_distinct(self) -> None:
        """Of two replicas two requests meet one and a half; of one, however many, one."""
        self.assertAlmostEqual(distinct(2, 2), 1.5)
        self.assertAlmostEqual(distinct(99, 1), 1)


class Examples(SynchronousTestCase):
    """What is shown is what the tests run."""

    def block(self, language: str) -> str:
        (found,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
        return str(found)

    def test_nginx(self) -> None:
        """Every line, addresses aside, is in the configuration of the nginx that replicas restart behind."""
        used = {line.strip() for line in CONFIGURATION.replace("{{", "{").replace("}}", "}").splitlines()}
        used.add(BALANCE)
        shown = {line.strip() for line in self.block("nginx").splitlines()}
        self.assertEqual({line for line in shown - used if not line.startswith("server 10.")}, set())

    def test_the_chart(self) -> None:
        """The values are those that tests/deploy renders."""
        values = REPOSITORY / "tests" / "deploy" / "values" / "replicas.yaml"
        self.assertEqual(self.block("yaml"), values.read_text(encoding="utf-8"))
