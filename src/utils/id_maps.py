"""Tables that give the users or items of a data set their original ids, MMRec's u_id_mapping.csv and i_id_mapping.csv."""

from pathlib import Path

import pandas as pd

from utils.errors import DataError


def read_id_map(path: Path) -> pd.DataFrame:
    """A table of strings with a header, separated by tabs or commas; DataError when it is none."""
    try:
        with path.open(encoding="utf-8") as file:
            separator = "\t" if "\t" in file.readline() else ","
        return pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8")
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise DataError(f"{path} cannot be read as a table: {error}") from None
