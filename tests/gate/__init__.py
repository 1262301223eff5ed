"""The gate judges tokens: rules, keys, cache, challenges."""
