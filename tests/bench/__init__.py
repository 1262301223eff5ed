"""The bench's own rules: a figure is only as good as the arithmetic and the checks behind it."""
