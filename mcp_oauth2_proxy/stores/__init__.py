"""What must be remembered for a while, and handed out once."""
