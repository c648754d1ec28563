"""What was found: a value, and the ways to show, keep and tell it."""
