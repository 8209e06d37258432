"""Restricted loading: what NumPy writes comes back, what would run code is refused before anything runs."""

import io
import pickle
import struct

import numpy as np
import pytest
from raw_take import CodeInAPickle, npy

from finepose_mp.preprocessing.unpickling import DamagedFileError, UnsafeFileError, load_npy, load_pickle

CONTENT = {
    "pose": np.arange(68.0).reshape(17, 4),
    "single": np.float32(0.5),
    "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "empty": np.zeros((0, 3)),
    "names": np.array(["aria01", "cam01"]),
    "valid": np.array([True, False]),
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_and_containers_come_back_from_every_pickle_protocol(protocol):
    loaded = load_pickle(pickle.dumps({**CONTENT, "list": [1, ("a", {2}), None]}, protocol), "x.pkl")
    assert loaded["list"] == [1, ("a", {2}), None]
    for name, expected in CONTENT.items():
        np.testing.assert_array_equal(loaded[name], expected)
        assert loaded[name].dtype == expected.dtype


def test_pickles_of_numpy_1_name_its_old_module():
    data = pickle.dumps(CONTENT["pose"], 3).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    np.testing.assert_array_equal(load_pickle(data, "x.pkl"), CONTENT["pose"])


@pytest.mark.parametrize("array", [np.eye(4), np.asfortranarray(np.ones((2, 3), "f4")), np.zeros(0), np.array(3)])
def test_plain_npy(array):
    loaded = load_npy(npy(array), "x.npy")
    np.testing.assert_array_equal(loaded, array)
    assert loaded.dtype == array.dtype


def test_npy_of_a_dictionary_and_of_a_list_of_dictionaries():
    np.testing.assert_array_equal(load_npy(npy(CONTENT), "x.npy").item()["pose"], CONTENT["pose"])
    people = load_npy(npy(np.array([{"human_name": "aria01"}, {}], dtype=object)), "x.npy")
    assert people.shape == (2,) and people[0] == {"human_name": "aria01"}


@pytest.mark.parametrize("wrap", [lambda p: p, lambda p: {"aria01": p}, lambda p: [np.eye(2), (p,)]])
def test_code_in_a_pickle_is_refused_and_does_not_run(tmp_path, wrap):
    content = wrap(CodeInAPickle(tmp_path / "ran"))
    for load, data in ((load_pickle, pickle.dumps(content)), (load_npy, npy(np.array({"x": content}, dtype=object)))):
        with pytest.raises(UnsafeFileError, match=r"evil\.file.*system"):
            load(data, "evil.file")
    assert not (tmp_path / "ran").exists()
    pickle.loads(pickle.dumps(content))  # the same bytes do run where nothing holds them back
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "stream",
    [
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"cnumpy\nload\n.",
        b"cnumpy.testing._private.utils\nrunstring\n.",
        b"\x80\x04\x8c\x05numpy\x8c\x0fndarray.tobytes\x93.",  # a dotted way from an allowed name to another
        b"cbuiltins\ngetattr\n.",
    ],
)
def test_names_near_the_allowed_ones_are_refused(stream):
    with pytest.raises(UnsafeFileError, match="nothing was executed"):
        load_pickle(stream, "x.pkl")


def test_arrays_cannot_claim_memory_that_their_bytes_do_not_fill():
    honest = pickle.dumps(np.arange(3.0), 2)
    with pytest.raises(DamagedFileError, match="needs"):
        load_pickle(honest.replace(b"K\x03\x85", b"J\x00\x00\x00\x70\x85"), "x.pkl")
    with pytest.raises(DamagedFileError, match=r"calling numpy\.ndarray"):
        load_pickle(b"cnumpy\nndarray\n((I1000000000\ntS'f8'\ntR.", "x.pkl")


@pytest.mark.parametrize("stream", [b"\x80\x02]r\x00\x00\x00\x70.", b"]p1800000000\n.", b"cx\ny\n]r\xff\xff\xff\xff."])
def test_objects_cannot_have_numbers_for_which_a_table_of_gigabytes_is_made(stream):
    with pytest.raises(DamagedFileError, match=r"x\.pkl.*impossible number"):
        load_pickle(stream, "x.pkl")


def test_dtypes_with_hidden_structure_are_refused():
    with pytest.raises(DamagedFileError, match=r"structured|plain"):
        load_pickle(pickle.dumps(np.zeros(2, [("a", "O"), ("b", "i8")])), "x.pkl")
    with pytest.raises(DamagedFileError, match="expected numbers"):
        load_npy(npy(np.zeros(2, [("a", "f8"), ("b", "i8")])), "x.npy")


def test_a_file_cannot_change_the_loader_for_the_next_file():
    # BUILD with a second state dictionary sets attributes on whatever lies on the stack.
    poison = b"cnumpy.core.multiarray\n_reconstruct\n(N(dS'__defaults__'\n(I1\ntstb."
    load_pickle(poison, "x.pkl")
    np.testing.assert_array_equal(load_pickle(pickle.dumps(np.eye(2)), "y.pkl"), np.eye(2))


@pytest.mark.parametrize("content", [np.eye(4), CONTENT, np.array([{"a": 1}], dtype=object)])
def test_truncation_anywhere_is_an_error_naming_the_file(content):
    data = npy(content)
    for length in [0, 3, 9, 20, len(data) // 2, len(data) - 1]:
        with pytest.raises(DamagedFileError, match=r"00003\.npy"):
            load_npy(data[:length], "00003.npy")


def test_other_files_with_the_ending_npy():
    with pytest.raises(DamagedFileError, match=r"\.npy header.*<html"):
        load_npy(b"<html>quota exceeded</html>", "00001.npy")


@pytest.mark.parametrize("shape", ["(1000000000,)", "(100000, 100000)", "(-1,)", "(2, 'a')", "('x' * 9,)"])
def test_absurd_headers_are_refused_before_memory_is_asked_for(shape):
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (63 - (len(header) + 10) % 64) + b"\n"
    data = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(64)
    with pytest.raises(DamagedFileError, match=r"x\.npy"):
        load_npy(data, "x.npy")


def test_header_and_content_must_agree():
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "|O", "fortran_order": False, "shape": (5,)})
    with pytest.raises(DamagedFileError, match=r"holds object \(2,\) where its header says object \(5,\)"):
        load_npy(stream.getvalue() + pickle.dumps(np.array([{}, {}], dtype=object)), "x.npy")
    with pytest.raises(DamagedFileError, match="holds dict"):
        load_npy(stream.getvalue() + pickle.dumps({}), "x.npy")
