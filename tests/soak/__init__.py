"""Mixed traffic with faults on both sides, and what it may leave behind: nothing."""
