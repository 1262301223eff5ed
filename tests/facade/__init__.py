"""The facade: rules by themselves, then whole flows in memory."""
