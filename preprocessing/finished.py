"""What a finished file says about the raw data it was made from, so that a later conversion does only the rest."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import h5py

from finepose_mp import schema
from finepose_mp.preprocessing import parts

_FINGERPRINT = "raw_fingerprint"  # attribute of a sequence; empty when not all of its source could be read


@dataclass(frozen=True)
class Finished:
    """The sequences of a finished file.

    Attributes:
        path: the file.
        names: of all its sequences.
        names_of: fingerprint of a piece of work -> names of what came from it; not of works of which a part failed.
    """

    path: Path
    names: list[str] = field(default_factory=list)
    names_of: dict[str, list[str]] = field(default_factory=dict)


def finished_in(out: Path, root: dict[str, str]) -> Finished:
    """What the file `out` of an earlier conversion holds.

    Raises:
        FileExistsError: it is damaged, not of a conversion, or its root attributes are not `root`.
    """
    try:
        with schema.open_file(out) as file:
            found = {key: file.attrs[key] for key in root}
            names = schema.sequence_names(file)
            fingerprints = {name: str(file[name].attrs[_FINGERPRINT]) for name in names}
            damage = [f"{name}/{what}" for name in names if (what := _damage(file[name]))]
    except KeyError as error:
        raise parts.exists(out, f"it was not written by a conversion, or by an older one ({error})") from error
    except schema.SchemaError as error:
        raise parts.exists(out, str(error)) from error
    differing = [f"its {key} is {found[key]!r}, not {root[key]!r}" for key in root if found[key] != root[key]]
    if differing or damage:
        raise parts.exists(out, ", ".join(differing or damage))
    names_of: dict[str, list[str]] = {}
    for name in names:
        names_of.setdefault(fingerprints[name], []).append(name)
    names_of.pop("", None)
    return Finished(out, names, names_of)


def _damage(sequence: h5py.Group) -> str:
    """What of a sequence cannot be read that reporting it again needs; empty when there is no such thing."""
    key = "frame"
    try:
        len(sequence[key])
        key = "findings"
        for finding in json.loads(sequence.attrs[key]):
            finding["check"], finding["severity"], finding["message"]
    except Exception as error:  # whatever h5py says of damage
        return f"{key} is damaged ({type(error).__name__}: {error})"
    return ""


def note_fingerprint(sequence: h5py.Group, fingerprint: str) -> None:
    """Says in a sequence what it was made from."""
    sequence.attrs[_FINGERPRINT] = fingerprint
