"""Rankings of all items, and their metrics."""
