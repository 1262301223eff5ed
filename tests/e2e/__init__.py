"""The started program, black box, with a real Keycloak behind it."""
