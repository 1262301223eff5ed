"""The thirty points that a facade over Keycloak must get right, by their numbers."""
