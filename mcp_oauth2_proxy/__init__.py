"""OAuth2 authorization-server facade, token gate and streaming relay for MCP servers behind Keycloak."""
