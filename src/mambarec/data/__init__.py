"""A data set in memory, and its batches."""
