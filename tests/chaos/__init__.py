"""The whole product under faults, judged from the outside. ``python -m tests.chaos --help``."""
