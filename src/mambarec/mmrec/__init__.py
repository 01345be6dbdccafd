"""MMRec's model files here, and MambaRec there."""
