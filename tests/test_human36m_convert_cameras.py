"""Human3.6M's cameras: the built-in table, metadata.xml, and cameras.h5 of 3d-pose-baseline's tree."""

import json
import re

import h5py
import numpy as np
import pytest

from finepose_mp.cameras import project
from finepose_mp.preprocessing.human36m import calibration, dataset, synthetic
from finepose_mp.preprocessing.human36m.archive import find_archive
from finepose_mp.preprocessing.human36m.files import RawDataError
from finepose_mp.preprocessing.human36m.poses import CdfPoses

CLIP = {("S5", "Smoking"): 5}


def published_projection(points, lens):
    """Pixels of camera points, written out from the publication of the model: no code of ours."""
    fx, fy, cx, cy, k1, k2, k3, p1, p2 = lens
    x, y = points[..., 0] / points[..., 2], points[..., 1] / points[..., 2]
    r2 = x * x + y * y
    factor = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3 + p1 * y + p2 * x
    return np.stack([fx * (x * factor + p2 * r2) + cx, fy * (y * factor + p1 * r2) + cy], axis=-1)


def test_the_table_is_the_published_one(shared):
    published = json.loads((shared / "formats" / "human36m_cameras.json").read_text())
    assert list(calibration.camera_names()) == published["camera_order"]
    for subject, by_camera in published["extrinsics"].items():
        for name, camera in calibration.built_in().cameras(subject).items():
            said = by_camera[name]
            np.testing.assert_allclose(camera.world_to_camera[:, :3], said["R_world_to_camera"], atol=1e-14)
            np.testing.assert_allclose(camera.world_to_camera[:, 3] * 1000, said["t_world_to_camera"], atol=1e-9)
            lens = [published["intrinsics"][name][key] for key in "fx fy cx cy k1 k2 k3 p1 p2".split()]
            assert camera.params.tolist() == lens


def test_sizes_of_images_are_those_of_the_subjects_videos(shared):
    said = json.loads((shared / "formats" / "human36m_frame_counts.json").read_text())["image_size_hw_by_camera"]
    for subject, text in said.items():
        heights_and_widths = np.array(re.findall(r"\d+", text), int).reshape(4, 2)
        assert [list(size) for size in calibration.image_sizes(subject).values()] == heights_and_widths[
            :, ::-1
        ].tolist()


def test_points_project_as_in_the_fields_own_code(shared):
    golden = np.load(shared / "golden" / "metrics" / "golden_metrics.npz")
    for s, number in enumerate(golden["camera/subjects"]):
        cameras = calibration.built_in().cameras(f"S{number}")
        for k, name in enumerate(golden["camera/ids"]):
            camera = cameras[str(name)]
            points = camera.to_camera(golden["camera/world_m"][s, k].astype(float))
            pixels = project(points, camera.model, camera.params)
            np.testing.assert_allclose(points * 1000, golden["camera/baseline3d_camera_mm_f64"][s, k], atol=1e-3)
            np.testing.assert_allclose(pixels, golden["camera/baseline3d_px_f64"][s, k], atol=1e-3)


def test_projected_joints_in_the_file_follow_the_published_formula(tmp_path):
    raw = synthetic.write_official(tmp_path / "raw", CLIP)
    dataset.convert(find_archive(raw), tmp_path / "out.h5")
    world = synthetic.make_poses("S5", "Smoking", 5).astype(float)[:, [0, 1, 2, 3]] / 1000
    table = calibration.built_in()
    with h5py.File(tmp_path / "out.h5") as file:
        for k, name in enumerate(calibration.camera_names()):
            rotation, translation = file["S5/Smoking/world_to_camera"][k, 0, :, :3], table.poses["S5"][name][3:] / 1000
            expected = published_projection((world - translation) @ rotation.T, table.lenses[name])
            np.testing.assert_allclose(file["S5/Smoking/joints_2d_projected"][k, :, 0, :4], expected, atol=1e-3)


def test_joints_outside_the_image_are_not_in_view(tmp_path):
    poses = synthetic.make_poses("S5", "Smoking", 5) + np.float32([2500, 0, 0])
    synthetic.write_cdf(tmp_path / "raw/S5/MyPoseFeatures/D3_Positions/Smoking.cdf", poses)
    dataset.convert(find_archive(tmp_path / "raw"), tmp_path / "out.h5")
    world, table = poses.astype(float)[:, [0, 1, 2, 3]] / 1000, calibration.built_in()
    with h5py.File(tmp_path / "out.h5") as file:
        clip = file["S5/Smoking"]
        in_view, pixels = clip["in_view"][:, :, 0], clip["joints_2d_projected"][:, :, 0]
        for k, name in enumerate(calibration.camera_names()):
            points = (world - table.poses["S5"][name][3:] / 1000) @ clip["world_to_camera"][k, 0, :, :3].T
            expected = published_projection(points, table.lenses[name])
            inside = ((expected >= 0) & (expected < calibration.image_sizes("S5")[name])).all(axis=-1)
            np.testing.assert_array_equal(in_view[k, :, :4], inside)
    assert {0, 1} == set(in_view[:, :, :4].ravel())
    np.testing.assert_array_equal(np.isfinite(pixels).all(axis=-1), in_view == 1)


def test_metadata_and_table_give_the_same_cameras_to_the_bit(tmp_path):
    synthetic.write_metadata(tmp_path / "metadata.xml")
    read = calibration.read_metadata(tmp_path / "metadata.xml")
    assert calibration.compare_with_table(read) == []
    for subject in calibration.built_in().poses:
        for name, camera in calibration.built_in().cameras(subject).items():
            np.testing.assert_array_equal(read.cameras(subject)[name].world_to_camera, camera.world_to_camera)
            np.testing.assert_array_equal(read.cameras(subject)[name].params, camera.params)


@pytest.mark.parametrize("place", ["raw", "."])
def test_cameras_of_a_metadata_file_are_used_and_their_difference_is_said(tmp_path, place):
    raw = synthetic.write_official(tmp_path / "raw", CLIP)
    synthetic.write_metadata(tmp_path / place / "metadata.xml")
    centre = repr(float(calibration.built_in().poses["S5"]["55011271"][3]))
    path = tmp_path / place / "metadata.xml"
    path.write_text(path.read_text().replace(centre, repr(float(centre) + 500)))
    report = dataset.convert(find_archive(raw), tmp_path / "out.h5")
    with h5py.File(tmp_path / "out.h5") as file:
        rotation, translation = np.split(file["S5/Smoking/world_to_camera"][1, 0], [3], axis=1)
        assert "metadata.xml" in file["S5/Smoking"].attrs["source_files"]
    assert (-rotation.T @ translation)[0] == pytest.approx(float(centre) / 1000 + 0.5)
    found = [f for f in report.outcomes[0].findings if f["check"] == "calibration.table"]
    assert [f["camera"] for f in found] == ["55011271"] and "0.4" in found[0]["message"]
    assert any("55011271 of S5" in line for line in report.summary())


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda text: text.replace("<item>60457274</item>", ""), "3 cameras"),
        (lambda text: text.replace("60457274", "12345678"), "12345678"),
        (lambda text: re.sub(r"\[\S+ \S+ \S+ \S+ \S+ \S+ ", "[", text), "294 numbers, expected 300"),
        (lambda text: text.replace("[", "[nan? "), "more than numbers"),
        (lambda text: text[: len(text) // 2], "not readable XML"),
        (lambda text: "<!DOCTYPE html><html><body>Please log in</body></html>", "web page"),
    ],
)
def test_metadata_that_is_not_human36ms_is_refused(tmp_path, change, message):
    raw = synthetic.write_official(tmp_path / "raw", CLIP, with_metadata=True)
    path = raw / "metadata.xml"
    path.write_text(change(path.read_text()))
    with pytest.raises(RawDataError, match=message) as caught:
        find_archive(raw)
    assert "metadata.xml" in str(caught.value)


def test_cameras_of_the_tree_are_compared_with_the_table(tmp_path):
    raw = synthetic.write_baseline(tmp_path / "h36m", {**CLIP, ("S6", "Smoking"): 5})
    assert find_archive(raw).deviations == []
    with h5py.File(raw / "cameras.h5", "r+") as file:
        rotation = file["subject5/camera2/R"]
        rotation[...] = rotation[...].T  # as one gets who forgets MATLAB's order
        file["subject6/camera1/k"][0] += 0.01
    found = find_archive(raw).deviations
    assert [(d.subject, d.camera) for d in found] == [("S5", "55011271"), ("S6", "54138969")]
    assert "turned" in found[0].message and "lens" in found[1].message
    report = dataset.convert(find_archive(raw), tmp_path / "out.h5")
    assert {
        o.name: [f["camera"] for f in o.findings if f["check"] == "calibration.table"] for o in report.outcomes
    } == {
        "S5/Smoking": ["55011271"],
        "S6/Smoking": ["54138969"],
    }


@pytest.mark.parametrize(
    "break_it, message",
    [
        (lambda group: group.__delitem__("camera4"), "3 cameras"),
        (lambda group: group["camera1"].__delitem__("f"), "camera1"),
    ],
)
def test_cameras_of_the_tree_in_another_number_are_refused(tmp_path, break_it, message):
    raw = synthetic.write_baseline(tmp_path / "h36m", CLIP)
    with h5py.File(raw / "cameras.h5", "r+") as file:
        break_it(file["subject5"])
    with pytest.raises(RawDataError, match=message):
        find_archive(raw)


def test_an_official_file_says_so_when_its_columns_are_not_those_of_its_folder(tmp_path):
    synthetic.write_cdf(tmp_path / "Posing.cdf", np.zeros((4, 32, 2)))
    with pytest.raises(RawDataError, match=r"Posing\.cdf.*\(1, frames, 96\)"):
        CdfPoses(tmp_path / "Posing.cdf", tmp_path).read()
