"""Hostile and damaged files of every kind: never code run, and never an error that does not name the file."""

import io
import json
import pickle
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from raw_archive import files_of
from raw_take import RawTake

from finepose_mp.preprocessing.egohumans import aria, catalogue, colmap, detections, people, transforms
from finepose_mp.preprocessing.egohumans.take import read_take
from finepose_mp.preprocessing.unpickling import DamagedFileError, UnsafeFileError, load_npy, load_pickle

# What hostile pickles call: module, name, argument. Each does something when called, and is importable here.
CALLS = [
    ("os", "system", "true"),
    ("posix", "system", "true"),
    ("subprocess", "Popen", "true"),
    ("subprocess", "getoutput", "true"),
    ("builtins", "eval", "__import__('os').system('true')"),
    ("builtins", "exec", "import os"),
    ("builtins", "__import__", "antigravity"),
    ("builtins", "open", "/etc/passwd"),
    ("builtins", "getattr", "x"),
    ("builtins", "input", "x"),
    ("__builtin__", "eval", "1"),
    ("importlib", "import_module", "antigravity"),
    ("runpy", "run_path", "/dev/null"),
    ("pty", "spawn", "true"),
    ("webbrowser", "open", "http://localhost"),
    ("shutil", "rmtree", "/nonexistent"),
    ("socket", "create_connection", "localhost"),
    ("pickle", "loads", "cos\nsystem\n."),
    ("marshal", "loads", "x"),
    ("timeit", "timeit", "1"),
    ("numpy", "load", "/etc/passwd"),
    ("numpy", "fromfile", "/etc/passwd"),
    ("numpy.f2py.crackfortran", "myeval", "1"),
    ("numpy.testing._private.utils", "runstring", "1"),
    ("ctypes", "CDLL", "libc.so.6"),
    ("operator", "attrgetter", "system"),
    ("functools", "partial", "x"),
    ("copyreg", "_reconstructor", "x"),
    ("types", "FunctionType", "x"),
]


def _text(value: str) -> bytes:
    return b"X" + len(value.encode()).to_bytes(4, "little") + value.encode()


# The ways of a pickle to call something, as the opcodes between its start and its end.
FORMS = {
    "global": lambda m, n, a: f"c{m}\n{n}\n".encode() + b"(" + _text(a) + b"tR",
    "stack_global": lambda m, n, a: _text(m) + _text(n) + b"\x93(" + _text(a) + b"tR",
    "inst": lambda m, n, a: b"(" + _text(a) + f"i{m}\n{n}\n".encode(),
    "obj": lambda m, n, a: b"(" + f"c{m}\n{n}\n".encode() + _text(a) + b"o",
    "newobj": lambda m, n, a: f"c{m}\n{n}\n".encode() + b"(" + _text(a) + b"t\x81",
    "build": lambda m, n, a: f"c{m}\n{n}\n".encode() + b"(" + _text(a) + b"d" + b"b",
}

_watched: list[str] | None = None
# What no parser does; the audit hooks of CPython see it even when it happens in C.
_FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "os.remove", "subprocess.", "socket.", "ctypes.",
              "shutil.", "open", "exec", "import", "pty.", "webbrowser.")  # fmt: skip


def _audit(event: str, arguments: tuple) -> None:
    if _watched is not None and event.startswith(_FORBIDDEN):
        _watched.append(f"{event} {arguments}")


sys.addaudithook(_audit)
"".encode("raw_unicode_escape")  # Python imports this codec of old pickles when it first meets one


@contextmanager
def nothing_may_happen():
    """Fails when anything is started, opened, imported or executed inside the block."""
    global _watched
    _watched = []
    try:
        yield
        assert _watched == []
    finally:
        _watched = None


def nested(stream: bytes) -> bytes:
    """The pickle stream of a dictionary of people with what `stream` makes in an array of objects inside it."""
    whole = pickle.dumps({"aria01": np.array([{"keypoints": "HERE"}], dtype=object)}, 2)
    mark = pickle.dumps("HERE", 2)[2:-1].split(b"q")[0]
    assert whole.count(mark) == 1
    return whole.replace(mark, stream)


def as_npy(pickled: bytes, shape: tuple) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "|O", "fortran_order": False, "shape": shape})
    return stream.getvalue() + pickled


def test_the_watch_sees_what_an_exploit_does():
    hostile = b"\x80\x02" + FORMS["global"]("os", "system", "true") + b"."
    with pytest.raises(AssertionError), nothing_may_happen():
        pickle.loads(hostile)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("module, name, argument", CALLS, ids=lambda value: value[:20])
def test_exploits_are_refused_by_name_wherever_they_hide(module, name, argument, form):
    attack = FORMS[form](module, name, argument)
    alone, inside = b"\x80\x02" + attack + b".", nested(attack)
    for file_name, load, data in (
        ("transforms.pkl", transforms.parse_transforms, alone),
        ("transforms.pkl", transforms.parse_transforms, inside),
        ("00001.npy", people.parse_poses, as_npy(alone, ())),
        ("00001.npy", people.parse_poses, as_npy(inside, ())),
        ("00001.npy", detections.parse_detections, as_npy(inside, (1,))),
    ):
        with nothing_may_happen(), pytest.raises(UnsafeFileError) as error:
            load(data, file_name)
        assert file_name in str(error.value) and f"{module}.{name}" in str(error.value)


@pytest.mark.parametrize(
    "stream",
    [
        b"\x80\x02\x82\x01.",  # an entry of the extension registry
        b"\x80\x02" + _text("id") + b"Q.",  # a persistent id
        b"Pid\n.",
        b"\x80\x02cnumpy\nndarray\n)\x81}.",
        b"\x80\x05\x97.",  # an out-of-band buffer
    ],
)
def test_other_ways_out_of_a_pickle_lead_nowhere(stream):
    with nothing_may_happen(), pytest.raises((DamagedFileError, UnsafeFileError), match=r"x\.pkl"):
        load_pickle(stream, "x.pkl")


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """The content after one to three of: a byte changed, bytes removed, put in or repeated, the end cut off."""
    for _ in range(rng.integers(1, 4)):
        place, length = int(rng.integers(len(content) + 1)), int(rng.integers(1, 13))
        before, after = content[:place], content[place:]
        match rng.choice(["change", "flip", "flip", "remove", "insert", "repeat", "cut"]):
            case "change":
                content = before + rng.bytes(1) + after[1:]
            case "flip":
                content = before + bytes(byte ^ 1 << rng.integers(8) for byte in after[:1]) + after[1:]
            case "remove":
                content = before + after[length:]
            case "insert":
                content = before + rng.bytes(length) + after
            case "repeat":
                content = before + after[:length] + after
            case "cut":
                content = before
    return content


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, bytes]:
    take = RawTake(3)
    take.simulated = json.dumps({"scene": "Tagging", "action": "playing tag", "seed": 1})
    take.manual["cam01"] = np.eye(4)
    return files_of(take.write(tmp_path_factory.mktemp("take")))


FIT, RAW, FOUND = (f"processed_data/{name}" for name in ("fit_poses3d", "poses3d", "poses2d"))
WORKPLACE = "colmap/workplace"
PARSERS = {
    f"{FIT}/00001.npy": people.parse_poses,
    f"{RAW}/00001.npy": people.parse_poses,
    f"{FOUND}/cam01/rgb/00001.npy": detections.parse_detections,
    f"{FOUND}/aria02/rgb/00001.npy": detections.parse_detections,
    f"{WORKPLACE}/cam01.npy": load_npy,
    f"{WORKPLACE}/colmap_from_aria_transforms.pkl": transforms.parse_transforms,
    f"{WORKPLACE}/cameras.txt": colmap.parse_cameras,
    f"{WORKPLACE}/images.txt": colmap.parse_images,
    "ego/aria01/calib/00001.txt": aria.parse_calibration,
}


@pytest.mark.filterwarnings("ignore:invalid escape sequence")  # from NumPy, which reads headers as Python literals
@pytest.mark.parametrize("path", PARSERS)
def test_a_mutated_file_is_read_or_named_and_nothing_runs(files, path):
    rng = np.random.default_rng(0)
    named = 0
    for _ in range(1000):
        content = mutated(files[path], rng)
        with nothing_may_happen():
            try:
                PARSERS[path](content, path)
            except (DamagedFileError, UnsafeFileError) as error:
                assert path in str(error)
                named += 1
    assert 100 < named < 1000


# How far a number may be off without a finding: what people and detectors do is no smaller. Fixed cameras have the
# widest margin: there are two here, one without detections, so nothing contradicts a wrong place of it.
UNNOTICED = {
    "joints_3d_world": 0.12,  # metres
    "world_to_camera": 3.0,  # metres and entries of rotations
    "camera_params": 20.0,  # pixels
    "joints_2d_projected": 150.0,
    "joints_2d_detected": 300.0,
    "image_size": 0,
    "frame": 0,
}
UNNOTICED_IN_CALIBRATIONS = {"world_to_camera": 0.03, "joints_2d_projected": 5.0}


class MemoryTake:
    """A take in memory, as a source of its files."""

    location = "memory"

    def __init__(self, files: dict[str, bytes]) -> None:
        self._files = files

    def names(self, folder: str) -> list[str]:
        start = f"{folder}/" if folder else ""
        return sorted({name[len(start) :].split("/")[0] for name in self._files if name.startswith(start)})

    def read(self, path: str, size: int = -1) -> bytes:
        if path not in self._files:
            raise FileNotFoundError(path)
        return self._files[path] if size < 0 else self._files[path][:size]

    def read_all(self, folder: str, names: Iterable[str]) -> Iterator[bytes]:
        return (self.read(f"{folder}/{name}") for name in names)


def is_changed(found: np.ndarray, expected: np.ndarray, tolerance: float) -> bool:
    """Whether there are numbers that differ; what was left out (NaN) is not wrong."""
    if found.shape != expected.shape:
        return True
    return bool((np.abs(found.astype(float) - expected) > tolerance).any())


def complaints(sequence) -> list[str]:
    return sorted(finding["message"] for finding in sequence.findings if finding["severity"] != "info")


@pytest.mark.filterwarnings("ignore:invalid escape sequence")
@pytest.mark.parametrize(
    "kind", ["/fit_poses3d", "/poses3d", "/poses2d", "/calib", "cameras.txt", "images.txt", "transforms.pkl", ".jpg"]
)
def test_a_flipped_bit_changes_no_number_unnoticed(tmp_path, kind):
    files = files_of(RawTake().write(tmp_path / "take"))
    facts = catalogue.take("01_tagging", "001_tagging")
    sound = read_take(MemoryTake(files), facts)
    candidates = [path for path in files if kind in path]
    rng = np.random.default_rng(0)
    for _ in range(60):
        path = candidates[rng.integers(len(candidates))]
        data = bytearray(files[path])
        data[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
        try:
            with nothing_may_happen():
                sequence = read_take(MemoryTake(files | {path: bytes(data)}), facts)
        except ValueError as error:
            assert path in str(error)
            continue
        tolerances = UNNOTICED | (UNNOTICED_IN_CALIBRATIONS if kind == "/calib" else {})
        changed = [
            name for name, far in tolerances.items() if is_changed(getattr(sequence, name), getattr(sound, name), far)
        ]
        assert not changed or complaints(sequence) != complaints(sound), f"{path}: {changed}"
