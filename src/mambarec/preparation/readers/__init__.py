"""Files of strangers."""
