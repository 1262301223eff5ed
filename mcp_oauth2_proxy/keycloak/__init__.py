"""The only place that talks to Keycloak: discovery, keys and the token endpoint."""
