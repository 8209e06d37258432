"""Files of one layout read together hold what each of them holds on its own, whatever was done to their bytes."""

import io
import pickle

import numpy as np
import pytest
from raw_take import CodeInAPickle, detection, npy

from finepose_mp.preprocessing.egohumans import detections, people
from finepose_mp.preprocessing.egohumans.layouts import Batch, LayoutReader, batches_of_files
from finepose_mp.preprocessing.unpickling import DamagedFileError, UnsafeFileError

PEOPLE = ("aria01", "aria02", "aria04")


def pose_file(rng: np.random.Generator, dtype=np.float64, order="C") -> bytes:
    return npy({person: np.asarray(rng.normal(size=(17, 4)), dtype, order=order) for person in PEOPLE})


def detections_file(rng: np.random.Generator, keypoints: int = 133, **changes) -> bytes:
    entries = [detection(person, tuple(rng.uniform(0, 2000, 2)), keypoints) | changes for person in PEOPLE]
    for entry in entries:
        entry["keypoints"] = entry["keypoints"] + rng.normal(size=(keypoints, 3))
    return npy(np.array(entries, dtype=object))


def as_protocol(data: bytes, protocol: int) -> bytes:
    """The same array as NumPy writes it, pickled with another protocol."""
    array = np.load(io.BytesIO(data), allow_pickle=True)
    header_end = 10 + int.from_bytes(data[8:10], "little")
    return data[:header_end] + pickle.dumps(array, protocol=protocol)


class Counted:
    """A parser that counts its calls."""

    def __init__(self, parse) -> None:
        self.parse, self.calls = parse, 0

    def __call__(self, data: bytes, name: str):
        self.calls += 1
        return self.parse(data, name)


def one_by_one(files: list[bytes], parse) -> dict[int, list | str]:
    content = {}
    for number, data in enumerate(files, start=1):
        try:
            content[number] = parse(data, f"{number:05d}.npy")
        except DamagedFileError as error:
            content[number] = str(error)
    return content


def flat(batches: list[Batch], damaged: dict[int, str]) -> dict[int, list | str]:
    content: dict[int, list | str] = dict(damaged)
    for batch in batches:
        for row, frame in enumerate(batch.frames.tolist()):
            assert frame not in content
            content[frame] = [(key, arrays[row]) for key, arrays in batch.parts]
    return content


def assert_same(files: list[bytes], parse) -> int:
    """Requires the same content read together and one by one; how often the parser was needed."""
    counted = Counted(parse)
    reader = LayoutReader(counted)
    found = flat(*reader.read([(number, f"{number:05d}.npy", data) for number, data in enumerate(files, start=1)]))
    expected = one_by_one(files, parse)
    assert found.keys() == expected.keys()
    for number, content in expected.items():
        if isinstance(content, str):
            assert found[number] == content
            continue
        assert [key for key, _ in found[number]] == [key for key, _ in content]
        for (_, array), (_, alone) in zip(found[number], content, strict=True):
            assert array.dtype == alone.dtype and array.shape == alone.shape
            assert array.tobytes() == alone.tobytes()
    return counted.calls


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64])
def test_poses_of_one_layout_need_the_unpickler_once(dtype):
    rng = np.random.default_rng(1)
    assert assert_same([pose_file(rng, dtype) for _ in range(100)], people.parse_poses) <= 3


def test_numbers_of_another_byte_order():
    rng = np.random.default_rng(10)
    assert_same([pose_file(rng, ">f8") for _ in range(30)], people.parse_poses)


@pytest.mark.parametrize("keypoints", [17, 133])
def test_detections_of_one_layout_need_the_unpickler_once(keypoints):
    rng = np.random.default_rng(2)
    files = [detections_file(rng, keypoints) for _ in range(100)]
    assert assert_same(files, detections.parse_detections) <= 3


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
def test_every_pickle_protocol(protocol):
    rng = np.random.default_rng(3)
    files = [as_protocol(detections_file(rng, 17), protocol) for _ in range(20)]
    calls = assert_same(files, detections.parse_detections)
    assert (calls <= 3) == (protocol >= 3)  # before, byte strings are text whose length depends on the numbers


def test_transposed_arrays_keep_their_order():
    rng = np.random.default_rng(4)
    assert_same([pose_file(rng, order="F") for _ in range(20)], people.parse_poses)


def test_one_array_under_two_names():
    rng = np.random.default_rng(5)
    shared = [np.asarray(rng.normal(size=(17, 4))) for _ in range(20)]
    assert assert_same([npy({"aria01": pose, "aria02": pose}) for pose in shared], people.parse_poses) <= 3


def test_mixed_layouts_and_flags():
    rng = np.random.default_rng(6)
    files = []
    for i in range(120):
        kind = rng.integers(5)
        if kind == 0:
            files.append(npy(np.array([])))
        elif kind == 1:
            files.append(detections_file(rng, 17, is_valid=bool(rng.integers(2))))
        else:
            files.append(detections_file(rng, int(rng.choice([17, 133]))))
        if i % 40 == 39:
            files.append(b"<html>quota exceeded</html>")
    assert_same(files, detections.parse_detections)


def test_flag_inside_a_byte_string_is_read_from_every_file():
    """NumPy's own True and False lie in byte strings, so two files that differ in them only look alike."""
    rng = np.random.default_rng(7)
    files = [detections_file(rng, 17, is_valid=np.bool_(i % 2)) for i in range(40)]
    assert_same(files, detections.parse_detections)


@pytest.mark.parametrize(
    "make, parse", [(pose_file, people.parse_poses), (detections_file, detections.parse_detections)]
)
def test_changed_bytes_never_change_what_a_file_says_alone(make, parse):
    rng = np.random.default_rng(8)
    files = [bytearray(make(rng)) for _ in range(12)]
    for _ in range(1000):
        data = bytearray(make(rng)) if rng.random() < 0.02 else bytearray(files[rng.integers(12)])
        for position in rng.integers(0, len(data), rng.integers(1, 4)):
            data[position] = rng.integers(256)
        files.append(data)
    safe = []
    for data in map(bytes, files):
        try:
            one_by_one([data], parse)
        except UnsafeFileError:  # a changed letter of a module's name
            with pytest.raises(UnsafeFileError):
                LayoutReader(parse).read([(1, "00001.npy", data)])
            continue
        safe.append(data)
    assert len(safe) > 900
    assert_same(safe, parse)


def test_code_among_files_of_one_layout_is_refused(tmp_path):
    rng = np.random.default_rng(9)
    hostile = npy({"aria01": CodeInAPickle(tmp_path / "ran")})
    files = [(k, f"{k:05d}.npy", pose_file(rng)) for k in range(1, 30)] + [(30, "00030.npy", hostile)]
    with pytest.raises(UnsafeFileError, match=r"00030\.npy"):
        LayoutReader(people.parse_poses).read(files)
    assert not (tmp_path / "ran").exists()


def test_files_are_taken_in_batches_of_limited_length():
    taken = []

    def files():
        for number in range(1, 2000):
            taken.append(number)
            yield number, f"{number:05d}.npy", b""

    batches = batches_of_files(files())
    first = next(batches)
    assert len(taken) == len(first) < 1000
    assert [number for batch in (first, *batches) for number, _, _ in batch] == list(range(1, 2000))
