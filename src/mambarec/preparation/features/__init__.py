"""Features of items from their texts and pictures."""
