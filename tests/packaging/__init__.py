"""What is shipped: the wheel, and what installing it gives."""
