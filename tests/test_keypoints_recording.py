"""Recordings: cameras from files, people of several cameras, and what is said about both."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import yaml
from recorded_people import camera_entry, recorded, write_cameras, write_coco

from finepose_mp import schema
from finepose_mp.preprocessing.keypoints import (
    CameraFileError,
    KeypointsError,
    ReadingOptions,
    RecordingOptions,
    read_cameras,
    read_recording,
)

SIZED = ReadingOptions(image_size=(3840, 2160), fps=20)


@pytest.fixture(scope="module")
def take():
    return recorded(frames=30)


class TestCameraFiles:
    def test_opencvs_matrices_are_a_lens_and_a_pose(self, tmp_path):
        rotation = [[0, -1, 0], [0, 0, -1], [1, 0, 0]]
        entry = {"image_size": [1920, 1080], "K": [[1480, 0, 951], [0, 1479, 546], [0, 0, 1]],
                 "D": [-0.11, 0.07, 4e-4, -9e-4], "R": rotation, "T": [0, 1.5, 4]}  # fmt: skip
        (tmp_path / "c.json").write_text(json.dumps(entry))
        (found,) = read_cameras(tmp_path / "c.json").cameras
        assert found.camera.model == "brown_conrady" and found.camera.image_size == (1920, 1080)
        np.testing.assert_allclose(found.camera.params, [1480, 1479, 951, 546, -0.11, 0.07, 4e-4, -9e-4, 0])
        np.testing.assert_allclose(found.camera.world_to_camera, np.column_stack([rotation, [0, 1.5, 4]]), atol=1e-12)

    @pytest.mark.parametrize(
        "change, model",
        [
            ({}, "pinhole"),
            ({"D": [0, 0, 0, 0, 0]}, "pinhole"),
            ({"D": [0.1, 0, 0, 0], "fisheye": True}, "opencv_fisheye"),
            ({"D": [0.1, 0, 0, 0, 0, 0, 0, 0]}, "brown_conrady"),
        ],
    )
    def test_the_lens_follows_from_the_coefficients(self, tmp_path, change, model):
        entry = {"image_size": [640, 480], "K": [[500, 0, 320], [0, 500, 240], [0, 0, 1]], **change}
        (found,) = read_cameras(write_cameras(tmp_path / "c.yaml", entry)).cameras
        assert found.camera.model == model

    def test_a_rotation_vector(self, tmp_path):
        entry = {"model": "pinhole", "params": [500, 500, 320, 240], "image_size": [640, 480],
                 "R": [0, np.pi / 2, 0], "T": [0, 0, 1]}  # fmt: skip
        (found,) = read_cameras(write_cameras(tmp_path / "c.yaml", entry)).cameras
        np.testing.assert_allclose(found.camera.world_to_camera @ [0, 0, 1, 1], [1, 0, 1], atol=1e-9)

    def test_a_camera_that_moves_has_a_pose_for_each_of_its_frames(self, tmp_path, take):
        poses = np.repeat(np.eye(3, 4)[None], 3, axis=0)
        poses[:, 0, 3] = [1, 2, 3]
        entry = {**camera_entry(take, "cam01"), "world_to_camera": poses.tolist(), "frame": [0, 2, 5], "wearer": "anna"}
        (found,) = read_cameras(write_cameras(tmp_path / "c.yaml", entry)).cameras
        assert found.kind == "ego_rgb" and found.wearer == "anna"
        at = found.poses(np.array([0, 1, 2, 5, 6]))[:, 0, 3]
        np.testing.assert_array_equal(at, [1, np.nan, 2, 3, np.nan])

    def test_cameras_of_a_file_of_the_toolkit(self, tmp_path, take):
        with schema.create(tmp_path / "d.h5", "mine", "coco17", "none", "none") as file:
            schema.write_sequence(file, take)
        found = {camera.name: camera for camera in read_cameras(tmp_path / "d.h5").cameras}
        assert list(found) == take.camera
        assert found["cam01"].frame is None and found["aria01/rgb"].wearer == "aria01"
        np.testing.assert_allclose(found["aria01/rgb"].poses(take.frame), take.world_to_camera[0])

    @pytest.mark.parametrize(
        "change, words",
        [
            ({"focal": 3}, "unknown focal; known: D, K, R, T"),
            ({"image_size": None}, r"image_size \(width and height, pixels\): expected 2 numbers, found None"),
            ({"image_size": [640]}, "expected 2 numbers"),
            ({"params": ["a", 1, 2, 3]}, "expected 4 numbers, found"),
            ({"world_to_camera": [[1, 0, 0], [0, 1, 0], [0, 0, 1]]}, r"has shape \(3, 3\), expected \(3, 4\) or"),
            ({"world_to_camera": np.diag([1.0, 1, -1, 1]).tolist()}, "are no rotation"),
            ({"R": np.eye(3).tolist()}, "T is missing; a pose is R and T"),
            ({"R": [0, 91.5, 0], "T": [0, 0, 1]}, "R turns by 92 radians, .*if these are degrees"),
            ({"params": [500, 0, 320, 240]}, "focal lengths of 500 and 0 for an image of 640 x 480"),
            ({"params": [500, 500, 320, 961]}, r"principal point \(320, 961\) lies outside an image of 640 x 480"),
            ({"params": [500, 500, -641, 240]}, r"principal point \(-641, 240\) lies outside an image of 640 x 480"),
            ({"K": [[500, 0, 0], [0, 500, 0], [320, 240, 1]]}, r"expected \[\[fx, 0, cx\].*transposed"),
            ({"camera_matrix": np.eye(3).tolist(), "K": np.eye(3).tolist()}, "camera_matrix and K are the same"),
            ({"fps": 20}, "unknown fps; .*--fps"),
            ({"world_to_camera": [np.eye(3, 4).tolist()] * 2}, "frame .* expected 2 numbers"),
            ({"kind": "ego_rgb"}, "kind 'ego_rgb', wearer 'nobody'"),
            ({"K": np.eye(3).tolist(), "D": [1, 2, 3, 4, 5, 6, 7, 8]}, "8 coefficients D"),
            ({"model": ["pinhole"]}, r"unknown lens model \['pinhole'\]; known"),
            ({"params": [500, 500, 320, 10**400]}, "params .*: expected 4 numbers"),
            ({"K": np.eye(3).tolist(), "D": [1, 2], "fisheye": True}, "cv2.fisheye has 4 coefficients D, found 2"),
        ],
    )
    def test_what_is_wrong_is_named(self, tmp_path, change, words):
        entry = {"name": "door", "model": "pinhole", "params": [500, 500, 320, 240], "image_size": [640, 480], **change}
        with pytest.raises(CameraFileError, match=f"c.yaml: camera door: .*{words}"):
            read_cameras(write_cameras(tmp_path / "c.yaml", entry))

    @pytest.mark.parametrize(
        "params, words",
        [
            ([500, 500, 320, 640], "principal point (320, 640) lies outside an image of 640 x 480"),
            ([500, 500, -50, 240], "principal point (-50, 240) lies outside an image of 640 x 480"),
            ([8, 8, 320, 240], "focal lengths of 8 and 8 for an image of 640 x 480"),
            ([1e5, 1e5, 320, 240], "focal lengths of 100000 and 100000"),
            ([500, -500, 320, 240], "a negative one mirrors the image"),
        ],
    )
    def test_an_unlikely_lens_is_doubted(self, tmp_path, params, words):
        entry = {"name": "door", "model": "pinhole", "params": params, "image_size": [640, 480]}
        (found,) = read_cameras(write_cameras(tmp_path / "c.yaml", entry)).cameras
        (doubt,) = found.doubts
        assert doubt.startswith("camera door: ") and words in doubt

    def test_remarks_and_rosss_keys_are_understood(self, tmp_path):
        lens = {"image_width": 640, "image_height": 480, "camera_matrix": [[500, 0, 320], [0, 500, 240], [0, 0, 1]],
                "distortion_coefficients": {"rows": 1, "cols": 4, "data": [0.1, 0, 0, 0]}}  # fmt: skip
        entry = {**lens, "camera_name": "door", "distortion_model": "equidistant", "projection_matrix": 0, "date": "x"}
        (found,) = read_cameras(write_cameras(tmp_path / "c.yaml", entry, comment="hall 3")).cameras
        assert found.name == "door" and found.camera.model == "opencv_fisheye"

    @pytest.mark.parametrize("text", ["[" * 100_000, "cameras: " + "[" * 5_000])
    def test_nesting_without_end(self, tmp_path, text):
        (tmp_path / "c.yaml").write_text(text)
        with pytest.raises(CameraFileError, match=r"c\.yaml: damaged or of an unexpected form .*docs/PREDICT\.md"):
            read_cameras(tmp_path / "c.yaml")

    FILE_STORAGE = """%YAML:1.0
---
nframes: 12
image_width: 640
image_height: 480
camera_matrix: !!opencv-matrix
   rows: 3
   cols: 3
   dt: d
   data: [ 500., 0., 310., 0., 501., 230., 0., 0., 1. ]
distortion_coefficients: !!opencv-matrix
   rows: 1
   cols: 5
   dt: d
   data: [ -0.1, 0.07, 0., 0., 0.01 ]
rvec: !!opencv-matrix
   rows: 3
   cols: 1
   dt: d
   data: [ 0., 0., 1.5707963267948966 ]
tvec: [0, 1, 2]
"""

    @pytest.mark.parametrize("is_json", [False, True])
    def test_a_file_of_opencv(self, tmp_path, is_json):
        text = self.FILE_STORAGE
        if is_json:
            matrix = dict(type_id="opencv-matrix", dt="d")
            entry = {
                "image_width": 640, "image_height": 480, "tvec": [0, 1, 2], "rvec": [0, 0, np.pi / 2],
                "camera_matrix": {**matrix, "rows": 3, "cols": 3, "data": [500.0, 0, 310, 0, 501, 230, 0, 0, 1]},
                "distortion_coefficients": {**matrix, "rows": 5, "cols": 1, "data": [-0.1, 0.07, 0, 0, 0.01]},
            }  # fmt: skip
            text = json.dumps(entry)
        (tmp_path / "left.yml").write_text(text)
        (found,) = read_cameras(tmp_path / "left.yml").cameras
        assert found.camera.model == "brown_conrady" and found.camera.image_size == (640, 480)
        np.testing.assert_allclose(found.camera.params, [500, 501, 310, 230, -0.1, 0.07, 0, 0, 0.01])
        expected = [[0, -1, 0, 0], [1, 0, 0, 1], [0, 0, 1, 2]]
        np.testing.assert_allclose(found.camera.world_to_camera, expected, atol=1e-9)

    @pytest.mark.parametrize("others", [{"units": "mm"}, {"wrold_up": "+y"}])
    def test_unknown_keys_beside_the_cameras(self, tmp_path, take, others):
        path = write_cameras(tmp_path / "c.yaml", camera_entry(take, "cam01"), **others)
        with pytest.raises(
            CameraFileError, match=f"c.yaml: unknown {next(iter(others))}; known beside `cameras`: world"
        ):
            read_cameras(path)

    @pytest.mark.parametrize("wrapped", [False, True])
    def test_cameras_by_name_are_told_to_be_a_list(self, tmp_path, take, wrapped):
        content = {name: camera_entry(take, name) for name in ("cam01", "cam02")}
        (tmp_path / "c.yaml").write_text(yaml.safe_dump({"cameras": content} if wrapped else content))
        with pytest.raises(CameraFileError, match="expected `cameras`, a list of cameras, each with its `name`"):
            read_cameras(tmp_path / "c.yaml")

    @pytest.mark.parametrize("text", ["{", "- 3", "cameras: []", "a: [b", "\x00"])
    def test_what_is_no_camera_file(self, tmp_path, text):
        (tmp_path / "c.yaml").write_text(text)
        with pytest.raises(CameraFileError, match=r"c\.yaml"):
            read_cameras(tmp_path / "c.yaml")
        with pytest.raises(FileNotFoundError, match="no such camera file"):
            read_cameras(tmp_path / "absent.yaml")

    def test_an_axis_that_is_none(self, tmp_path, take):
        path = write_cameras(tmp_path / "c.yaml", camera_entry(take, "cam01"), world_up="z")
        with pytest.raises(CameraFileError, match="world_up is 'z', expected one of"):
            read_cameras(path)


class TestRecordings:
    def read(self, folder, take, cameras=("cam01", "cam02"), known=True, options=None, **extra):
        files = [write_coco(folder / f"{name}.json", take, name, **extra) for name in cameras]
        path = write_cameras(folder / "c.yaml", *(camera_entry(take, name) for name in cameras)) if known else None
        return read_recording(files, SIZED, RecordingOptions(cameras=path))

    def test_detections_are_where_they_were_and_nothing_is_true(self, tmp_path, take):
        recording = self.read(tmp_path, take)
        sequence = recording.sequence
        assert recording.joint_set == "coco17" and sequence.fps == 20 and sequence.split == "test"
        k = take.camera.index("cam02")
        np.testing.assert_allclose(sequence.world_to_camera[1], take.world_to_camera[k], atol=1e-9)
        roots = [np.nanmean(s[:, :, [11, 12], 0], axis=(0, 2)) for s in
                 (sequence.joints_2d_detected[1], take.joints_2d_detected[k])]  # fmt: skip
        order = np.argmin(np.abs(roots[0][:, None] - roots[1]), axis=1)
        found, expected = sequence.joints_2d_detected[1], take.joints_2d_detected[k][:, order]
        there = np.isfinite(found)
        assert there.mean() > 0.8
        np.testing.assert_allclose(found[there], expected[there], atol=1e-2)
        assert np.isnan(sequence.joints_3d_world).all() and not sequence.in_view.any()

    def test_cameras_of_unknown_pose_share_nobody(self, tmp_path, take):
        recording = self.read(tmp_path, take, known=False)
        assert recording.sequence.person == [f"cam0{c}: person_{p}" for c in (1, 2) for p in (1, 2)]
        assert any("nobody is in two of them" in sentence for sentence in recording.assumed)
        assert np.isnan(recording.sequence.world_to_camera).all()

    def test_ids_of_several_files_do_not_name_people_across_them(self, tmp_path, take):
        recording = self.read(tmp_path, take, track_id=lambda person: person + 1)
        assert recording.sequence.person == ["person_1", "person_2"]
        kinds = [decision["kind"] for decision in recording.decisions]
        assert kinds.count("given") == 4 and kinds.count("same_person") == 2

    def test_ids_of_one_file_with_several_cameras_do(self, tmp_path, take):
        with schema.create(tmp_path / "d.h5", "mine", "coco17", "none", "none") as file:
            schema.write_sequence(file, take)
        recording = read_recording([tmp_path / "d.h5"])
        assert recording.sequence.person == take.person
        assert "an id is the same person in every camera of the file" in recording.assumed

    def test_one_of_several_cameras_without_a_pose(self, tmp_path, take):
        files = [write_coco(tmp_path / f"{name}.json", take, name) for name in ("cam01", "cam02")]
        entries = [camera_entry(take, "cam01"), {**camera_entry(take, "cam02"), "world_to_camera": None}]
        options = RecordingOptions(cameras=write_cameras(tmp_path / "c.yaml", *entries))
        with pytest.raises(CameraFileError, match="no world_to_camera of cam02"):
            read_recording(files, SIZED, options)

    def test_how_well_rays_meet_is_said(self, tmp_path, take):
        (said,) = [s for s in self.read(tmp_path, take).assumed if "by the rays" in s]
        assert re.fullmatch(
            "4 tracks of 2 cameras are 2 people by the rays of their joints; 2 of them are seen by several cameras, "
            r"whose rays pass each other at \d mm",
            said,
        )

    def test_poses_that_fit_no_other_camera_are_warned_of(self, tmp_path, take):
        files = [write_coco(tmp_path / f"{name}.json", take, name) for name in ("cam01", "cam02")]
        entries = [camera_entry(take, name) for name in ("cam01", "cam02")]
        for entry in entries:  # camera to world in place of world to camera
            entry["world_to_camera"] = np.linalg.inv([*entry["world_to_camera"], [0, 0, 0, 1]])[:3].tolist()
        options = RecordingOptions(cameras=write_cameras(tmp_path / "c.yaml", *entries))
        recording = read_recording(files, SIZED, options)
        assert len(recording.sequence.person) == 4
        (said,) = [s for s in recording.assumed if s.startswith("WARNING")]
        assert "nobody in cam01, cam02 could be matched" in said and "millimetres" in said and "camera to world" in said
        assert not any(s.startswith("WARNING") for s in self.read(tmp_path, take).assumed)

    def placed(self, folder, take, places):
        """What is said of the places of cameras whose centres are moved to these, metres; an entry is unused."""
        names = ("cam01", "cam02")[: len(places)]
        files = [write_coco(folder / f"{name}.json", take, name) for name in names]
        entries = [camera_entry(take, name) for name in names]
        for entry, place in zip(entries, places, strict=True):
            rotation = np.array(entry["world_to_camera"])[:, :3]
            entry["world_to_camera"] = np.column_stack([rotation, -rotation @ place]).tolist()
        unused = {**entries[0], "name": "unused", "world_to_camera": np.eye(3, 4).tolist(), "params": [9, 9, 320, 240],
                  "model": "pinhole"}  # fmt: skip
        options = RecordingOptions(cameras=write_cameras(folder / "c.yaml", *entries, unused))
        return [s for s in read_recording(files, SIZED, options).assumed if s.startswith("WARNING") and "stands" in s]

    def test_cameras_kilometres_apart_are_in_millimetres(self, tmp_path, take):
        words = r"c\.yaml: camera cam01 stands 4000 m from camera cam02; .*divide millimetres by 1000\), expected less"
        with pytest.raises(CameraFileError, match=words):
            self.placed(tmp_path, take, [(0, 0, 0), (4000, 0, 0)])

    @pytest.mark.parametrize(
        "places, words",
        [
            ([(0, 0, 0), (350, 0, 0)], ("camera cam01 stands 350 m from camera cam02", "divide millimetres by 1000")),
            ([(4000, 0, 0)], ("stands 4000 m from the world's origin", "divide millimetres by 1000")),
            ([(448000, 5.4e6, 0)], ("from the world's origin", "kept to 0.5 m there, take the origin near the scene")),
            ([(250, 0, 0)], None),
            ([(900, 0, 0), (930, 0, 0)], None),
        ],
    )
    def test_cameras_in_doubtful_places_are_warned_of(self, tmp_path, take, places, words):
        said = self.placed(tmp_path, take, places)
        assert len(said) == (words is not None)
        assert all(word in said[0] for word in words or ())

    def test_doubts_about_a_lens_are_said_where_it_is_used(self, tmp_path, take):
        entry = camera_entry(take, "cam01")
        lens = {**entry, "model": "pinhole", "params": [2000, 2000, -50, 1000]}
        options = RecordingOptions(cameras=write_cameras(tmp_path / "c.yaml", lens))
        said = read_recording([write_coco(tmp_path / "cam01.json", take, "cam01")], SIZED, options).assumed
        assert any(re.match(r"WARNING: .*c\.yaml: camera cam01: the principal point \(-50, 1000\)", s) for s in said)

    def test_cameras_whose_frames_do_not_overlap(self, tmp_path, take):
        file = write_coco(tmp_path / "cam02.json", take, "cam02")
        entries = [{**entry, "image_id": entry["image_id"] + 1000} for entry in json.loads(file.read_text())]
        file.write_text(json.dumps(entries))
        files = [write_coco(tmp_path / "cam01.json", take, "cam01"), file]
        recording = read_recording(files, SIZED)
        (said,) = [s for s in recording.assumed if s.startswith("WARNING")]
        assert "share no frame number" in said and "cam01 0 to 29, cam02 1000 to 1029" in said
        assert recording.sequence.frame.tolist() == [*range(30), *range(1000, 1030)]

    def test_a_sequence_of_what_has_none(self, tmp_path, take):
        file = write_coco(tmp_path / "w.json", take, "cam01")
        with pytest.raises(KeypointsError, match=r"--sequence walk chooses from .*w\.json: no HDF5"):
            read_recording([file], replace(SIZED, sequence="walk"))

    def test_a_single_camera_needs_no_name(self, tmp_path, take):
        entry = {key: value for key, value in camera_entry(take, "cam01").items() if key != "name"}
        (tmp_path / "c.yaml").write_text(yaml.safe_dump(entry))
        files = [write_coco(tmp_path / "walk.json", take, "cam01")]
        recording = read_recording(files, SIZED, RecordingOptions(cameras=tmp_path / "c.yaml"))
        assert recording.sequence.camera == ["walk"]
        np.testing.assert_allclose(recording.sequence.world_to_camera[0, 0], entry["world_to_camera"], atol=1e-9)

    def test_two_files_of_one_name(self, tmp_path, take):
        for folder in ("a", "b"):
            (tmp_path / folder).mkdir()
        files = [write_coco(tmp_path / folder / "cam.json", take, "cam01") for folder in ("a", "b")]
        with pytest.raises(KeypointsError, match="two cameras have one name; found cam, cam"):
            read_recording(files, SIZED)

    def test_frames_far_apart_are_counted_and_it_is_said(self, tmp_path, take):
        file = write_coco(tmp_path / "w.json", take, "cam01")
        entries = [{**entry, "image_id": 100 + 5 * entry["image_id"]} for entry in json.loads(file.read_text())]
        file.write_text(json.dumps(entries))
        recording = read_recording([file], SIZED)
        assert recording.sequence.frame.tolist() == list(range(30)) and recording.sequence.fps == 4
        assert any("frame n of the scene is frame 100 + 5n of the source" in s for s in recording.assumed)

    def test_a_moving_camera_of_unknown_pose_is_steadied(self, tmp_path, take):
        file = write_coco(tmp_path / "w.json", take, "cam01")
        recording = read_recording([file], SIZED, RecordingOptions(camera_moves=True))
        assert any("motion estimated from the people" in sentence for sentence in recording.assumed)
        file = write_coco(tmp_path / "i.json", take, "cam01", track_id=lambda person: person + 1)
        recording = read_recording([file], SIZED, RecordingOptions(camera_moves=True))
        assert "camera i: ids tell people apart, so its motion is not estimated" in recording.assumed

    def test_a_moving_camera_of_known_lens_is_steadied_too(self, tmp_path, take):
        file = write_coco(tmp_path / "w.json", take, "cam01")
        entry = camera_entry(take, "cam01")
        lens = write_cameras(tmp_path / "lens.yaml", {**entry, "world_to_camera": None})
        recording = read_recording([file], SIZED, RecordingOptions(cameras=lens, camera_moves=True))
        assert any("motion estimated from the people" in sentence for sentence in recording.assumed)
        assert any("the camera moves and the world with it" in sentence for sentence in recording.assumed)
        posed = write_cameras(tmp_path / "posed.yaml", entry)
        with pytest.raises(CameraFileError, match=r"posed\.yaml: says the poses .*leave --moving-camera out"):
            read_recording([file], SIZED, RecordingOptions(cameras=posed, camera_moves=True))

    def test_joints_are_those_asked_for(self, tmp_path, take):
        recording = read_recording(
            [write_coco(tmp_path / "w.json", take, "cam01")], SIZED, RecordingOptions(joint_set="h36m17")
        )
        assert recording.joint_set == "h36m17"
        assert any("converted from coco17 to h36m17 by name" in sentence for sentence in recording.assumed)
