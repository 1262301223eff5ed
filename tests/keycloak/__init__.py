"""The realm: discovery, keys, tokens, with Keycloak's answers played in memory."""
