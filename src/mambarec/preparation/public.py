"""The names of public data sets: what a data set must be to take one, so that no other one stands beside published figures."""

from typing import NamedTuple

from mambarec.base.errors import ConfigError
from mambarec.base.words import command, option


class Public(NamedTuple):
    """What data/README.md says of a public data set.

    maker: the command of prepare.py that makes it; '' where none does. size: users, items and pairs; None where it is unknown.
    split: the rule of `--split`, '' where the source has its own.
    """

    maker: str
    size: tuple[int, int, int] | None
    split: str = "random"


PUBLIC = {
    "baby": Public("amazon", (19_445, 7_050, 160_792)),
    "sports": Public("amazon", (35_598, 18_357, 296_337)),
    "clothing": Public("amazon", (39_387, 23_033, 278_677)),
    "elec": Public("amazon", None),
    "instruments": Public("amazon", (17_112, 6_250, 136_226), "leave-one-out"),
    "microlens": Public("table", None),
    "tiktok": Public("mmssl", (9_308, 6_710, 68_722), ""),
    "demo": Public("", None),
}


def check_name(name: str, maker: str, split: str = "", given: str = "-d") -> None:
    """ConfigError where `prepare <maker>` does not make the public data set of this name, or splits it by another rule."""
    public = PUBLIC.get(name.lower())
    if public is None:
        return
    if maker != public.maker:
        made = f"`{command('prepare', public.maker)}` makes it from its public files" if public.maker else "it is generated"
        raise _taken(name, given, f", and {made}")
    if split != public.split:
        raise _taken(name, given, f", whose split is {option('split', public.split)}")


def check_size(name: str, users: int, items: int, pairs: int) -> None:
    """ConfigError where a data set of a public name has another size than the public one."""
    public = PUBLIC.get(name.lower())
    if public and public.size and (users, items, pairs) != public.size:
        sizes = ["{:,} users, {:,} items and {:,} pairs".format(*size) for size in (public.size, (users, items, pairs))]
        raise _taken(name, "-d", f" with {sizes[0]}; these files give {sizes[1]}")


def _taken(name: str, given: str, why: str) -> ConfigError:
    return ConfigError(
        f"{option(given, name)} is the name of a public data set{why}. Give {option(given)} another name, so that your figures "
        "do not stand beside published ones"
    )
