"""Chunks that are compressed here are read by HDF5 as if it had compressed them."""

import h5py
import numpy as np
import pytest

from finepose_mp import chunks

RNG = np.random.default_rng(0)
POSES = np.cumsum(RNG.normal(size=(2, 300, 3, 17, 2)), axis=1).astype(np.float32) + 1000
HOLES = np.where(RNG.random(POSES.shape) < 0.5, np.nan, POSES).astype(np.float32)
VALUES = {
    "noise": RNG.integers(0, 256, (40000, 3), dtype=np.uint8),  # longer than a stored block may be
    "noise in every plane": np.frombuffer(RNG.bytes(8 * 20000), np.uint64).reshape(20000, 1),
    "measured": POSES,
    "with holes": HOLES,
    "nothing but holes": np.full((2, 100, 1, 17, 2), np.nan, np.float32),
    "constant": np.tile(np.linspace(0, 1, 15), (3, 200, 1)),
    "flags": RNG.integers(0, 2, (3, 70, 2, 17), dtype=np.uint8),
    "one number": np.array([[7]], np.int32),
}


def standard(file: h5py.File, values: np.ndarray, shape: tuple[int, ...]) -> h5py.Dataset:
    """The same with HDF5's own filters."""
    return file.create_dataset("standard", data=values, chunks=shape, compression="gzip", shuffle=True)


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("parts", [1, 2, 3])
def test_what_is_written_is_read(tmp_path, name, parts):
    values = VALUES[name]
    shape = tuple(-(-length // parts) for length in values.shape)  # the last chunks are partly filled
    with h5py.File(tmp_path / "x.h5", "w") as file:
        variable = file.create_dataset("x", values.shape, values.dtype, chunks=shape, **chunks.FILTERS)
        chunks.write(variable, values)
        usual = standard(file, values, shape).id.get_storage_size()
    with h5py.File(tmp_path / "x.h5") as file:
        variable = file["x"]
        assert variable[...].tobytes() == values.tobytes()
        assert variable.compression == "gzip" and variable.shuffle
        assert variable.id.get_storage_size() <= usual + values.nbytes / 4 + 1000


def test_values_are_asked_for_along_the_first_axis_only(tmp_path):
    class Rows:
        """Gives rows as they are asked for, and notes which."""

        def __init__(self) -> None:
            self.asked: list[slice] = []

        def __getitem__(self, rows: slice) -> np.ndarray:
            self.asked.append(rows)
            return POSES[rows]

    with h5py.File(tmp_path / "x.h5", "w") as file:
        variable = file.create_dataset("x", POSES.shape, "f4", chunks=(1, 100, 1, 17, 2), **chunks.FILTERS)
        rows = Rows()
        chunks.write(variable, rows)
        assert variable[...].tobytes() == POSES.tobytes()
    assert rows.asked == [slice(0, 1), slice(1, 2)]
