"""What the operator sees: logs, access log, health."""
