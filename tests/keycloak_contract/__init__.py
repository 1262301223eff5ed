"""What a real Keycloak does and the embedded identity provider must do alike."""
