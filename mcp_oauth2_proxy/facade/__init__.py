"""The OAuth2 authorization server that MCP clients see."""
