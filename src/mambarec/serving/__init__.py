"""A trained model's recommendations and vectors."""
