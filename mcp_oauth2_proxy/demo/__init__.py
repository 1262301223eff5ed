"""The embedded identity provider, sample MCP server and walk-through of ``mcp-oauth2-proxy demo``."""
