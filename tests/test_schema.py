"""The HDF5 contract: written by us, read by h5py and xarray with no code of ours, versions checked."""

import json
import subprocess
import sys

import h5py
import numpy as np
import pytest
import xarray

from finepose_mp import schema
from finepose_mp.schema import SchemaError
from finepose_mp.skeletons import COCO17

K, T, P, J = 3, 7, 2, 17


def make_sequence(name="01_tagging/001_tagging", seed=0, **changes) -> schema.Sequence:
    rng = np.random.default_rng(seed)
    shape = (K, T, P, J)
    values = dict(
        name=name,
        frame=np.arange(1, T + 1),
        person=["aria01", "aria02"],
        camera=["cam01", "aria01_rgb", "aria01_left"],
        joints_3d_world=rng.normal(size=(T, P, J, 3)).astype("f4"),
        joint_status=rng.integers(0, 3, size=(T, P, J)).astype("u1"),
        world_to_camera=rng.normal(size=(K, T, 3, 4)),
        camera_model=["opencv_fisheye", "aria_fisheye624", "aria_fisheye624"],
        camera_params=rng.normal(size=(K, T, 15)),
        camera_kind=["exo", "ego_rgb", "ego_slam"],
        camera_is_moving=np.array([0, 1, 1]),
        camera_wearer=["", "aria01", "aria01"],
        image_size=np.array([[3840, 2160], [1408, 1408], [480, 640]]),
        joints_2d_projected=rng.normal(size=(*shape, 2)).astype("f4"),
        joints_2d_detected=rng.normal(size=(*shape, 2)).astype("f4"),
        detection_score=rng.random(shape).astype("f4"),
        in_view=rng.integers(0, 2, size=shape).astype("u1"),
        scene="Tagging",
        action="playing tag",
        split="test",
        split_within_scene="val",
        fps=20.0,
        simulated=True,
        subjects=["aria01", "aria02"],
        source_files={"processed_data/fit_poses3d": {"files": 7, "sha256": "00"}},
        findings=[{"check": "gaps", "severity": "info", "message": "ein Häkchen"}],
    )
    return schema.Sequence(**(values | changes))


def write(path, *sequences, overwrite=False):
    with schema.create(path, "EgoHumans", "coco17", "licence", "citation", overwrite=overwrite) as file:
        for sequence in sequences:
            schema.write_sequence(file, sequence)
    return path


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "data.h5", make_sequence(), make_sequence("02_legoassemble/004_legoassemble", seed=1))


def test_everything_written_reads_back(path):
    with schema.open_file(path) as file:
        assert schema.sequence_names(file) == ["01_tagging/001_tagging", "02_legoassemble/004_legoassemble"]
        for seed, name in enumerate(schema.sequence_names(file)):
            expected, found = make_sequence(name, seed), schema.read_sequence(file, name)
            for key, value in vars(expected).items():
                np.testing.assert_array_equal(getattr(found, key), value, err_msg=key)


def make_sequence_with_options(**changes) -> schema.Sequence:
    rng = np.random.default_rng(7)
    options = dict(
        valid_frame=rng.integers(0, 2, T).astype("u1"),
        activity=rng.integers(1, 8, T).astype("i4"),
        activity_names={"1": "Standing/Walking", "7": "Miscellaneous"},
        joints_3d_universal_world=rng.normal(size=(T, P, J, 3)).astype("f4"),
    )
    return make_sequence(**(options | changes))


def test_optional_variables_read_back_and_are_absent_where_a_dataset_has_none(tmp_path):
    path = write(tmp_path / "data.h5", make_sequence("a/plain"), make_sequence_with_options(name="b/more"))
    with schema.open_file(path) as file:
        plain, more = schema.read_sequence(file, "a/plain"), schema.read_sequence(file, "b/more")
        assert not set(schema.OPTIONAL_VARIABLES) & set(file["a/plain"])
        assert "activity_names" not in file["a/plain"].attrs
    for name in (*schema.OPTIONAL_VARIABLES, "activity_names"):
        assert getattr(plain, name) is None
        np.testing.assert_array_equal(getattr(more, name), getattr(make_sequence_with_options(), name), err_msg=name)
    with xarray.open_datatree(path, engine="h5netcdf") as tree:
        for name, variable in schema.OPTIONAL_VARIABLES.items():
            if not name.startswith("predicted_"):
                assert tree["b/more"][name].dims == variable.dims


def test_one_optional_variable_may_come_alone(tmp_path):
    path = write(tmp_path / "data.h5", make_sequence(valid_frame=np.ones(T)))
    with schema.open_file(path) as file:
        assert schema.read_sequence(file, "01_tagging/001_tagging").valid_frame.tolist() == [1] * T
        assert "activity" not in file["01_tagging/001_tagging"]


def test_xarray_reads_it_with_names_units_and_frames(path):
    with xarray.open_datatree(path, engine="h5netcdf") as tree:
        sequence = tree["01_tagging/001_tagging"]
        for name, variable in schema.VARIABLES.items():
            assert sequence[name].dims == variable.dims
            assert {"units", "coordinate_frame", "long_name"} <= set(sequence[name].attrs)
        nose = sequence["joints_2d_detected"].sel(camera="aria01_rgb", person="aria02", joint="nose", uv="u")
        np.testing.assert_array_equal(nose, make_sequence().joints_2d_detected[1, :, 1, 0, 0])
        assert tree.attrs["joint_set"] == "coco17"
        assert list(sequence["joint"].values) == list(COCO17.joints)
        assert sequence["joints_3d_world"].attrs["units"] == "m"


def test_what_xarray_writes_of_it_reads_back(path, tmp_path):
    """It writes numbers among attributes as arrays of one."""
    with xarray.open_datatree(path, engine="h5netcdf") as tree:
        tree.to_netcdf(tmp_path / "again.h5", engine="h5netcdf")
    with schema.open_file(tmp_path / "again.h5") as file:
        found = schema.read_sequence(file, "01_tagging/001_tagging")
    written = make_sequence()
    assert (found.fps, found.simulated) == (written.fps, written.simulated)
    np.testing.assert_array_equal(found.joints_3d_world, written.joints_3d_world.astype("f4"))


def test_plain_h5py_in_a_process_without_our_code_reads_it(path):
    script = (
        "import sys, h5py; f = h5py.File(sys.argv[1]); d = f['01_tagging/001_tagging/joints_3d_world'];"
        "print(d.shape, [dim.label or dim[0].name for dim in d.dims], d.attrs['units'], f['joint'].asstr()[0]);"
        "assert 'finepose_mp' not in sys.modules"
    )
    command = [sys.executable, "-c", script, str(path)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert output.startswith(f"({T}, {P}, {J}, 3)")
    assert "/01_tagging/001_tagging/person" in output
    assert output.rstrip().endswith("m nose")


def test_arrays_are_compressed_and_chunked_by_track(path):
    with h5py.File(path) as file:
        data = file["01_tagging/001_tagging/joints_2d_projected"]
        assert (data.compression, data.shuffle, data.chunks) == ("gzip", True, (1, T, 1, J, 2))


def test_long_findings_are_kept(tmp_path):
    findings = [{"check": "gaps", "severity": "info", "message": "x" * 500}] * 400  # past HDF5's 64 KiB for old formats
    path = write(tmp_path / "data.h5", make_sequence(findings=findings))
    with schema.open_file(path) as file:
        assert schema.read_sequence(file, "01_tagging/001_tagging").findings == findings


def test_existing_output_is_never_overwritten_silently(path):
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match="--overwrite"):
        write(path, make_sequence())
    assert path.read_bytes() == before
    write(path, make_sequence(), overwrite=True)
    with schema.open_file(path) as file:
        assert len(schema.sequence_names(file)) == 1


def test_an_error_leaves_the_previous_file_and_no_litter(path):
    before = path.read_bytes()
    with pytest.raises(RuntimeError, match="in the middle"):
        with schema.create(path, "EgoHumans", "coco17", "", "", overwrite=True) as file:
            schema.write_sequence(file, make_sequence())
            raise RuntimeError("in the middle")
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_killed_writer_leaves_the_previous_file(path):
    before = path.read_bytes()
    script = (
        "import os, signal, sys; from finepose_mp import schema\n"
        "with schema.create(sys.argv[1], 'EgoHumans', 'coco17', '', '', overwrite=True) as file:\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", script, str(path)]).returncode == -9
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"joint_status": np.zeros((T, P, 16))}, r"joint_status: expected shape \(7, 2, 17\) \(frame person joint\)"),
        ({"image_size": np.zeros((2, 2))}, r"image_size: expected shape \(3, 2\)"),
        ({"valid_frame": np.ones(T + 1)}, r"valid_frame: expected shape \(7,\) \(frame\), found \(8,\)"),
        ({"split": "testing"}, "split: found testing, expected one of train, val, test"),
        ({"camera_kind": ["exo", "drone", "exo"]}, "camera_kind: found drone"),
    ],
)
def test_wrong_arrays_are_named(tmp_path, changes, message):
    with pytest.raises(SchemaError, match=f"01_tagging/001_tagging/{message}"):
        write(tmp_path / "data.h5", make_sequence(**changes))
    assert not (tmp_path / "data.h5").exists()


def test_two_takes_of_one_name_are_refused(tmp_path):
    with pytest.raises(SchemaError, match="001_tagging is in the file already"):
        write(tmp_path / "data.h5", make_sequence(), make_sequence())


def test_another_version_says_which_are_known_and_what_to_run(path):
    with h5py.File(path, "a") as file:
        file.attrs["schema_version"] = "2.0"
    with pytest.raises(SchemaError, match=r"schema version '2.0', this reader knows 1.0; convert .*tools/convert.py"):
        schema.open_file(path)


def test_other_hdf5_files_are_refused(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(SchemaError, match=r"other.h5: root attribute schema is None, expected 'finepose_mp'"):
        schema.open_file(tmp_path / "other.h5")


def test_truncated_and_foreign_bytes_are_refused(path, tmp_path):
    (tmp_path / "cut.h5").write_bytes(path.read_bytes()[:-1000])
    (tmp_path / "page.h5").write_text("<html>quota exceeded</html>")
    for name in ("cut.h5", "page.h5"):
        with pytest.raises(SchemaError, match=f"{name}: not a readable HDF5 file"):
            schema.open_file(tmp_path / name)


@pytest.mark.parametrize("mark", [b"OHDR", b"FRHP"])  # the root's header, and where its attributes are
def test_damaged_root_attributes_are_named(path, tmp_path, mark):
    content = bytearray(path.read_bytes())
    content[content.index(mark) + 6] ^= 1
    (tmp_path / "damaged.h5").write_bytes(content)
    with pytest.raises(SchemaError, match=r"damaged\.h5: .*damaged.*convert again"):
        schema.open_file(tmp_path / "damaged.h5")


def test_an_attribute_of_another_kind_is_no_schema(path):
    with h5py.File(path, "a") as file:
        file.attrs["schema"] = np.arange(3)
    with pytest.raises(SchemaError, match=r"root attribute schema is \[0, 1, 2\], expected 'finepose_mp'"):
        schema.open_file(path)


def test_damage_inside_a_sequence_names_file_and_sequence(path):
    with h5py.File(path, "a") as file:
        file["01_tagging/001_tagging"].attrs["findings"] = "[{"
    with (
        schema.open_file(path) as file,
        pytest.raises(SchemaError, match=r"\.h5: damaged, sequence 01_tagging"),
    ):
        schema.read_sequence(file, "01_tagging/001_tagging")


def test_missing_file_says_how_to_make_one(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"tools/convert.py egohumans --out .*none.h5"):
        schema.open_file(tmp_path / "none.h5")


def test_incomplete_sequences_are_named(path):
    with h5py.File(path, "a") as file:
        del file["01_tagging/001_tagging/in_view"]
        del file["01_tagging/001_tagging"].attrs["fps"]
    with schema.open_file(path) as file:
        with pytest.raises(SchemaError, match="01_tagging/001_tagging lacks in_view, fps"):
            schema.read_sequence(file, "01_tagging/001_tagging")
        with pytest.raises(SchemaError, match="no sequence '09/x'; it has 01_tagging/001_tagging"):
            schema.read_sequence(file, "09/x")


def test_attributes_are_plain_text_and_json(path):
    with h5py.File(path) as file:
        attributes = file["01_tagging/001_tagging"].attrs
        assert attributes["action"] == "playing tag"
        assert json.loads(attributes["findings"])[0]["message"] == "ein Häkchen"


def test_predictions_come_back_with_their_hypotheses_and_how_they_were_made(tmp_path):
    sequence = make_sequence()
    truth = sequence.joints_3d_world
    sequence.predicted_3d_world = truth + 0.01
    sequence.predicted_hypotheses_3d_world = np.stack([truth, truth + 0.02])
    sequence.predicted_spread = np.full(truth.shape[:3], 0.01, np.float32)
    sequence.predicted_status = np.ones(truth.shape[:2], np.uint8)
    sequence.prediction = {"run": "demo", "root": "solved"}
    with schema.create(tmp_path / "scene.h5", "mine", "coco17", "mine", "none") as file:
        schema.write_sequence(file, sequence)
    with schema.open_file(tmp_path / "scene.h5") as file:
        again = schema.read_sequence(file, sequence.name)
    with xarray.open_datatree(tmp_path / "scene.h5", engine="h5netcdf") as tree:
        variable = tree[sequence.name]["predicted_hypotheses_3d_world"]
        assert variable.dims == ("hypothesis", "frame", "person", "joint", "xyz")
        assert variable.coords["hypothesis"].values.tolist() == [0, 1]
    assert again.prediction == sequence.prediction
    for name in ("predicted_3d_world", "predicted_hypotheses_3d_world", "predicted_spread", "predicted_status"):
        np.testing.assert_array_equal(getattr(again, name), getattr(sequence, name))
