"""What passes the gate: header rules and the streaming of both bodies."""
