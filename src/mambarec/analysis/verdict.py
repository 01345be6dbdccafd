"""What the tests say, in a sentence: which models one model is ahead of, level with or behind. Nothing untested is claimed.

With a reference the tests are those of the significance table, which compare the reference with each other model, and nothing
else. Without one every two models are tested, Holm's correction counts all these pairs, and the sentence is about the model
with the highest mean.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations

from mambarec.analysis.comparison import ALPHA, TESTED, Comparison, Entry
from mambarec.analysis.figures import metric_name
from mambarec.analysis.significance import Paired, holm, paired
from mambarec.base.words import count

AHEAD, LEVEL, BEHIND, UNCLEAR = "ahead of", "level with", "behind", "unclear"
N_NAMED = 3  # models that are named one by one even where "the other four" would do
_WORDS = "no one two three four five six seven eight nine ten eleven twelve".split()


@dataclass(frozen=True)
class Verdict:
    """The sentence of one data set, notes that limit it, how it was tested, and what it is made of.

    subject: the model that the sentence is about, None where nothing was compared. standing: each other model, and how the
    subject stands to it: AHEAD, LEVEL, BEHIND or UNCLEAR.
    """

    sentence: str
    notes: list[str] = field(default_factory=list)
    tested: str = ""
    subject: str | None = None
    standing: dict[str, str] = field(default_factory=dict)


def verdict(comparison: Comparison, dataset: str) -> Verdict:
    """What the tests on a data set say, whatever was run and whatever they found."""
    entries = comparison.column(dataset)
    if not entries:
        return Verdict("No run has finished yet.")
    if len(entries) == 1:
        return Verdict(
            f"Only {entries[0].label} has finished runs, so there is nothing to compare it with.", _limits(comparison, entries)
        )
    of_reference = [test for test in comparison.tests if test.dataset == dataset]
    if of_reference:
        subject = comparison.reference or ""
        standing = {test.label: _standing(test.test, test.wilcoxon_adjusted, test.t_test_adjusted) for test in of_reference}
        pairs = f"{subject} against each other model, {count(len(comparison.tests), 'test')} in all"
    else:
        entries = _of_one_budget(entries)
        if len(entries) == 1:
            return Verdict("The runs have different budgets, so no two rows can be compared.", _limits(comparison, entries))
        subject = max(entries, key=lambda entry: entry.mean(TESTED)).label
        standing = _against_all(entries, subject)
        pairs = f"every two models, {count(len(entries) * (len(entries) - 1) // 2, 'test')} in all"
    return Verdict(
        _sentence(subject, standing),
        [_means(entries, subject), *_limits(comparison, entries)],
        f"Tested: {pairs}, by {metric_name(TESTED)} of each user. Two tests, the Wilcoxon signed-rank test and the paired "
        f"t-test, each with Holm's correction. Ahead or behind: both find a difference (p < {ALPHA})."
        + (" Level: neither does; that does not prove that there is none." if _some(standing, LEVEL) else ""),
        subject,
        standing,
    )


def _of_one_budget(entries: Sequence[Entry]) -> list[Entry]:
    """The rows of the budget that most rows have: of two budgets nothing is compared."""
    groups = [[one for one in entries if one.budget == entry.budget] for entry in entries]
    return max(groups, key=len)


def _standing(test: Paired, wilcoxon: float, t_test: float) -> str:
    """Of the first model, from adjusted p-values: UNCLEAR where one test finds a difference and the other does not."""
    found = {wilcoxon < ALPHA, t_test < ALPHA}
    if len(found) == 2:
        return UNCLEAR
    return (AHEAD if test.difference > 0 else BEHIND) if found == {True} else LEVEL


def _against_all(entries: Sequence[Entry], subject: str) -> dict[str, str]:
    """How one model stands to the others when every two are tested, so that choosing it by its mean costs nothing."""
    pairs = list(combinations(entries, 2))
    tests = [_test(one, other) for one, other in pairs]
    wilcoxon, t_test = holm([test.wilcoxon for test in tests]), holm([test.t_test for test in tests])
    standing = {}
    for (one, other), test, p, q in zip(pairs, tests, wilcoxon, t_test, strict=True):
        found = _standing(test, p, q)
        if one.label == subject:
            standing[other.label] = found
        elif other.label == subject:
            standing[one.label] = {AHEAD: BEHIND, BEHIND: AHEAD}.get(found, found)
    return standing


def _test(one: Entry, other: Entry) -> Paired:
    return paired(one.per_user(TESTED), other.per_user(TESTED))


# words


def _sentence(subject: str, standing: dict[str, str]) -> str:
    """'MambaRec is level with MGCN and ahead of the other eight models.'"""
    groups = {kind: found for kind in (BEHIND, LEVEL, AHEAD) if (found := _some(standing, kind))}
    unclear = _some(standing, UNCLEAR)  # with these nobody is one of "the others"
    rest = max(groups, key=lambda kind: len(groups[kind]), default=None)
    parts = []
    for kind, names in groups.items():
        is_rest = kind == rest and len(names) > N_NAMED and not unclear
        parts.append((kind, names, _rest(names, standing) if is_rest else _named(names)))
    parts.sort(key=lambda part: part[0] == rest and part[2].startswith("the other"))  # "the other" after those it is other than
    sentences = [f"{subject} is {_clauses([f'{kind} {text}' for kind, _, text in parts])}."] if parts else []
    if unclear and not parts:
        sentences.append(f"{subject} was tested against {_named(list(standing))}.")
    if unclear:
        sentences.append(f"Whether it differs from {_list(unclear, 'or')} is unclear: one test says so, the other does not.")
    return " ".join(sentences)


def _clauses(parts: list[str]) -> str:
    """Joined by 'and', after a comma where a part has an 'and' of its own or there are three."""
    if len(parts) == 1:
        return parts[0]
    comma = "," * (len(parts) > 2 or any(" and " in part for part in parts))
    return f"{', '.join(parts[:-1])}{comma} and {parts[-1]}"


def _rest(names: list[str], standing: dict[str, str]) -> str:
    every = len(names) == len(standing)
    return f"all {_number(len(names))} other models" if every else f"the other {_number(len(names))} models"


def _named(names: list[str]) -> str:
    return _list(names) if len(names) <= N_NAMED else f"{_number(len(names))} models ({', '.join(names)})"


def _means(entries: Sequence[Entry], subject: str) -> str:
    """Who has the highest mean, as it is printed, and what the subject has."""
    means = {entry.label: f"{entry.mean(TESTED):.4f}" for entry in entries}
    highest = max(means.values(), key=float)
    best = [label for label, mean in means.items() if mean == highest]
    name = metric_name(TESTED)
    if subject not in best:
        return f"The highest {name} is that of {_list(best)}, {highest}; {subject} has {means[subject]}."
    if len(best) > 1:
        return f"{_list(best)} have the same {name}, {highest}, the highest."
    second = max((mean for label, mean in means.items() if label != subject), key=float)
    next_best = [label for label, mean in means.items() if mean == second and label != subject]
    verb = "is" if len(next_best) == 1 else "are"
    return f"{subject} has the highest {name}, {highest}; next {verb} {_list(next_best)}, {second}."


def _limits(comparison: Comparison, entries: Sequence[Entry]) -> list[str]:
    """What the reader must know before he believes the sentence."""
    notes = []
    single = [entry.label for entry in entries if len(entry.records) == 1]
    if len(entries) > 1 and len(single) == len(entries):
        notes.append("Each model was trained with one seed, so other seeds may give another order.")
    elif single:
        notes.append(f"{_list(single)} {'was' if len(single) == 1 else 'were'} trained with one seed only.")
    caps = sorted({entry.records[0].config["epochs"] for entry in entries if "epochs" in entry.records[0].config})
    if len(caps) > 1:
        notes.append(f"The models did not have the same limit on epochs: it was {_list([f'{cap:,}' for cap in caps], 'or')}.")
    points = sorted({entry.n_points for entry in entries})
    if len(points) > 1:
        notes.append(f"The models did not have the same number of grid points to choose from: {points[0]} to {points[-1]}.")
    if comparison.by_test:
        notes.append("The grid points were chosen on test, so all figures are too high.")
    return notes


def _some(standing: dict[str, str], kind: str) -> list[str]:
    return [label for label, found in standing.items() if found == kind]


def _list(names: Sequence[str], joined: str = "and") -> str:
    """'A', 'A and B', 'A, B and C'."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {joined} {names[-1]}"


def _number(n: int) -> str:
    return _WORDS[n] if n < len(_WORDS) else f"{n}"
