"""Arrays of cameras that lie in a file are what they would be in memory."""

import numpy as np
from raw_take import RawTake
from small_work import assert_same

from finepose_mp.preprocessing import spilling
from finepose_mp.preprocessing.egohumans import dataset
from finepose_mp.preprocessing.spilling import SpilledArray, camera_array


def test_small_arrays_stay_in_memory_and_large_ones_do_not(tmp_path):
    assert isinstance(camera_array((2, 10, 3), np.float32, tmp_path), np.ndarray)
    large = camera_array((2, spilling.LARGEST_IN_MEMORY), np.float32, tmp_path)
    assert isinstance(large, SpilledArray) and large.nbytes == 8 * spilling.LARGEST_IN_MEMORY


def test_a_spilled_array_gives_what_was_put_in(tmp_path):
    values = np.random.default_rng(0).normal(size=(3, 50, 2, 4))
    spilled = SpilledArray(values.shape, np.float32, tmp_path)
    for k in (2, 0, 1):
        spilled[k] = values[k]
    expected = values.astype(np.float32)
    assert np.array_equal(spilled[1], expected[1]) and np.array_equal(spilled[1:3], expected[1:])
    assert np.array_equal(np.asarray(spilled), expected) and np.shape(spilled) == values.shape
    copied = spilled.copy()
    copied[0] = 7.0  # as in an array, what is smaller is repeated
    assert np.array_equal(spilled[0], expected[0]) and (copied[0] == 7).all() and np.array_equal(copied[2], expected[2])
    assert not list(tmp_path.iterdir()), "the file has no name"


def test_a_take_is_the_same_whatever_lies_in_files(tmp_path, monkeypatch):
    RawTake().write(tmp_path / "raw" / "01_tagging" / "001_tagging")
    takes = dataset.find_takes(tmp_path / "raw")
    dataset.convert(takes, tmp_path / "memory.h5")
    monkeypatch.setattr(spilling, "LARGEST_IN_MEMORY", 0)
    dataset.convert(takes, tmp_path / "spilled.h5")
    assert_same(tmp_path / "spilled.h5", tmp_path / "memory.h5")
