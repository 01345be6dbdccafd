"""The commands of `mambarec`: what each is for, which module does it, and which program of src/ is the same."""

from typing import NamedTuple


class Command(NamedTuple):
    """module: its main() is called. before: the words that come before the user's. program: the file in src/.

    trains: 'models' for what is trained because the user names it, 'studies' for what a report needs; '' for none of it.
    """

    about: str
    module: str
    program: str
    before: tuple[str, ...] = ()
    trains: str = ""


_TRAIN = ("mambarec.cli.train", "main.py")
_REPORT = ("mambarec.cli.report", "report.py")
COMMANDS = {
    "train": Command("train a model, or several, or a grid of settings", *_TRAIN, trains="models"),
    "compare": Command("train several models and test the differences", *_TRAIN, trains="models"),
    "search": Command("search the settings of a model on validation", *_TRAIN, ("--search",), trains="models"),
    "prepare": Command("make a data set from raw files, texts and pictures", "mambarec.cli.prepare", "prepare.py"),
    "recommend": Command("lists for users, similar items, vectors of a finished run", "mambarec.cli.recommend", "recommend.py"),
    "report": Command("tables, figures and pages of finished runs", *_REPORT, trains="studies"),
    "runs": Command("list the runs that there are", *_REPORT, ("runs",)),
    "status": Command("list the runs that are not finished", *_REPORT, ("runs", "--unfinished")),
    "plugin": Command("copy MambaRec into a checkout of MMRec", "mambarec.mmrec.export", "export_plugin.py"),
}


def that_train(what: str) -> frozenset[str]:
    """The commands that train 'models' or 'studies', as their runs record them: 'mambarec train' and 'main.py'."""
    found = {name: one for name, one in COMMANDS.items() if one.trains == what}
    return frozenset({*(f"mambarec {name}" for name in found), *(one.program for one in found.values())})
