"""The forty cases that clients in the field have brought up, by their numbers."""
