"""tools/predict.py from end to end, with an untrained network: keypoints in, a scene out; and all that can be bad."""

import json
import sys
import types
from dataclasses import replace

import numpy as np
import pytest
from conftest import run_tool
from contract_file import write_contract_file
from recorded_people import camera_entry, recorded, write_cameras, write_coco, write_openpose
from training_runs import untrained_run

from finepose_mp import runs, schema
from finepose_mp.variables import INFERRED, NOT_PREDICTED, SEEN

SIZE = ("--image-size", 3840, 2160)


@pytest.fixture(scope="module")
def a_run(tmp_path_factory):
    return untrained_run(tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture(scope="module")
def take():
    return recorded()


@pytest.fixture
def predict(a_run, tmp_path, monkeypatch, capsys):
    """Runs the tool in a folder of its own; gives exit status, output and errors."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        return run_tool(monkeypatch, capsys, "predict.py", *arguments, "--run", a_run)

    return run


def scene_of(path):
    with schema.open_file(path) as file:
        (name,) = schema.sequence_names(file)
        return schema.read_sequence(file, name)


def without_prediction(scene):
    predicted = {name: None for name in vars(scene) if name.startswith("predict")}
    return replace(scene, **predicted)


def refused(result, *words, folder):
    """Exit status 2, one line that has the words, and no file left behind."""
    status, _, errors = result
    assert status == 2
    assert errors.startswith("predict: ") and errors.count("\n") == 1
    for word in words:
        assert word in errors
    assert not list(folder.glob("*.h5"))  # nor a hidden one


class TestScenes:
    def test_openpose_of_two_cameras_becomes_one_scene_in_the_world(self, predict, take, tmp_path):
        folders = [write_openpose(tmp_path / name, take, name) for name in ("cam01", "cam02")]
        entries = [camera_entry(take, name) for name in ("cam02", "cam01")]
        cameras = write_cameras(tmp_path / "cams.yaml", *entries, world_up="+z")
        status, said, errors = predict(*folders, "--camera", cameras, "--fps", 20, "--action", "playing tag")
        assert status == 0, errors
        for sentence in (
            "joint set body25, ASSUMED",
            "20 frames a second (given)",
            "4 tracks of 2 cameras are 2 people",
        ):
            assert sentence in said
        scene = scene_of("scene.h5")
        assert scene.person == ["person_1", "person_2"] and scene.camera == ["cam01", "cam02"]
        assert scene.prediction["frame"] == "world" and scene.prediction["root_relative"] == []
        assert scene.prediction["action"] == scene.action == "playing tag"
        assert scene.prediction["prompt"] == "action"
        assert {"linked", "bridged", "same_person"} & {d["kind"] for d in scene.prediction["decisions"]}
        assert [s for s in scene.prediction["assumed"] if "ASSUMED" in s]
        # Even an untrained network stands people about where their rays are: nearer to their own truth than others'.
        roots = scene.predicted_3d_world[:, :, [11, 12]].mean(axis=2)
        truth = take.joints_3d_world[:, :, [11, 12]].mean(axis=2)
        distance = np.nanmean(np.linalg.norm(roots[:, :, None] - truth[:, None], axis=-1), axis=0)
        assert sorted(distance.argmin(axis=1)) == [0, 1]

    def test_without_a_camera_poses_are_relative_to_their_root_and_it_is_said(self, predict, take, tmp_path):
        status, said, _ = predict(write_coco(tmp_path / "walk.json", take, "cam01"), *SIZE)
        assert status == 0
        assert "people are not placed by it" in said and "30 frames a second (ASSUMED" in said
        assert "relative to their own roots" in said and "scene.h5 --out scene.html`" in said
        scene = scene_of("scene.h5")
        assert scene.prediction["frame"] == "camera axes, root at origin"
        assert scene.prediction["root_relative"] == scene.person
        assert np.isnan(scene.world_to_camera).all()
        there = scene.predicted_status == SEEN
        assert np.abs(scene.predicted_3d_world[there][:, [11, 12]].mean(axis=1)).max() < 1e-6

    def test_nobody_is_said_to_be_placed_because_somebody_was_not_seen(self, predict, take, tmp_path):
        keypoints = write_coco(tmp_path / "walk.json", take, "cam01", name=lambda person: f"person {person}")
        (tmp_path / "made").mkdir()
        assert predict(keypoints, *SIZE, "--out", "made/once.h5")[0] == 0
        scene = scene_of("made/once.h5")
        scene.joints_2d_detected[:, :, 1], scene.detection_score[:, :, 1] = np.nan, 0  # of him nothing is known
        with schema.create("made/again.h5", "mine", "coco17", "none", "none") as file:
            schema.write_sequence(file, without_prediction(scene))
        status, said, errors = predict("made/again.h5")
        assert status == 0, errors
        assert "relative to their own roots" in said and "in the world" not in said

    def test_a_camera_without_pose_is_the_world(self, predict, take, tmp_path):
        entry = {**camera_entry(take, "cam01"), "world_to_camera": None}
        cameras = write_cameras(tmp_path / "c.yaml", entry)
        status, said, _ = predict(write_coco(tmp_path / "walk.json", take, "cam01"), "--camera", cameras)
        assert status == 0 and "the world is the frame of the camera" in said and "of the camera)" in said
        scene = scene_of("scene.h5")
        assert scene.prediction["root_relative"] == [] and scene.world_up == "-y"
        roots = scene.predicted_3d_world[scene.predicted_status == SEEN][:, [11, 12]].mean(axis=1)
        assert (roots[:, 2] > 1).all()  # metres in front of the camera

    def test_a_file_of_the_toolkit_is_lifted_and_read_by_every_tool(
        self, predict, a_run, tmp_path, monkeypatch, capsys
    ):
        data = write_contract_file(
            tmp_path / "data.h5", scenes=("Tagging", "Tennis"), takes_per_scene=1, frames=20, persons=2
        )
        chosen = ("--sequence", "01_tagging/001_tagging")
        assert predict(data, *chosen, "--out", "scene.h5")[0] == 0
        with schema.open_file(data) as file:
            before = schema.read_sequence(file, chosen[1])
        scene = scene_of("scene.h5")
        np.testing.assert_array_equal(scene.joints_2d_detected, before.joints_2d_detected)
        np.testing.assert_array_equal(scene.joints_3d_world, before.joints_3d_world)
        tool = [monkeypatch, capsys]
        assert run_tool(*tool, "validate.py", "scene.h5")[0] == 0
        assert run_tool(*tool, "visualize.py", "scene.h5", "--out", "scene.html")[0] == 0
        assert run_tool(*tool, "export.py", "scene.h5", "--formats", "csv", "--out", "exported")[0] == 0
        status, table, errors = run_tool(
            *tool, "evaluate.py", "--run", a_run, "--data", "scene.h5", "--out", "scores", "--steps", 1
        )
        assert status == 0, errors
        assert "Tagging" in table and (tmp_path / "scores" / "results_test_scene.json").is_file()

    def test_a_take_that_trained_the_model_is_said(self, predict, a_run, tmp_path):
        data = write_contract_file(tmp_path / "data.h5", scenes=("Tagging",), takes_per_scene=2, frames=20, persons=2)
        takes = {"train": ["simulated:01_tagging/001_tagging"], "val": []}
        runs.write_training_data(a_run, {"frame_rates_hz": [20.0], "takes": takes})
        try:
            _, said, _ = predict(data, "--sequence", "01_tagging/001_tagging")
            assert "the model was trained on this take" in said
            _, said, _ = predict(data, "--sequence", "01_tagging/002_tagging", "--out", "other.h5")
            assert "the model was trained" not in said
        finally:
            (a_run / runs.TRAINING_DATA).unlink()

    @pytest.mark.parametrize("with_camera", [True, False])
    def test_scenes_of_keypoints_are_sound_files(self, predict, take, tmp_path, monkeypatch, capsys, with_camera):
        keypoints = write_coco(tmp_path / "cam01.json", take, "cam01")
        cameras = write_cameras(tmp_path / "c.yaml", camera_entry(take, "cam01"))
        assert predict(keypoints, *(("--camera", cameras) if with_camera else SIZE))[0] == 0
        status, said, _ = run_tool(monkeypatch, capsys, "validate.py", "scene.h5")
        assert status == 0, said
        assert run_tool(monkeypatch, capsys, "visualize.py", "scene.h5", "--out", "scene.png")[0] == 0

    def test_people_of_a_file_may_be_associated_anew(self, predict, tmp_path):
        data = write_contract_file(tmp_path / "d.h5", scenes=("Tagging",), takes_per_scene=1, frames=40, exo=2)
        status, said, errors = predict(data, "--ignore-ids", "--camera", data)
        assert status == 0, errors
        assert "are 3 people by the rays" in said
        assert scene_of("scene.h5").person == ["person_1", "person_2", "person_3"]

    def test_frames_without_detections_are_inferred(self, predict, take, tmp_path):
        frames = [t for t in range(24) if t not in (10, 11)]
        assert predict(write_coco(tmp_path / "w.json", take, "cam01", frames), *SIZE)[0] == 0
        status = scene_of("scene.h5").predicted_status
        assert (status[10:12] == INFERRED).all() and (status[[9, 12]] == SEEN).all()

    def test_only_some_cameras_are_looked_through(self, predict, tmp_path):
        data = write_contract_file(tmp_path / "d.h5", scenes=("Tennis",), takes_per_scene=1, frames=12, persons=2)
        assert predict(data, "--use-cameras", "cam01", "--no-flip", "--hypotheses", 1)[0] == 0
        about = scene_of("scene.h5").prediction
        assert about["cameras"] == ["cam01"] and about["hypotheses"] == 1 and about["flip"] is False
        status, _, errors = predict(data, "--use-cameras", "cam99", "--overwrite")
        assert status == 2 and "has no camera cam99; it has" in errors

    def test_nothing_is_overwritten_unasked(self, predict, take, tmp_path):
        keypoints = write_coco(tmp_path / "w.json", take, "cam01")
        (tmp_path / "scene.h5").write_text("precious")
        status, _, errors = predict(keypoints, *SIZE)
        assert status == 2 and "scene.h5 exists" in errors
        assert (tmp_path / "scene.h5").read_text() == "precious"
        assert predict(keypoints, *SIZE, "--overwrite")[0] == 0


class TestBadInput:
    def test_empty_detections(self, predict, tmp_path):
        for t in range(3):
            (tmp_path / f"v_{t}_keypoints.json").write_text(json.dumps({"people": []}))
        refused(predict(tmp_path, *SIZE), "OpenPose with 3 frames and not a single person", folder=tmp_path)

    def test_one_frame(self, predict, take, tmp_path):
        assert predict(write_coco(tmp_path / "w.json", take, "cam01", range(1)), *SIZE)[0] == 0
        scene = scene_of("scene.h5")
        assert scene.predicted_status.tolist() == [[SEEN, SEEN]]

    def test_one_person_for_one_frame(self, predict, take, tmp_path):
        entries = json.loads(write_coco(tmp_path / "w.json", take, "cam01").read_text())
        shift = [900.0, 0.0, 0.0]  # somebody else passes, in frame 5 alone
        guest = {**entries[0], "image_id": 5}
        guest["keypoints"] = (np.reshape(guest["keypoints"], (17, 3)) + shift).ravel().tolist()
        (tmp_path / "w.json").write_text(json.dumps([*entries, guest]))
        assert predict(tmp_path / "w.json", *SIZE)[0] == 0
        status = scene_of("scene.h5").predicted_status
        assert status.shape == (24, 3)
        (passing,) = np.flatnonzero((status == SEEN).sum(axis=0) == 1)
        assert status[5, passing] == SEEN and status[20, passing] == NOT_PREDICTED

    def test_two_files_of_different_rate(self, predict, tmp_path):
        for name, fps in (("left", 25), ("right", 50)):
            np.savez(tmp_path / f"{name}.npz", keypoints=np.full((4, 1, 17, 2), 50.0), fps=fps)
        result = predict(tmp_path / "left.npz", tmp_path / "right.npz", *SIZE)
        refused(result, "one frame rate, found left 25, right 50", "--fps", folder=tmp_path)

    def test_normalised_units_are_asked_about(self, predict, take, tmp_path):
        k = take.camera.index("cam01")
        np.savez(tmp_path / "n.npz", keypoints=take.joints_2d_detected[k] / [3840, 2160])
        result = predict(tmp_path / "n.npz", *SIZE)
        refused(result, "probably not pixels", "--units fraction", "--units screen", folder=tmp_path)
        assert predict(tmp_path / "n.npz", *SIZE, "--units", "fraction")[0] == 0

    def test_image_size_missing(self, predict, take, tmp_path):
        result = predict(write_coco(tmp_path / "w.json", take, "cam01"))
        refused(result, "does not say how large the images are", "--image-size", folder=tmp_path)

    def test_nan_scores(self, predict, take, tmp_path):
        k = take.camera.index("cam01")
        scores = take.detection_score[k].copy()
        scores[:, :, 9] = np.nan
        np.savez(tmp_path / "n.npz", keypoints=take.joints_2d_detected[k], scores=scores)
        status, said, _ = predict(tmp_path / "n.npz", *SIZE)
        assert status == 0 and "scores are not numbers: those keypoints are taken as missing" in said
        assert np.isnan(scene_of("scene.h5").joints_2d_detected[0, :, :, 9]).all()

    @pytest.mark.parametrize(
        "change, words",
        [
            ({"model": "equirectangular"}, ("unknown lens model 'equirectangular'", "known: pinhole")),
            ({"model": "pinhole"}, ("params of pinhole (fx fy cx cy)", "expected 4 numbers")),
            ({"image_size": [4000, 3000]}, ("calibrated for images of 4000 x 3000", "of images of 3840 x 2160")),
            ({"world_to_camera": (1000 * np.eye(3, 4)).tolist()}, ("are no rotation", "t in metres")),
            ({"name": "door"}, ("no camera cam01; it has door, cam02",)),
        ],
    )
    def test_a_camera_file_of_another_model(self, predict, take, tmp_path, change, words):
        entries = [{**camera_entry(take, "cam01"), **change}, camera_entry(take, "cam02")]
        cameras = write_cameras(tmp_path / "c.yaml", *entries)
        result = predict(write_coco(tmp_path / "cam01.json", take, "cam01"), "--camera", cameras, *SIZE)
        refused(result, *words, folder=tmp_path)

    @pytest.mark.parametrize("content", [{"images": [{"id": 1, "file_name": None}], "annotations": []}, [[[[None]]]]])
    def test_json_of_an_unexpected_form(self, predict, tmp_path, content):
        (tmp_path / "k.json").write_text(json.dumps(content))
        refused(predict(tmp_path / "k.json", *SIZE), "k.json: ", "expected", folder=tmp_path)

    def test_ids_that_repeat_within_a_frame(self, predict, take, tmp_path):
        keypoints = write_coco(tmp_path / "w.json", take, "cam01", track_id=lambda _person: 7)
        entries = json.loads(keypoints.read_text())
        entries[-1]["track_id"] = 8
        keypoints.write_text(json.dumps(entries))
        refused(predict(keypoints, *SIZE), "names more than one person", "--ignore-ids", folder=tmp_path)
        assert predict(keypoints, *SIZE, "--ignore-ids")[0] == 0

    def test_a_text_longer_than_its_slot(self, predict, take, tmp_path):
        keypoints = write_coco(tmp_path / "w.json", take, "cam01")
        refused(predict(keypoints, *SIZE, "--action", "a b c d e f g h i j k l m"), "tokens long", folder=tmp_path)

    def test_sampling_that_cannot_be(self, predict, take, tmp_path):
        keypoints = write_coco(tmp_path / "w.json", take, "cam01")
        refused(predict(keypoints, *SIZE, "--hypotheses", 0), "hypotheses 0", folder=tmp_path)
        refused(predict(keypoints, *SIZE, "--preset", "fast", "--steps", 2), "give the one or the", folder=tmp_path)

    @pytest.mark.parametrize(
        "option",
        [("--fps", 5), SIZE, ("--units", "px"), ("--joint-set", "coco17"), ("--moving-camera",)],
        ids=lambda option: option[0],
    )
    def test_what_is_said_of_a_file_of_the_toolkit_is_refused(self, predict, tmp_path, option):
        data = tmp_path / "data"
        data.mkdir()
        source = write_contract_file(data / "d.h5", scenes=("Tennis",), takes_per_scene=1, frames=12, persons=1)
        refused(predict(source, *option), "is taken as it is", option[0], "--ignore-ids", folder=tmp_path)

    def test_a_scene_of_another_suffix(self, predict, take, tmp_path):
        keypoints = write_coco(tmp_path / "w.json", take, "cam01")
        result = predict(keypoints, *SIZE, "--out", "scene.csv")
        refused(result, "scene.csv", "name it .h5 or .hdf5", "tools/export.py", folder=tmp_path)

    def test_a_scene_may_be_named_hdf5(self, predict, take, tmp_path):
        keypoints = write_coco(tmp_path / "w.json", take, "cam01", range(2))
        assert predict(keypoints, *SIZE, "--out", "scene.hdf5")[0] == 0
        assert scene_of("scene.hdf5").predicted_status.shape == (2, 2)

    def test_cameras_to_look_through_are_looked_for_in_the_keypoints(self, predict, take, tmp_path):
        keypoints = write_coco(tmp_path / "w.json", take, "cam01")
        refused(
            predict(keypoints, *SIZE, "--use-cameras", "cam9"), "w.json: no camera cam9", "found w", folder=tmp_path
        )

    def test_no_input(self, predict):
        status, _, errors = predict()
        assert status == 2 and "give files of 2D keypoints, or videos" in errors

    def test_a_run_that_is_none(self, take, tmp_path, monkeypatch, capsys):
        keypoints = write_coco(tmp_path / "w.json", take, "cam01")
        out = tmp_path / "scene.h5"
        arguments = (keypoints, *SIZE, "--run", tmp_path / "absent", "--out", out)
        refused(run_tool(monkeypatch, capsys, "predict.py", *arguments), "no such directory", folder=tmp_path)


class TestVideo:
    @pytest.fixture
    def detector(self, monkeypatch):
        """A detector in place of rtmlib, that finds one person where the image is bright."""

        class Body:
            def __init__(self, **_options):
                pose = np.random.default_rng(0).uniform(20, 90, (1, 17, 2))
                self.det_model = lambda image: [[0, 0, 9, 9]] if image.mean() > 40 else []
                self.pose_model = lambda _image, bboxes: (pose, np.full((len(bboxes), 17), 0.9))

        monkeypatch.setitem(sys.modules, "rtmlib", types.SimpleNamespace(Body=Body))

    def write_video(self, path, bright=(1, 1, 0, 1)):
        cv2 = pytest.importorskip("cv2")
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 12.5, (128, 96))
        for is_bright in bright:
            writer.write(np.full((96, 128, 3), 120 * is_bright, np.uint8))
        writer.release()
        return path

    def test_people_are_detected_in_every_frame(self, predict, detector, tmp_path):
        status, said, errors = predict("--video", self.write_video(tmp_path / "walk.avi"))
        assert status == 0, errors
        assert "2D keypoints by RTMPose" in said and "12.5 frames a second (from the file)" in said
        scene = scene_of("scene.h5")
        assert scene.image_size.tolist() == [[128, 96]] and scene.predicted_status[:, 0].tolist() == [1, 1, 2, 1]

    def test_a_video_that_does_not_decode(self, predict, detector, tmp_path):
        pytest.importorskip("cv2")
        (tmp_path / "walk.mp4").write_bytes(b"\x00\x00\x00\x20ftypisom" + bytes(400))
        refused(predict("--video", tmp_path / "walk.mp4"), "decodes not a single frame", "ffmpeg", folder=tmp_path)

    def test_no_detector(self, predict, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "rtmlib", None)
        video = self.write_video(tmp_path / "walk.avi")
        refused(predict("--video", video), "is not installed", "pip install finepose_mp[detect]", folder=tmp_path)

    def test_no_video(self, predict, tmp_path):
        refused(predict("--video", tmp_path / "absent.mp4"), "no such video", folder=tmp_path)
