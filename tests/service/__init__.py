"""The composed service: listening, draining, and what it answers to bytes from anywhere."""
