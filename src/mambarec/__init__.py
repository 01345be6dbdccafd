"""Multimodal recommendation: train, compare and use models, MambaRec among them."""

from pathlib import Path

# A checkout has models/ and configs/ beside this folder, where MMRec has them; in an installed package they are within it.
if (Path(__file__).parents[1] / "models" / "mambarec.py").exists():
    __path__.append(str(Path(__file__).parents[1]))
