"""Keypoints that are not as they should be: each is refused, or taken with a note, in words that help."""

import numpy as np
import pytest
from contract_file import write_contract_file
from keypoint_files import IMAGE_SIZE, POSES, SCORES, write_json

from finepose_mp.preprocessing.keypoints import KeypointsError, ReadingOptions, check_same_rate, read_keypoints
from finepose_mp.skeletons import COCO17, JOINT_SETS

SIZED = ReadingOptions(image_size=IMAGE_SIZE)


def results(path, poses=POSES, scores=SCORES, frames=range(3), **extra):
    """A file of COCO results with everybody in the given frames."""
    entries = [
        {"image_id": t, "category_id": 1, "keypoints": np.column_stack([poses[t, p], scores[t, p]]).ravel().tolist(),
         "score": 1.0, **{key: values[p] for key, values in extra.items()}}
        for t in frames for p in range(2)
    ]  # fmt: skip
    return write_json(path / "results.json", entries)


def arrays(path, keypoints, **others):
    np.savez(path / "arrays.npz", keypoints=keypoints, **others)
    return path / "arrays.npz"


class TestUnits:
    def test_fractions_are_asked_about_and_taken_when_told(self, tmp_path):
        path = results(tmp_path, POSES / IMAGE_SIZE)
        with pytest.raises(KeypointsError, match=r"probably not pixels.*--units fraction.*--units screen.*--units px"):
            read_keypoints(path, SIZED)
        (found,) = read_keypoints(path, ReadingOptions(image_size=IMAGE_SIZE, units="fraction"))
        assert found.keypoints[:2] == pytest.approx(POSES[0])
        assert any("fractions of the image" in note for note in found.assumptions)

    def test_screen_coordinates_go_back_to_pixels(self, tmp_path):
        screen = (2 * POSES - np.array(IMAGE_SIZE)) / IMAGE_SIZE[0]
        path = results(tmp_path, screen)
        with pytest.raises(KeypointsError, match="probably not pixels"):
            read_keypoints(path, SIZED)
        (found,) = read_keypoints(path, ReadingOptions(image_size=IMAGE_SIZE, units="screen"))
        assert found.keypoints[:2] == pytest.approx(POSES[0])

    def test_pixels_are_believed_when_told(self, tmp_path):
        path = results(tmp_path, POSES / IMAGE_SIZE)
        (found,) = read_keypoints(path, ReadingOptions(image_size=IMAGE_SIZE, units="px"))
        assert found.keypoints.max() < 1

    def test_unknown_units_are_named(self, tmp_path):
        with pytest.raises(KeypointsError, match="unknown units 'metres'; known: px, fraction, screen"):
            read_keypoints(results(tmp_path), ReadingOptions(image_size=IMAGE_SIZE, units="metres"))


class TestImageSize:
    def test_missing(self, tmp_path):
        with pytest.raises(KeypointsError, match="does not say how large the images are; pass their size"):
            read_keypoints(results(tmp_path))

    def test_of_another_video(self, tmp_path):
        with pytest.raises(KeypointsError, match=r"% of the keypoints lie outside an image of 128 x 96"):
            read_keypoints(results(tmp_path), ReadingOptions(image_size=(128, 96)))

    def test_given_beats_the_file_and_both_are_said(self, tmp_path):
        path = arrays(tmp_path, POSES, image_size=[1280, 960])
        (found,) = read_keypoints(path, SIZED)
        assert found.image_size == IMAGE_SIZE
        assert any("not (1280, 960) as in the file" in note for note in found.assumptions)

    def test_images_of_several_sizes(self, tmp_path):
        images = [{"id": t, "file_name": f"{t}.jpg", "width": 640 + t, "height": 480} for t in range(2)]
        numbers = np.column_stack([POSES[0, 0], SCORES[0, 0]]).ravel().tolist()
        annotations = [{"id": t, "image_id": t, "keypoints": numbers} for t in range(2)]
        path = write_json(tmp_path / "d.json", {"images": images, "annotations": annotations})
        with pytest.raises(KeypointsError, match="pass their size"):
            read_keypoints(path)
        (found,) = read_keypoints(path, SIZED)
        assert any("2 different sizes" in note for note in found.assumptions)


class TestScores:
    def test_nan_means_missing_and_is_counted(self, tmp_path):
        scores = SCORES.copy()
        scores[0, 0, 3], scores[2, 1, 4] = np.nan, np.nan
        (found,) = read_keypoints(results(tmp_path, scores=scores), SIZED)
        assert found.scores[0, 3] == 0
        assert np.isnan(found.keypoints[0, 3]).all()
        assert np.isfinite(found.scores).all()
        assert any(note.startswith("2 scores are not numbers") for note in found.assumptions)

    def test_nan_positions_are_missing_whatever_their_score(self, tmp_path):
        poses = POSES.copy()
        poses[1, 0, 2] = np.nan
        (found,) = read_keypoints(results(tmp_path, poses), SIZED)
        assert found.scores[2, 2] == 0

    def test_above_one_are_cut(self, tmp_path):
        (found,) = read_keypoints(results(tmp_path, scores=SCORES * 5.5), SIZED)
        assert found.scores.max() == 1
        assert any("scores reach" in note for note in found.assumptions)

    def test_absent_count_fully(self, tmp_path):
        poses = POSES.copy()
        poses[0, 0, 5] = 0
        (found,) = read_keypoints(arrays(tmp_path, poses), SIZED)
        assert found.scores[0, 5] == 0
        assert (np.delete(found.scores[0], 5) == 1).all()
        assert any(note.startswith("no scores") for note in found.assumptions)

    def test_nothing_but_low_ones(self, tmp_path):
        with pytest.raises(KeypointsError, match=r"not a single keypoint with a score above 0\.3"):
            read_keypoints(results(tmp_path, scores=SCORES * 0.2), SIZED)


class TestIdentities:
    def test_repeated_in_a_frame(self, tmp_path):
        path = results(tmp_path, track_id=("5", "5"))
        ids = arrays(tmp_path, POSES, ids=[["1", "2"], ["1", "1"], ["1", "2"]])
        with pytest.raises(KeypointsError, match=r"in frame 1 id 1 names more than one person \(1 such cases\)"):
            read_keypoints(ids, SIZED)
        (found,) = read_keypoints(ids, ReadingOptions(image_size=IMAGE_SIZE, ignore_ids=True))
        assert found.ids is None
        (found,) = read_keypoints(path, SIZED)  # one id for everybody is no id
        assert found.ids is None

    def test_only_for_some_people(self, tmp_path):
        (found,) = read_keypoints(results(tmp_path, track_id=("5", None)), SIZED)
        assert found.ids is None
        assert any("3 of 6 people have no id" in note for note in found.assumptions)


class TestFrames:
    def test_one_frame(self, tmp_path):
        (found,) = read_keypoints(results(tmp_path, frames=[0]), SIZED)
        assert found.frame_count == 1
        assert found.time.tolist() == [0]
        assert found.fps == 30
        assert any("ASSUMED" in note and "frames a second" in note for note in found.assumptions)

    def test_one_person_for_one_frame_of_many(self, tmp_path):
        keypoints = np.full((5, 1, 17, 2), np.nan)
        keypoints[3, 0] = POSES[0, 0]
        (found,) = read_keypoints(arrays(tmp_path, keypoints), SIZED)
        assert (found.frame_count, found.frame_index.tolist()) == (5, [3])

    def test_two_files_of_different_rate(self, tmp_path):
        (slow,) = read_keypoints(results(tmp_path), ReadingOptions(image_size=IMAGE_SIZE, fps=25))
        (fast,) = read_keypoints(results(tmp_path), ReadingOptions(image_size=IMAGE_SIZE, fps=50))
        check_same_rate([slow, slow])
        with pytest.raises(KeypointsError, match="one frame rate, found camera 25, camera 50"):
            check_same_rate([slow, fast])

    @pytest.mark.parametrize("fps", [0, -5, np.nan])
    def test_a_rate_that_is_none(self, tmp_path, fps):
        with pytest.raises(KeypointsError, match="no frame rate"):
            read_keypoints(results(tmp_path), ReadingOptions(image_size=IMAGE_SIZE, fps=fps))


class TestJoints:
    @pytest.mark.parametrize(
        "count, name", [(133, "wholebody133"), (26, "halpe26"), (25, "body25"), (16, "mpii16"), (33, "blazepose33")]
    )
    def test_recognised_by_number(self, tmp_path, count, name):
        (found,) = read_keypoints(arrays(tmp_path, np.full((2, 1, count, 2), 50.0)), SIZED)
        assert found.joint_set == name
        assert any(f"{name}, ASSUMED" in note for note in found.assumptions)

    def test_seventeen_may_be_said_to_be_human36m(self, tmp_path):
        (found,) = read_keypoints(results(tmp_path), ReadingOptions(image_size=IMAGE_SIZE, joint_set="h36m17"))
        assert found.joint_set == "h36m17"
        assert "joint set h36m17, as given" in found.assumptions

    def test_unknown_number(self, tmp_path):
        with pytest.raises(KeypointsError, match="21 joints fit no known joint set"):
            read_keypoints(arrays(tmp_path, np.full((2, 1, 21, 2), 50.0)), SIZED)

    def test_given_set_of_another_number(self, tmp_path):
        with pytest.raises(KeypointsError, match="people have 17 joints, joint set body25 has 25"):
            read_keypoints(results(tmp_path), ReadingOptions(image_size=IMAGE_SIZE, joint_set="body25"))

    def test_given_set_that_nobody_knows(self, tmp_path):
        with pytest.raises(KeypointsError, match=f"unknown joint set 'coco18'; known: {', '.join(JOINT_SETS)}"):
            read_keypoints(results(tmp_path), ReadingOptions(image_size=IMAGE_SIZE, joint_set="coco18"))

    def test_names_of_another_data_set_of_seventeen_are_not_taken_for_coco(self, tmp_path):
        names = ["nose", "head_bottom", "head_top", *COCO17.joints[3:]]  # PoseTrack
        content = {
            "categories": [{"keypoints": names}],
            "images": [{"id": 0, "file_name": "0.jpg", "width": 640, "height": 480}],
            "annotations": [
                {"id": 0, "image_id": 0, "keypoints": np.column_stack([POSES[0, 0], SCORES[0, 0]]).ravel().tolist()}
            ],
        }
        with pytest.raises(KeypointsError, match="no known joint set has joints named head_bottom"):
            read_keypoints(write_json(tmp_path / "p.json", content))

    def test_people_of_different_numbers(self, tmp_path):
        path = write_json(tmp_path / "r.json", [
            {"image_id": 0, "keypoints": [50.0, 50.0, 1.0] * 17}, {"image_id": 1, "keypoints": [50.0, 50.0, 1.0] * 26},
        ])  # fmt: skip
        with pytest.raises(KeypointsError, match="people have 17 and 26 joints"):
            read_keypoints(path, SIZED)


class TestConversion:
    @pytest.mark.parametrize("name", ["wholebody133", "halpe26", "body25", "blazepose33"])
    def test_the_body_of_every_larger_set_is_coco(self, tmp_path, name):
        joints = JOINT_SETS[name]
        poses = np.random.default_rng(0).uniform(50, 400, (2, 1, len(joints), 2))
        (found,) = read_keypoints(arrays(tmp_path, poses), SIZED)
        coco = found.converted("coco17")
        for j, joint in enumerate(COCO17.joints):
            assert coco.keypoints[:, j] == pytest.approx(poses[:, 0, joints.index(joint)])
        assert (coco.scores == 1).all()

    def test_what_cannot_be_had_is_missing_and_said(self, tmp_path):
        poses = np.random.default_rng(0).uniform(50, 400, (2, 1, 17, 2))
        (found,) = read_keypoints(arrays(tmp_path, poses), ReadingOptions(image_size=IMAGE_SIZE, joint_set="h36m17"))
        coco = found.converted("coco17")
        assert coco.keypoints[:, 0] == pytest.approx(poses[:, 0, 9])  # the nose stands in for the head
        assert np.isnan(coco.keypoints[:, 1:5]).all()
        assert (coco.scores[:, 1:5] == 0).all()
        assert coco.assumptions[-1].endswith("derived: nose; missing: left_eye, right_eye, left_ear, right_ear")
        assert found.converted("h36m17") is found


class TestFiles:
    def test_absent(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="no such file or folder of 2D keypoints"):
            read_keypoints(tmp_path / "nothing.json")

    @pytest.mark.parametrize("data", [b"", b"  \n"])
    def test_empty(self, tmp_path, data):
        (tmp_path / "e.json").write_bytes(data)
        with pytest.raises(KeypointsError, match="the file is empty"):
            read_keypoints(tmp_path / "e.json")

    @pytest.mark.parametrize("content", [[], {"images": [], "annotations": []}, {"people": []}])
    def test_nobody_in_it(self, tmp_path, content):
        with pytest.raises(KeypointsError, match=r"not a single person|nobody in them|none of the known formats"):
            read_keypoints(write_json(tmp_path / "n.json", content), SIZED)

    def test_empty_detections_count_their_frames(self, tmp_path):
        for t in range(4):
            write_json(tmp_path / f"v_{t}_keypoints.json", {"people": []})
        with pytest.raises(KeypointsError, match="OpenPose with 4 frames and not a single person"):
            read_keypoints(tmp_path, SIZED)

    def test_cameras_without_anybody_are_said_where_others_have_people(self, tmp_path):
        images = [{"id": c, "file_name": f"cam{c}/1.jpg", "width": 640, "height": 480} for c in range(2)]
        person = {"id": 0, "image_id": 1, "keypoints": np.column_stack([POSES[0, 0], SCORES[0, 0]]).ravel().tolist()}
        (found,) = read_keypoints(write_json(tmp_path / "d.json", {"images": images, "annotations": [person]}))
        assert found.camera == "cam1"
        assert "nobody was found in 1 other cameras: cam0" in found.assumptions

    def test_truncated_json(self, tmp_path):
        path = results(tmp_path)
        path.write_text(path.read_text()[:200])
        with pytest.raises(KeypointsError, match="not valid JSON"):
            read_keypoints(path)

    def test_a_video(self, tmp_path):
        (tmp_path / "walk.mp4").write_bytes(b"\x00\x00\x00\x20ftypisom\xff\xfe\xfd" * 4)
        with pytest.raises(KeypointsError, match="For a video, run a 2D keypoint detector on it first"):
            read_keypoints(tmp_path / "walk.mp4")

    def test_boxes_only(self, tmp_path):
        content = {"images": [{"id": 0}], "annotations": [{"id": 0, "image_id": 0, "bbox": [0, 0, 5, 5]}]}
        with pytest.raises(KeypointsError, match="boxes without keypoints"):
            read_keypoints(write_json(tmp_path / "t.json", content))

    def test_a_folder_of_files_without_numbers(self, tmp_path):
        write_json(tmp_path / "last.json", {"people": []})
        with pytest.raises(KeypointsError, match="must end with frame numbers"):
            read_keypoints(tmp_path)

    def test_numbers_that_are_none(self, tmp_path):
        path = write_json(tmp_path / "r.json", [{"image_id": 0, "keypoints": ["left", 1, 2]}])
        with pytest.raises(KeypointsError, match="entry 0: expected numbers"):
            read_keypoints(path, SIZED)

    def test_several_people_in_a_table_need_a_column_that_tells_them_apart(self, tmp_path):
        (tmp_path / "k.csv").write_text("frame,joint,x,y\n0,nose,10,10\n0,nose,20,20\n")
        with pytest.raises(KeypointsError, match=r"row 3: joint nose .* for the second time; several people need"):
            read_keypoints(tmp_path / "k.csv", SIZED)

    def test_several_sequences_want_a_choice(self, tmp_path, contract_file_of_two):
        with pytest.raises(KeypointsError, match="holds 2 sequences"):
            read_keypoints(contract_file_of_two)
        chosen = ReadingOptions(sequence="01_tennis/002_tennis")
        assert len(read_keypoints(contract_file_of_two, chosen)) == 4


@pytest.fixture
def contract_file_of_two(tmp_path):
    return write_contract_file(tmp_path / "two.h5", scenes=("Tennis",), takes_per_scene=2, frames=12)
