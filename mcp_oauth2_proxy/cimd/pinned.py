"""Metadata documents of well-known clients, as they were published in September 2026.

Their hosts answer some data centres with a bot check (403) in place of the document; these copies are
used then, and only then. Each holds no more than what a login needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_BOTH_GRANTS = ("authorization_code", "refresh_token")


def _document(client_id: str, name: str, *redirect_uris: str, **more: Any) -> tuple[str, dict[str, Any]]:
    return client_id, {
        "client_id": client_id,
        "client_name": name,
        "redirect_uris": list(redirect_uris),
        "grant_types": list(_BOTH_GRANTS),
        "response_types": ["code"],
        "token_endpoint_auth_method": "none",
        **more,
    }


PINNED: Mapping[str, Mapping[str, Any]] = dict(
    (
        _document(
            "https://claude.ai/oauth/mcp-oauth-client-metadata",
            "Claude",
            "https://claude.ai/api/mcp/auth_callback",
            "https://claude.com/api/mcp/auth_callback",
        ),
        _document(
            "https://claude.ai/oauth/claude-code-client-metadata",
            "Claude Code",
            "http://localhost/callback",
            "http://127.0.0.1/callback",
        ),
        _document(
            "https://chatgpt.com/oauth/client.json",
            "ChatGPT",
            "https://chatgpt.com/connector_platform_oauth_redirect",
            token_endpoint_auth_method="private_key_jwt",  # noqa: S106 (a method's name)
            token_endpoint_auth_methods_supported=["none", "private_key_jwt"],
            jwks_uri="https://chatgpt.com/oauth/jwks.json",
        ),
        _document(
            "https://chatgpt.com/oauth/codex/client.json",
            "Codex",
            "http://127.0.0.1/callback",
            "http://localhost/callback",
        ),
        _document(
            "https://vscode.dev/oauth/client-metadata.json",
            "Visual Studio Code",
            "http://127.0.0.1:33418/",
            "https://vscode.dev/redirect",
        ),
        _document(
            "https://zed.dev/oauth/client-metadata.json",
            "Zed",
            "http://127.0.0.1/callback",
        ),
        _document(
            "https://opencode.ai/oauth/opencode/client.json",
            "opencode",
            "http://127.0.0.1/callback",
            "http://localhost/callback",
        ),
    )
)
