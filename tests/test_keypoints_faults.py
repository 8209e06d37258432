"""Keypoints that are not as they should be: each is refused, or taken with a note, in words that help."""

import re

import numpy as np
import pytest
from contract_file import write_contract_file
from keypoint_files import IMAGE_SIZE, POSES, SCORES, write_json

from finepose_mp.preprocessing.keypoints import KeypointsError, ReadingOptions, check_same_rate, read_keypoints
from finepose_mp.skeletons import COCO17, JOINT_SETS

SIZED = ReadingOptions(image_size=IMAGE_SIZE)
NUMBERS = np.column_stack([POSES[0, 0], SCORES[0, 0]]).ravel().tolist()
ANNOTATION = {"image_id": 1, "keypoints": NUMBERS}


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
        with pytest.raises(KeypointsError, match=r"% of the keypoints lie outside an image of 128 x 96 .*\); pass"):
            read_keypoints(results(tmp_path), ReadingOptions(image_size=(128, 96)))

    def test_with_width_and_height_exchanged(self, tmp_path):
        moved, size = POSES + np.array([220, 0]), ReadingOptions(image_size=(480, 640))
        (found,) = read_keypoints(results(tmp_path, moved), size)
        assert any(
            re.search(r"lie outside an image of 480 x 640 .*width and height exchanged\?", n) for n in found.assumptions
        )
        moved[..., 0] = 500 + moved[..., 0] / 8
        with pytest.raises(KeypointsError, match=r"100% .* outside .*width and height exchanged\?\); pass the size"):
            read_keypoints(results(tmp_path, moved), size)

    @pytest.mark.parametrize("outside, share", [(0, None), (1, "6%")])
    def test_a_few_joints_outside_are_said_and_a_little_outside_is_nothing(self, tmp_path, outside, share):
        poses = POSES.copy()
        poses[:, :, :5, 1] = 485  # of a height of 480: people whom the border cuts
        poses[:, :, 5 : 5 + outside, 1] = 900
        (found,) = read_keypoints(results(tmp_path, poses), ReadingOptions(image_size=(640, 480)))
        said = [note for note in found.assumptions if "lie outside an image" in note]
        assert [note.split(" of ")[0] for note in said] == ([share] if share else [])

    @pytest.mark.parametrize("units", ["px", "fraction"])
    def test_legs_below_the_image_of_a_webcam_are_said(self, tmp_path, units):
        poses = POSES / IMAGE_SIZE
        poses[:, :, 11:, 1] = 1.5
        options = ReadingOptions(image_size=IMAGE_SIZE, units=units)
        (found,) = read_keypoints(results(tmp_path, poses * (IMAGE_SIZE if units == "px" else 1)), options)
        assert any(note.startswith("35% of the keypoints lie outside") for note in found.assumptions)

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

    def folder(self, path, numbers):
        for t in numbers:
            people = [{"pose_keypoints_2d": np.column_stack([POSES[0, 0], SCORES[0, 0]]).ravel().tolist()}]
            write_json(path / f"v_{t:012d}_keypoints.json", {"people": people})
        return path

    def test_frames_without_a_file_are_frames_without_people(self, tmp_path):
        (found,) = read_keypoints(self.folder(tmp_path, [2, 3, 6, 7, 9]), SIZED)
        assert found.frame.tolist() == list(range(2, 10))
        assert found.frame_index.tolist() == [0, 1, 4, 5, 7]
        note = "3 frame numbers between 2 and 9 have no file: taken as frames without people"
        assert note in found.assumptions

    def test_numbers_of_arrays_may_have_holes_too(self, tmp_path):
        (found,) = read_keypoints(arrays(tmp_path, POSES, frame=[0, 1, 4]), SIZED)
        assert found.frame.tolist() == [0, 1, 2, 3, 4] and found.frame_index.tolist() == [0, 0, 1, 1, 4, 4]
        assert any("2 frame numbers between 0 and 4 are not in it" in note for note in found.assumptions)

    @pytest.mark.parametrize("stray", [785000, 1699199999033])
    def test_a_file_far_from_the_others_of_its_folder_is_named(self, tmp_path, stray):
        self.folder(tmp_path, [0, 1, 2, stray])
        with pytest.raises(KeypointsError, match=rf": v_0*{stray}_keypoints\.json is far from the others of 4 frames"):
            read_keypoints(tmp_path, SIZED)

    @pytest.mark.parametrize(
        "numbers",
        [
            [1699199999033 + 33 * t + t % 3 for t in range(9)],
            [1699199999033000000 + 33366700 * t for t in range(9)],
            [33 * t + t % 2 for t in range(9)],
            [145858, 145859, 145900, 145901, *range(145902, 145960), 150000],
        ],
        ids=["milliseconds", "nanoseconds", "milliseconds since the start", "HHMMSS"],
    )
    def test_times_are_counted_in_their_order(self, tmp_path, numbers):
        (found,) = read_keypoints(self.folder(tmp_path, numbers), SIZED)
        assert found.frame.tolist() == list(range(len(numbers))) and found.fps == 30
        (said,) = [note for note in found.assumptions if note.startswith("WARNING")]
        assert f"{numbers[0]} ... {numbers[-1]} seem to be times" in said and "--fps" in said

    def test_every_twelfth_frame_is_no_time(self, tmp_path):
        numbers = [12 * t for t in range(30) if t != 7]
        (found,) = read_keypoints(self.folder(tmp_path, numbers), SIZED)
        assert found.frame.tolist() == list(range(0, 349, 12)) and found.fps == 2.5

    def test_numbers_that_no_file_can_hold_are_counted(self, tmp_path):
        (found,) = read_keypoints(arrays(tmp_path, POSES, frame=[0, 1, 2**40]), SIZED)
        assert found.frame.tolist() == [0, 1, 2]

    @pytest.mark.parametrize("numbers", [[10, 170, 521], [0, 4, 9], [0, 1, 10**8]])
    def test_uneven_numbers_are_kept_and_nothing_is_filled_in(self, tmp_path, numbers):
        (found,) = read_keypoints(arrays(tmp_path, POSES, frame=numbers), SIZED)
        assert found.frame.tolist() == numbers and found.frame_index.tolist() == [0, 0, 1, 1, 2, 2]
        assert any("unevenly apart" in note for note in found.assumptions)

    def test_images_whose_names_are_no_frame_numbers_are_taken_in_order(self, tmp_path):
        images = [{"id": t, "file_name": f"{n:012d}.jpg"} for t, n in enumerate((397133, 139, 785000))]
        numbers = np.column_stack([POSES[0, 0], SCORES[0, 0]]).ravel().tolist()
        annotations = [{"id": t, "image_id": t, "keypoints": numbers} for t in range(3)]
        (found,) = read_keypoints(
            write_json(tmp_path / "d.json", {"images": images, "annotations": annotations}), SIZED
        )
        assert found.frame.tolist() == [0, 1, 2] and found.camera == "camera"
        assert any("in the order of images, which have no frame numbers" in note for note in found.assumptions)

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

    def test_a_rate_of_0_in_a_file_is_unknown(self, tmp_path):
        (found,) = read_keypoints(arrays(tmp_path, POSES, fps=0.0), SIZED)
        assert found.fps == 30 and any("30 frames a second (ASSUMED" in note for note in found.assumptions)

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


class TestAxes:
    def test_one_person_without_an_axis_of_people(self, tmp_path):
        with pytest.raises(KeypointsError, match=r"of shape \(3, 17, 2\), expected \(frames, .*keypoints\[:, None\]"):
            read_keypoints(arrays(tmp_path, POSES[:, 0]), SIZED)

    def test_joints_last(self, tmp_path):
        with pytest.raises(KeypointsError, match=r"of shape \(3, 2, 2, 17\), expected \(frames, people, joints, 2 or"):
            read_keypoints(arrays(tmp_path, POSES.swapaxes(2, 3)), SIZED)

    def test_frames_and_people_exchanged(self, tmp_path):
        assert read_keypoints(arrays(tmp_path, POSES), SIZED)[0].frame_count == 3
        (found,) = read_keypoints(arrays(tmp_path, POSES.swapaxes(0, 1)), SIZED)
        (said,) = [note for note in found.assumptions if note.startswith("WARNING")]
        assert "of shape (2, 3, 17, 2) have more people than frames" in said and "swapaxes(0, 1)" in said

    def test_a_crowd_in_few_frames_is_one(self, tmp_path):
        crowd = np.random.default_rng(1).uniform(100, 400, (1, 6, 17, 2)) + np.zeros((2, 1, 1, 1))
        assert read_keypoints(arrays(tmp_path, crowd), SIZED)[0].frame_count == 2


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

    @pytest.mark.parametrize(
        "content, words",
        [
            ({"images": [{"id": 1, "file_name": None}]}, "images[0]: file_name is null, expected text"),
            ({"images": [{"file_name": "1.jpg"}]}, "images[0]: id is missing, expected a number or text"),
            ({"annotations": [{"keypoints": NUMBERS}]}, "annotations[0]: image_id is missing, expected a number"),
            ({"annotations": ["x"]}, "annotations[0] is 'x', expected an object with keys"),
            ({"annotations": [ANNOTATION, {**ANNOTATION, "image_id": "a"}, {**ANNOTATION, "image_id": 7}]},
             "annotations[1]: image_id 'a' is none of the 1 images"),
            ({"categories": ["person"]}, "categories[0] is 'person', expected an object with keys"),
            ({"people": ["x"]}, "people[0] is 'x', expected an object with keys"),
            ({"instance_info": [{"frame_id": None, "instances": []}]}, "entry 0: frame_id is null, expected a whole"),
            ([{"keypoints": [POSES[0, 0].tolist()], "scores": [[1.0] * 17], "ids": 3}], "frame 0: ids is 3, expected"),
            ([[{"box": {}, "keypoints": [1, 2]}]], "frame 0: keypoints is [1, 2], expected an object with keys"),
            ([{"image_id": 2**62 + 1, "keypoints": NUMBERS}], "entry 0: image_id is 4611686018427387905, too large"),
            ([{"image_id": 0}, {"image_id": 1, "keypoints": NUMBERS}], "COCO results without keypoints"),
            ([{"image_id": 0, "keypoints": NUMBERS}, {"image_id": 1}], "entry 1: keypoints of shape (0,), expected x"),
        ],
    )  # fmt: skip
    def test_json_of_another_form_than_its_kind_names_the_entry(self, tmp_path, content, words):
        if isinstance(content, dict) and not {"people", "instance_info"} & content.keys():
            content = {"images": [{"id": 1, "file_name": "1.jpg"}], "annotations": [ANNOTATION]} | content
        path = write_json(tmp_path / "k.json", content)
        with pytest.raises(KeypointsError, match=re.escape(f"{path}: ") + ".*" + re.escape(words)):
            read_keypoints(path, SIZED)

    @pytest.mark.parametrize(
        "others, words",
        [
            ({"frame": [1, 2, 3, 4]}, "frame of shape (4,) for keypoints of 3 frames"),
            ({"scores": SCORES[:2]}, "scores of shape (2, 2, 17) for keypoints of 3 frames"),
            ({"ids": np.array(5)}, "ids of shape () for keypoints of 3 frames"),
            ({"image_size": 5}, "image_size of shape (), expected width and height"),
            ({"fps": [25, 30]}, "fps of shape (2,), expected one number"),
            ({"fps": np.inf}, "inf frames a second is no frame rate; pass the right one with --fps"),
        ],
    )
    def test_arrays_that_do_not_fit_each_other(self, tmp_path, others, words):
        path = arrays(tmp_path, POSES, **others)
        with pytest.raises(KeypointsError, match=re.escape(f"{path}: {words}")):
            read_keypoints(path, SIZED)

    @pytest.mark.parametrize("frame", ["", "inf", "1.5", "one"])
    def test_rows_of_no_frame(self, tmp_path, frame):
        (tmp_path / "k.csv").write_text(f"frame,joint,x,y\n0,nose,10,10\n{frame},nose,20,20\n")
        with pytest.raises(KeypointsError, match=rf"k\.csv: row 3: frame is '{frame}', expected a whole number"):
            read_keypoints(tmp_path / "k.csv", SIZED)

    def test_videopose3d_of_another_nesting(self, tmp_path):
        np.savez(tmp_path / "v.npz", positions_2d={"walk": [POSES[:, 0].tolist()]})
        with pytest.raises(KeypointsError, match=r"v\.npz: positions_2d of walk is .*, expected an object with keys"):
            read_keypoints(tmp_path / "v.npz", SIZED)

    def test_json_nested_without_end(self, tmp_path):
        (tmp_path / "deep.json").write_text("[" * 100_000)
        with pytest.raises(KeypointsError, match=r"deep\.json: not valid JSON"):
            read_keypoints(tmp_path / "deep.json", SIZED)

    def test_damage_that_no_reader_foresees_is_named_all_the_same(self, tmp_path):
        np.savez_compressed(tmp_path / "a.npz", keypoints=POSES)
        data = bytearray((tmp_path / "a.npz").read_bytes())
        data[100:400] = b"\xff" * 300
        (tmp_path / "a.npz").write_bytes(data)
        with pytest.raises(KeypointsError, match=r"a\.npz: damaged or of an unexpected form .*see docs/KEYPOINTS\.md"):
            read_keypoints(tmp_path / "a.npz", SIZED)

    def test_people_of_openpose_without_a_body_are_left_out(self, tmp_path):
        people = [{"pose_keypoints_2d": NUMBERS}, {"pose_keypoints_2d": [], "face_keypoints_2d": [1, 2, 3]}]
        (found,) = read_keypoints(write_json(tmp_path / "v_0.json", {"people": people}), SIZED)
        assert len(found.keypoints) == 1
        assert "1 people without keypoints of the body are left out" in found.assumptions

    def test_hidden_files_of_a_folder_are_left_aside(self, tmp_path):
        for t in range(2):
            write_json(tmp_path / f"{t:04d}.json", {"people": [{"pose_keypoints_2d": NUMBERS}]})
            (tmp_path / f"._{t:04d}.json").write_bytes(b"\0\5\26\7\xff")  # as macOS writes them
        (found,) = read_keypoints(tmp_path, SIZED)
        assert found.frame.tolist() == [0, 1]

    @pytest.mark.parametrize(
        "data, words",
        [
            (b"\xff\xfe{}", ": expected text in UTF-8"),
            (b'{"people"', ": not valid JSON"),
            (b"[]", " is [], expected an object with keys"),
            (b'{"people": null}', ": people is null, expected a list"),
        ],
    )
    def test_one_bad_file_of_a_folder_is_the_one_that_is_named(self, tmp_path, data, words):
        for t in range(3):
            write_json(tmp_path / f"{t:04d}.json", {"people": [{"pose_keypoints_2d": NUMBERS}]})
        (tmp_path / "0001.json").write_bytes(data)
        with pytest.raises(KeypointsError, match=re.escape(f"{tmp_path / '0001.json'}{words}")):
            read_keypoints(tmp_path, SIZED)

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
