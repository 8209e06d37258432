"""Conversion of any dataset: one file whatever the order and number of jobs, and what becomes of bad input."""

from functools import partial

import joblib
import numpy as np
import pytest
import xarray
from small_work import ROOT, assert_same, convert, fail, sequence, work

from finepose_mp import schema
from finepose_mp.preprocessing import conversion
from finepose_mp.preprocessing.conversion import ConversionError, Outcome, Work

NAMES = ["S9/Greeting 1", "S1/Walking", "TS5", "S9/Eating"]


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The file of all names, written in one go without parts."""
    path = tmp_path_factory.mktemp("reference") / "out.h5"
    with schema.create(path, **ROOT) as file:
        for name in sorted(NAMES):
            schema.write_sequence(file, sequence(name))
    return path


def test_the_file_is_what_writing_one_sequence_after_the_other_gives(reference, tmp_path):
    outcomes = convert([work(name) for name in NAMES], tmp_path / "out.h5")
    assert_same(tmp_path / "out.h5", reference)
    assert [(outcome.name, outcome.frames, outcome.error) for outcome in outcomes] == [
        (name, 4, None) for name in sorted(NAMES)
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["out.h5"]


@pytest.mark.parametrize("jobs, order", [(1, -1), (2, 1), (3, -1)])
def test_data_does_not_depend_on_jobs_or_order(reference, tmp_path, jobs, order):
    convert([work(name) for name in NAMES][::order], tmp_path / "out.h5", jobs=jobs)
    assert_same(tmp_path / "out.h5", reference)


def test_other_programs_see_dimensions_by_name(tmp_path):
    convert([work(name) for name in NAMES], tmp_path / "out.h5")
    with xarray.open_datatree(tmp_path / "out.h5", engine="h5netcdf") as tree:
        joints = tree["S9/Greeting 1"].joints_3d_world
        assert joints.dims == ("frame", "person", "joint", "xyz")
        np.testing.assert_array_equal(joints.sel(person="anna"), np.float32(sequence(NAMES[0]).joints_3d_world[:, 0]))


def test_long_findings_survive_the_assembly(tmp_path):
    def read():
        long = sequence("a")
        long.findings = [{"check": "x", "severity": "info", "message": "m" * 500}] * 400  # over 64 KiB
        return long

    convert([Work("a", read, "a", "1")], tmp_path / "out.h5")
    with schema.open_file(tmp_path / "out.h5") as file:
        assert len(schema.read_sequence(file, "a").findings) == 400


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_broken_sequence_is_reported_and_skipped(tmp_path, jobs):
    broken = [
        Work("b", partial(fail, ValueError("b/annot.mat: no such key")), "b", "1"),
        Work("c", partial(fail, PermissionError(13, "Permission denied", "c.mat")), "c", "1"),
        Work("d", partial(sequence, "d"), "d", partial(fail, FileNotFoundError(2, "No such file", "d.mat"))),
    ]
    seen = []
    outcomes = convert([work("a"), *broken, work("e")], tmp_path / "out.h5", jobs=jobs, on_done=seen.append)
    errors = {outcome.name: outcome.error for outcome in outcomes}
    assert errors["a"] is None and errors["e"] is None
    assert errors["b"] == "b/annot.mat: no such key"
    assert "PermissionError" in errors["c"] and "c.mat" in errors["c"]
    assert "FileNotFoundError" in errors["d"] and "d.mat" in errors["d"]
    assert sorted(seen, key=lambda outcome: outcome.name) == outcomes
    with schema.open_file(tmp_path / "out.h5") as file:
        assert schema.sequence_names(file) == ["a", "e"]


def test_a_sequence_that_does_not_keep_the_contract_leaves_no_trace(tmp_path):
    def wrong_shape():
        bad = sequence("b")
        bad.in_view = bad.in_view[:1]
        return bad

    def not_json():
        bad = sequence("c")
        bad.findings = [{"check": object()}]
        return bad

    works = [work("a"), Work("b", wrong_shape, "b.mat", "1"), Work("c", not_json, "c.mat", "1")]
    outcomes = convert(works, tmp_path / "out.h5")
    assert "b/in_view: expected shape" in outcomes[1].error
    assert "TypeError" in outcomes[2].error
    with schema.open_file(tmp_path / "out.h5") as file:
        assert list(file["/"])[:1] == ["a"] and "c" not in file


def test_a_source_may_hold_several_sequences(tmp_path):
    def read():
        yield sequence("b")
        yield Outcome("a", "box", error="box: a is incomplete")
        yield sequence("0")
        raise ValueError("box: torn at the end")

    outcomes = convert([Work("box", read, "box", "1")], tmp_path / "out.h5")
    assert [(outcome.name, outcome.error) for outcome in outcomes] == [
        ("0", None), ("a", "box: a is incomplete"), ("b", None), ("box", "box: torn at the end"),
    ]  # fmt: skip
    with schema.open_file(tmp_path / "out.h5") as file:
        assert schema.sequence_names(file) == ["0", "b"]


def test_one_name_from_two_sources(tmp_path):
    works = [
        Work("a", partial(sequence, "a"), "second", "1"),
        Work("a", partial(sequence, "a"), "first", "1"),
        Work("other name", partial(sequence, "a"), "third", "1"),
    ]
    outcomes = convert(works, tmp_path / "out.h5")
    assert [(outcome.source, bool(outcome.error)) for outcome in outcomes] == [
        ("first", False), ("second", True), ("third", True),
    ]  # fmt: skip
    assert "second is a second copy of a, which first has too" in outcomes[1].error


@pytest.mark.parametrize("jobs", [1, 2])
def test_the_next_copy_is_read_where_the_first_cannot_be(tmp_path, jobs):
    works = [
        Work("a", partial(fail, ValueError("a/annot.mat is missing")), "1st", "1"),
        Work("a", partial(sequence, "a"), "2nd", "1"),
        Work("a", partial(fail, AssertionError("read without need")), "3rd", "1"),
        Work("b", partial(fail, ValueError("b.mat is missing")), "b.mat", "1"),
        Work("heap", partial(sequence, "b"), "heap.zip", "1"),
    ]
    outcomes = convert(works, tmp_path / "out.h5", jobs=jobs)
    assert [(outcome.name, outcome.source, outcome.error) for outcome in outcomes] == [
        ("a", "1st", "a/annot.mat is missing. 2nd was used instead"),
        ("a", "2nd", None),
        ("a", "3rd", "3rd is a second copy of a, which 2nd has too; remove one of them"),
        ("b", "b.mat", "b.mat is missing. heap.zip was used instead"),
        ("b", "heap.zip", None),
    ]
    convert(works[1:2], tmp_path / "alone.h5")
    with schema.open_file(tmp_path / "out.h5") as file, schema.open_file(tmp_path / "alone.h5") as alone:
        assert schema.sequence_names(file) == ["a", "b"]
        np.testing.assert_array_equal(file["a/joints_3d_world"], alone["a/joints_3d_world"])


def test_a_link_at_the_output_is_followed(tmp_path):
    target, out = tmp_path / "elsewhere/target.h5", tmp_path / "out.h5"
    out.symlink_to("elsewhere/target.h5")
    for how in ({}, {"overwrite": True}, {"resume": True}):
        convert([work("a"), *([work("b")] if how else [])], out, **how)
        assert out.is_symlink() and not target.is_symlink()
        with schema.open_file(target) as file:
            assert schema.sequence_names(file) == (["a", "b"] if how else ["a"])
    assert [path.name for path in target.parent.iterdir()] == ["target.h5"]


def test_nothing_is_written_when_nothing_can_be_read(tmp_path):
    with pytest.raises(ConversionError, match=r"none of 1 sequences.*\n  a: a\.mat: broken"):
        convert([Work("a", partial(fail, ValueError("a.mat: broken")), "a.mat", "1")], tmp_path / "out.h5")
    assert list(tmp_path.iterdir()) == []


def test_existing_output_is_replaced_only_when_told_so(tmp_path):
    out = tmp_path / "out.h5"
    out.write_bytes(b"years of work")
    for how in ({}, {"resume": True}):
        with pytest.raises(FileExistsError, match="--overwrite"):
            convert([work("a")], out, **how)
        assert out.read_bytes() == b"years of work" and len(list(tmp_path.iterdir())) == 1
    convert([work("a")], out, overwrite=True)
    with schema.open_file(out) as file:
        assert schema.sequence_names(file) == ["a"]


def test_output_in_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"nothing can be written there.*file/deeper"):
        convert([work("a")], tmp_path / "file/deeper/out.h5")
    with pytest.raises(FileExistsError, match="is a folder; --out names a file"):
        convert([work("a")], tmp_path)


def test_two_conversions_into_one_output_do_not_mix(tmp_path):
    out = tmp_path / "out.h5"

    def read():
        with pytest.raises(BlockingIOError, match=r"another conversion into .*out\.h5 is running"):
            convert([work("b")], out, overwrite=True)
        return sequence("a")

    convert([Work("a", read, "a", "1")], out)
    with schema.open_file(out) as file:
        assert schema.sequence_names(file) == ["a"]


def test_copying_keeps_a_sequence_as_it_is(reference, tmp_path):
    with schema.create(tmp_path / "copy.h5", **ROOT) as target, schema.open_file(reference) as source:
        for name in schema.sequence_names(source):
            conversion.copy_sequence(source, target, name)
    assert_same(tmp_path / "copy.h5", reference)


def test_a_dask_cluster_gives_the_same_file(reference, tmp_path):
    distributed = pytest.importorskip("distributed", reason="the dask backend is tried only where dask is installed")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster),
        joblib.parallel_config("dask"),
    ):
        convert([work(name) for name in NAMES], tmp_path / "out.h5", jobs=None)
    assert_same(tmp_path / "out.h5", reference)
