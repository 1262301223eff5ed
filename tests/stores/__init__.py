"""What must be remembered: one contract for every store."""
