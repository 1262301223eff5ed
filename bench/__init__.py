"""What the relay costs, measured beside nginx and a Go proxy: ``python -m bench``, or ``make bench``."""
