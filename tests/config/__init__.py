"""From YAML, environment and flags to the configuration."""
