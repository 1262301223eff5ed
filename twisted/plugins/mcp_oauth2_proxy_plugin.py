"""Makes ``twistd mcp-oauth2-proxy`` known; the module named here is imported only when it is used."""

from twisted.application.service import ServiceMaker

mcp_oauth2_proxy = ServiceMaker(
    "mcp-oauth2-proxy",
    "mcp_oauth2_proxy.tap",
    "OAuth2 facade, token gate and streaming relay between MCP clients and an MCP server behind Keycloak",
    "mcp-oauth2-proxy",
)
