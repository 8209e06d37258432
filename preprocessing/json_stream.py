"""Large JSON files an element at a time: COCO files of a whole dataset do not fit into memory comfortably."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from finepose_mp.preprocessing.unpickling import DamagedFileError

_PIECE = 1 << 20  # characters read at once
_LONGEST = 64 << 20  # characters of one element; nothing sensible is longer
_SPACE = re.compile(r"[\s,]*")
_END = re.compile(r"[\s,\]}]")


def elements(path: Path, *keys: str) -> Iterator[tuple[str, object]]:
    """Pairs of key and element of the lists under top-level keys of a JSON object, in file order.

    Raises:
        DamagedFileError: not JSON, truncated, or no object at the top; what came before has been given.
    """
    with open(path, encoding="utf-8") as file:
        text = _Text(file, path)
        try:
            text.expect("{")
            while text.next() != "}":
                key = text.value()
                text.expect(":")
                if text.next() != "[":
                    text.value()
                    continue
                text.expect("[")
                while text.next() != "]":
                    element = text.value()
                    if key in keys:
                        yield key, element
                text.expect("]")
        except (ValueError, RecursionError) as error:
            if isinstance(error, DamagedFileError):
                raise
            raise DamagedFileError(f"{path}: not JSON, or cut off ({error}); download it again") from error


class _Text:
    """A window onto the text of a file, from which values are taken at the front."""

    def __init__(self, file, path: Path) -> None:
        self.file, self.path = file, path
        self.decoder = json.JSONDecoder()
        self.buffer, self.place = "", 0

    def _more(self) -> bool:
        piece = self.file.read(_PIECE)
        self.buffer, self.place = self.buffer[self.place :] + piece, 0
        if len(self.buffer) > _LONGEST:
            raise DamagedFileError(f"{self.path}: an element of more than {_LONGEST} characters")
        return bool(piece)

    def next(self) -> str:
        """The next character that is no blank and no comma, not taken away."""
        while True:
            self.place = _SPACE.match(self.buffer, self.place).end()
            if self.place < len(self.buffer):
                return self.buffer[self.place]
            if not self._more():
                raise DamagedFileError(f"{self.path}: ends in the middle; download it again")

    def expect(self, character: str) -> None:
        """Takes one character away."""
        found = self.next()
        if found != character:
            raise DamagedFileError(f"{self.path}: found {found!r} where a JSON file has {character!r}")
        self.place += 1

    def value(self) -> object:
        """Takes one whole value away."""
        has_own_end = self.next() in '{["'
        while not has_own_end and not _END.search(self.buffer, self.place) and self._more():
            pass  # a number may go on behind the window
        while True:
            try:
                value, self.place = self.decoder.raw_decode(self.buffer, self.place)
                return value
            except ValueError:
                if not self._more():
                    raise
