"""What the operator says: YAML and environment, loaded into immutable models. Pure."""
