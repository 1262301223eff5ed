"""What an orchestrator hears."""

from __future__ import annotations

from treq.testing import StubTreq
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource

from mcp_oauth2_proxy.ops.access import QUIET
from mcp_oauth2_proxy.ops.health import Healthz, Readyz, answer_plain


class Health(SynchronousTestCase):
    """``/healthz`` and ``/readyz``."""

    def answer(self, resource: Resource, method: str = "GET") -> tuple[int, str, list[bytes]]:
        root = Resource()
        root.putChild(b"x", resource)
        client = StubTreq(root)
        response = self.successResultOf(client.request(method, "http://proxy/x"))
        text = self.successResultOf(client.text_content(response))
        return response.code, text, response.headers.getRawHeaders(b"cache-control")

    def test_alive(self) -> None:
        """``/healthz`` says ok, and nobody may keep the answer."""
        self.assertEqual(self.answer(Healthz()), (200, "ok", [b"no-store"]))

    def test_ready(self) -> None:
        """``/readyz`` says ok when nothing is in the way."""
        self.assertEqual(self.answer(Readyz([lambda: None])), (200, "ok", [b"no-store"]))

    def test_not_ready(self) -> None:
        """``/readyz`` names every reason, one a line, in plain words."""
        probes = [lambda: "realm: no keys yet", lambda: None, lambda: "draining"]
        self.assertEqual(self.answer(Readyz(probes)), (503, "realm: no keys yet\ndraining", [b"no-store"]))

    def test_head(self) -> None:
        """HEAD is answered as GET, without the body."""
        self.assertEqual(self.answer(Healthz(), "HEAD"), (200, "", [b"no-store"]))
        self.assertEqual(self.answer(Readyz([lambda: "x"]), "HEAD"), (503, "", [b"no-store"]))

    def test_other_methods(self) -> None:
        """Nothing else is a question."""
        self.assertEqual(self.answer(Healthz(), "POST")[0], 405)

    def test_the_access_log_is_told(self) -> None:
        """A health check marks itself as not worth a line."""

        class Request:
            notes: dict[str, object] = {}

            def setResponseCode(self, code: int) -> None:
                self.code = code

            def setHeader(self, name: bytes, value: bytes) -> None:
                pass

        request = Request()
        self.assertEqual(answer_plain(request, 200, "ok"), b"ok")  # type: ignore[arg-type]
        self.assertIs(request.notes[QUIET], True)
