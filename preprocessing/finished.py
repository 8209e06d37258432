"""What a finished file says about the raw data it was made from, so that a later conversion does only the rest."""

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
            differing = [f"its {key} is {found[key]!r}, not {root[key]!r}" for key in root if found[key] != root[key]]
            if differing:
                raise parts.exists(out, ", ".join(differing))
            names = schema.sequence_names(file)
            names_of: dict[str, list[str]] = {}
            for name in names:
                names_of.setdefault(str(file[name].attrs[_FINGERPRINT]), []).append(name)
    except KeyError as error:
        raise parts.exists(out, f"it was not written by a conversion, or by an older one ({error})") from error
    except schema.SchemaError as error:
        raise parts.exists(out, str(error)) from error
    names_of.pop("", None)
    return Finished(out, names, names_of)


def note_fingerprint(sequence: h5py.Group, fingerprint: str) -> None:
    """Says in a sequence what it was made from."""
    sequence.attrs[_FINGERPRINT] = fingerprint
