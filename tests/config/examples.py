"""The configurations that the documentation promises, as their users write them."""

from __future__ import annotations

from pathlib import Path

MINIMAL = """
upstream:
  url: http://localhost:3000
auth:
  baseUrl: https://mcp-proxy.example.com
  authorizationServers:
    - https://mcp-proxy.example.com
  issuerUrl: https://auth.example.com/realms/myrealm
  clientId: mcp-proxy
  clientSecret: secret
"""

#: The full example is the file that the repository ships.
FULL = (Path(__file__).parents[2] / "config" / "config.yaml").read_text(encoding="utf-8")

#: What every configuration needs, as environment variables.
ENVIRONMENT = {
    "MCP_OAUTH2_PROXY_UPSTREAM_URL": "http://localhost:3000",
    "MCP_OAUTH2_PROXY_AUTH_BASEURL": "https://mcp-proxy.example.com",
    "MCP_OAUTH2_PROXY_AUTH_ISSUERURL": "https://auth.example.com/realms/myrealm",
    "MCP_OAUTH2_PROXY_AUTH_CLIENTID": "mcp-proxy",
    "MCP_OAUTH2_PROXY_AUTH_CLIENTSECRET": "secret",
}
