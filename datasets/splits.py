"""Which takes train, validate and test a model. A take (one recorded sequence) is never divided."""

from collections.abc import Iterable, Mapping
from typing import Protocol

from finepose_mp.schema import SPLITS

VALIDATION_FRACTION = 0.1  # of the official training takes, rounded, at least one
# Fixed, and not the run's seed: runs that differ only in their seed are compared on the same validation takes.
VALIDATION_SEED = 0

_ATTRIBUTE = {"official": "split", "within_scene": "split_within_scene"}


class DataError(ValueError):
    """Files that cannot be used as configured; the message says what was found and what to change."""


class HasTake(Protocol):
    """What `assert_no_leak` needs to know of a take or a track."""

    take: str
    file: object


def sequence_split(attributes: Mapping, scheme: str) -> str:
    """The split that the file states for a sequence: "train", "val" or "test".

    Args:
        attributes: attributes of the sequence's group.
        scheme: "official" (the dataset's own) or "within_scene" (every scene's takes divided).

    Raises:
        DataError: unknown scheme, or a split that is none of the three.
    """
    if scheme not in _ATTRIBUTE:
        raise DataError(f"unknown split scheme {scheme!r}; known: {', '.join(_ATTRIBUTE)}")
    split = attributes.get(_ATTRIBUTE[scheme])
    if split not in SPLITS:
        raise DataError(
            f"sequence attribute {_ATTRIBUTE[scheme]}: found {split!r}, expected one of {', '.join(SPLITS)}"
        )
    return split


def takes_of_split(
    stored: Mapping[str, str],
    scheme: str,
    split: str,
    seed: int = VALIDATION_SEED,
    file_of: Mapping[str, object] | None = None,
) -> list[str]:
    """The takes of one split, sorted.

    Official splits know no validation takes as a rule: whole training takes are then held out, chosen by `seed` and
    the takes' names alone, so neither the order of files nor the test takes change the choice. Each file holds out its
    own, so that training on several data sets validates on all of them, the small ones too.

    Args:
        stored: take -> split stated in the file, as `sequence_split` returns it.
        scheme: "official" or "within_scene".
        split: "train", "val" or "test".
        file_of: take -> file that it is in; None: all are in one.

    Raises:
        DataError: unknown split, or the only training take would have to be held out.
    """
    if split not in SPLITS:
        raise DataError(f"unknown split {split!r}; known: {', '.join(SPLITS)}")
    if scheme == "official" and split != "test":
        stored = {**stored, **dict.fromkeys(_held_out(stored, seed, file_of or {}), "val")}
    return sorted(take for take, found in stored.items() if found == split)


def assert_no_leak(splits: Mapping[str, Iterable[HasTake]]) -> None:
    """Nothing when every take is in one split only, whichever of several files it comes from.

    Args:
        splits: split -> its takes or tracks.

    Raises:
        DataError: a take is in two splits; the message names it, the splits and the files.
    """
    seen: dict[str, tuple[str, object]] = {}
    for split, items in splits.items():
        for item in items:
            other, file = seen.setdefault(item.take, (split, item.file))
            if other != split:
                raise DataError(
                    f"take {item.take} would be in two splits: {other} (from {file}) and {split} (from {item.file}); "
                    "list only one of these files in data.files, or convert again so that they agree"
                )


def _held_out(stored: Mapping[str, str], seed: int, file_of: Mapping[str, object]) -> list[str]:
    """Official training takes that are to validate, from every file that states none; one take trains in any case."""
    files: dict[object, list[str]] = {}
    for take in sorted(stored):
        files.setdefault(file_of.get(take), []).append(take)
    validated = [any(stored[take] == "val" for take in takes) for takes in files.values()]
    training = [[take for take in takes if stored[take] == "train"] for takes in files.values()]
    undivided = [takes for takes, done in zip(training, validated, strict=True) if takes and not done]
    divisible = [takes for takes in undivided if len(takes) > 1]
    if undivided and not divisible and not any(validated):
        divisible = [sorted(take for takes in undivided for take in takes)]  # files of one take each
        if len(divisible[0]) == 1:
            raise DataError(
                f"the official split has one training take ({divisible[0][0]}), so none can be held out for "
                "validation; add files to data.files or scenes to data.scenes, or set data.split_scheme to within_scene"
            )
    return [take for takes in divisible for take in _drawn(takes, seed)]


def _drawn(takes: list[str], seed: int) -> list[str]:
    from sklearn.model_selection import GroupShuffleSplit  # here: over a second at import that no worker needs

    count = max(1, round(VALIDATION_FRACTION * len(takes)))
    splitter = GroupShuffleSplit(n_splits=1, test_size=count, random_state=seed)
    _, drawn = next(splitter.split(takes, groups=takes))
    return [takes[number] for number in drawn]
