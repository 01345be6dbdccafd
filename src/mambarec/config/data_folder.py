"""What lies in a data set's folder, and the lines of its YAML that name it."""

from pathlib import Path

from mambarec.base.bounded import array_head

# What preparation makes: kind -> the key of a YAML and the file that it names.
FEATURES = {
    "image": ("vision_feature_file", "image_feat.npy"),
    "text": ("text_feature_file", "text_feat.npy"),
    "audio": ("audio_feature_file", "audio_feat.npy"),
}
VISUAL = ("visual", "vision", "image", "images", "img", "picture", "pictures")  # what the visual modality is called
MASK = "_mask.npy"  # ends the name of a mask


def feature_arrays(folder: Path) -> dict[Path, tuple[int, int]]:
    """The files of a folder that hold a table of numbers, as features do, with its shape; masks and graphs are none."""
    found = {}
    for path in sorted(folder.glob("[!.]*.npy")):
        if path.name.endswith(MASK) or "graph_dict" in path.name:
            continue
        try:
            with path.open("rb") as file:
                shape, _, dtype = array_head(file)
        except (ValueError, OSError):
            continue
        if len(shape) == 2 and shape[1] and dtype.kind in "fiu":
            found[path] = (shape[0], shape[1])
    return found


def feature_key(file: str) -> str | None:
    """The key for a file of features, by the file's name; None where the name does not say what the file holds."""
    stem = Path(file).stem.removesuffix("_feat").lower()
    kind = "image" if stem in VISUAL else stem
    return FEATURES[kind][0] if kind in FEATURES else None


def feature_line(file: str) -> str:
    """What to write into a YAML for a file of features, in words."""
    key = feature_key(file)
    if key:
        return f"the line '{key}: {file}'"
    return f"a line such as 'vision_feature_file: {file}' (text_feature_file and audio_feature_file name other modalities)"


def yaml_lines(folder: Path) -> list[str]:
    """The lines of a YAML for what a folder holds; none where it holds no interactions."""
    interactions = sorted(folder.glob("[!.]*.inter"), key=lambda path: path.stem != folder.name)
    if not interactions:
        return []
    features = [(feature_key(path.name), path.name) for path in feature_arrays(folder)]
    lines = {"inter_file_name": interactions[0].name} | {key: file for key, file in reversed(features) if key}
    return [f"{key}: {file}" for key, file in lines.items()]
