"""Which encoder made the features of a folder: the key `encoders` of its report.json, by the first word of the file's name."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mambarec.base.bounded import read_json
from mambarec.base.files import write_text

FILE, KEY = "report.json", "encoders"


def read_encoders(folder: Path) -> dict[str, dict[str, Any]]:
    """'image' or 'text' -> model (its name) and weights (a hash of them); empty where the folder does not say."""
    found = _report(folder).get(KEY)
    if not isinstance(found, dict):
        return {}
    return {kind: one for kind, one in found.items() if isinstance(one, dict) and {"model", "weights"} <= set(one)}


def record_encoder(folder: Path, kind: str, model: str, weights: str) -> None:
    """Write into report.json which encoder made the features of this kind; all else in it stays."""
    report = _report(folder)
    report[KEY] = {**read_encoders(folder), kind: {"model": model, "weights": weights}}
    write_text(folder / FILE, json.dumps(report, indent=1, ensure_ascii=False) + "\n")


def forget_encoder(folder: Path, kind: str) -> None:
    """Remove from report.json which encoder made the features of this kind; all else in it stays."""
    others = {name: one for name, one in read_encoders(folder).items() if name != kind}
    report = _report(folder)
    if kind in read_encoders(folder):
        write_text(folder / FILE, json.dumps(report | {KEY: others}, indent=1, ensure_ascii=False) + "\n")


def encoder_text(encoder: Mapping[str, Any]) -> str:
    """'vgg16 (weights 0a1b2c3d4e)'."""
    return f"{encoder['model']} (weights {str(encoder['weights'])[:10]})"


def _report(folder: Path) -> dict[str, Any]:
    try:
        content = read_json(folder / FILE)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
