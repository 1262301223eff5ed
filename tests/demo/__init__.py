"""The embedded identity provider and the demo."""
