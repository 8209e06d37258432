"""Every documented form of 2D keypoints gives the same people."""

import copy
import json
import random

import numpy as np
import pytest
from contract_file import make_sequence
from keypoint_files import FRAMES, IMAGE_SIZE, NAMES, POSES, SCORES, write_json

from finepose_mp import schema
from finepose_mp.preprocessing.keypoints import KeypointsError, ReadingOptions, read_keypoints
from finepose_mp.skeletons import COCO17

SIZED = ReadingOptions(image_size=IMAGE_SIZE, fps=25)


def flat(t, p):
    """51 numbers: x, y, score of every joint."""
    return np.column_stack([POSES[t, p], SCORES[t, p]]).ravel().tolist()


def pairs():
    return [(t, p) for t in range(len(FRAMES)) for p in range(2)]


def assert_same_people(detections, first_frame=0, scores=SCORES, decimals=4):
    """Two people in three frames, in order."""
    assert detections.frame.tolist() == [first_frame, first_frame + 1, first_frame + 2]
    assert detections.frame_index.tolist() == [0, 0, 1, 1, 2, 2]
    assert detections.keypoints == pytest.approx(POSES.reshape(6, 17, 2), abs=10.0**-decimals)
    assert detections.scores == pytest.approx(np.reshape(scores, (6, 17)), abs=1e-6)
    assert detections.joint_set == "coco17"
    assert detections.image_size == IMAGE_SIZE


def one(path, options=SIZED):
    (detections,) = read_keypoints(path, options)
    return detections


def test_coco_results(tmp_path):
    entries = [{"image_id": t + 7, "category_id": 1, "keypoints": flat(t, p), "score": 0.9} for t, p in pairs()]
    found = one(write_json(tmp_path / "any.name", entries))
    assert_same_people(found, first_frame=7)
    assert found.ids is None
    assert any("ASSUMED from the number of joints, 17" in note for note in found.assumptions)


def test_coco_results_of_scattered_images_are_taken_in_order(tmp_path):
    ids = (139, 397133, 785000)
    entries = [{"image_id": ids[t], "category_id": 1, "keypoints": flat(t, p), "score": 0.9} for t, p in pairs()]
    found = one(write_json(tmp_path / "r.json", entries))
    assert_same_people(found)
    assert any("are no frame numbers" in note for note in found.assumptions)


def test_every_fifth_frame_makes_a_fifth_of_the_rate(tmp_path):
    entries = [{"image_id": 5 * t, "category_id": 1, "keypoints": flat(t, p), "score": 0.9} for t, p in pairs()]
    found = one(write_json(tmp_path / "r.json", entries))
    assert found.frame.tolist() == [0, 5, 10]
    assert found.fps == 5
    assert found.time == pytest.approx([0, 0.2, 0.4])


def coco_video(**person):
    """A COCO-video data set with one video; `person` names the key and the identities."""
    ((key, identities),) = person.items()
    return {
        "videos": [{"id": 1, "name": "hall"}],
        "categories": [{"id": 1, "name": "person", "keypoints": list(COCO17.joints)}],
        "images": [
            {"id": t, "file_name": f"hall/{t + 1:05d}.jpg", "width": 640, "height": 480, "video_id": 1, "frame_id": t}
            for t in range(3)
        ],
        "annotations": [
            {"id": 2 * t + p, "image_id": t, "category_id": 1, "keypoints": flat(t, p), key: identities[p]}
            for t, p in pairs()
        ],
    }


@pytest.mark.parametrize("key, identities", [("instance_id", (4, 9)), ("track_id", (4, 9)), ("human_name", NAMES)])
def test_coco_video_with_identities(tmp_path, key, identities):
    found = one(write_json(tmp_path / "v.json", coco_video(**{key: identities})), ReadingOptions())
    assert_same_people(found, first_frame=1)
    assert found.ids == tuple(str(identities[p]) for _, p in pairs())
    assert found.camera == "hall"


def test_coco_visibility_flags_are_no_scores(tmp_path):
    dataset = coco_video(instance_id=(1, 2))
    for annotation in dataset["annotations"]:
        annotation["keypoints"][2::3] = [2] * 15 + [1, 0]
    found = one(write_json(tmp_path / "v.json", dataset), ReadingOptions())
    assert (found.scores[:, :16] == 1).all()
    assert (found.scores[:, 16] == 0).all()
    assert np.isnan(found.keypoints[:, 16]).all()
    assert any("visibility flags" in note for note in found.assumptions)


def test_egohumans_benchmark_tells_cameras_people_and_time_apart(tmp_path):
    cameras = ("tagging_001_tagging_aria01_rgb", "tagging_001_tagging_aria02_rgb")
    images = [
        {"id": 10 * c + t, "file_name": f"01_tagging/001_tagging/ego/aria0{c + 1}/images/rgb/{t + 3:05d}.jpg",
         "width": 640, "height": 480, "video_name": camera}
        for c, camera in enumerate(cameras) for t in range(3)
    ]  # fmt: skip
    annotations = [
        {"id": 100 * c + 2 * t + p, "image_id": 10 * c + t, "keypoints": flat(t, p), "human_name": NAMES[p]}
        for c in range(2)
        for t, p in pairs()
    ]
    path = write_json(tmp_path / "b.json", {"images": images, "annotations": annotations, "categories": []})
    first, second = read_keypoints(path)
    for found, camera in zip((first, second), cameras, strict=True):
        assert_same_people(found, first_frame=3)
        assert found.camera == camera
        assert found.ids[:2] == NAMES


def test_openpose_folder(tmp_path):
    for t in range(3):
        people = [{"person_id": [-1], "pose_keypoints_2d": body25(t, p).ravel().tolist()} for p in range(2)]
        write_json(tmp_path / f"take2_00000000000{t}_keypoints.json", {"version": 1.3, "people": people})
    found = one(tmp_path)
    assert found.joint_set == "body25"
    assert found.frame.tolist() == [0, 1, 2]
    assert found.ids is None
    assert found.keypoints[0, 8] == pytest.approx([320, 240])
    assert np.isnan(found.keypoints[0, 24]).all()  # 0, 0, 0 is how OpenPose says "not found"


def body25(t, p):
    pose = np.full((25, 3), [320, 240, 0.8]) + np.array([p * 50.0, t, 0])
    pose[24] = 0
    return pose


@pytest.mark.parametrize("tracked", [True, False])
def test_alphapose(tmp_path, tracked):
    entries = [
        {"image_id": f"{t}.jpg", "category_id": 1, "keypoints": flat(t, p), "score": 3.1, "box": [0, 0, 9, 9],
         "idx": [p + 1.0] if tracked else 0.0}
        for t, p in pairs()
    ]  # fmt: skip
    found = one(write_json(tmp_path / "alphapose-results.json", entries))
    assert_same_people(found)
    assert found.ids == (("1", "2") * 3 if tracked else None)


def mmpose_instances(t):
    return [{"keypoints": POSES[t, p].tolist(), "keypoint_scores": SCORES[t, p].tolist()} for p in range(2)]


def test_mmpose_demo_names_its_joints(tmp_path):
    content = {
        "meta_info": {"keypoint_id2name": {str(j): name for j, name in enumerate(COCO17.joints)}},
        "instance_info": [{"frame_id": t + 1, "instances": mmpose_instances(t)} for t in range(3)],
    }
    found = one(write_json(tmp_path / "results.json", content))
    assert_same_people(found, first_frame=1)
    assert any("by the names of joints" in note for note in found.assumptions)


def test_mmpose_inferencer_on_a_video_and_on_a_folder_of_images(tmp_path):
    video = [{"frame_id": t, "instances": mmpose_instances(t)} for t in range(3)]
    assert_same_people(one(write_json(tmp_path / "video.json", video)))
    (tmp_path / "images").mkdir()
    for t in range(3):
        write_json(tmp_path / f"images/img_{t}.json", mmpose_instances(t))
    assert_same_people(one(tmp_path / "images"))


def test_rtmlib_frames_as_json_and_as_arrays(tmp_path):
    frames = [{"keypoints": POSES[t].tolist(), "scores": SCORES[t].tolist()} for t in range(3)]
    assert_same_people(one(write_json(tmp_path / "f.json", frames)))
    np.savez(tmp_path / "a.npz", keypoints=POSES, scores=SCORES, image_size=[640, 480], fps=12.5, ids=[NAMES] * 3)
    found = one(tmp_path / "a.npz", ReadingOptions())
    assert_same_people(found)
    assert found.fps == 12.5
    assert found.ids == NAMES * 3


def test_arrays_of_objects_hold_another_number_of_people_each_frame(tmp_path):
    keypoints, scores = np.empty(3, object), np.empty(3, object)
    for t, count in enumerate((2, 0, 1)):
        keypoints[t], scores[t] = POSES[t, :count], SCORES[t, :count]
    np.savez(tmp_path / "a.npz", keypoints=keypoints, scores=scores)
    found = one(tmp_path / "a.npz")
    assert found.frame_index.tolist() == [0, 0, 2]
    assert found.frame_count == 3


def landmarks(t, p):
    points = np.linspace(0.1, 0.9, 66).reshape(33, 2) + 0.01 * t
    return [{"x": x + 0.05 * p, "y": y, "z": 0.0, "visibility": 0.9} for x, y in points.tolist()]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda frames: [{"pose_landmarks": people, "pose_world_landmarks": []} for people in frames],
        lambda frames: [{"landmarks": people, "worldLandmarks": []} for people in frames],
        lambda frames: {"frames": [{"pose_landmarks": {"landmark": people[0]}} for people in frames]},
    ],
    ids=["tasks", "web", "legacy"],
)
def test_mediapipe_landmarks_are_fractions(tmp_path, wrap):
    found = one(write_json(tmp_path / "m.json", wrap([[landmarks(t, p) for p in range(2)] for t in range(3)])))
    assert found.joint_set == "blazepose33"
    assert found.keypoints[0, 0] == pytest.approx([64, 0.1 * 480 + 480 * 0.8 / 65])
    assert found.scores == pytest.approx(0.9)
    assert found.frame_count == 3


def ultralytics_box(t, p, **extra):
    x, y = POSES[t, p].T.tolist()
    return {
        "name": "person", "class": 0, "confidence": 0.8, "box": {"x1": 0, "y1": 0, "x2": 9, "y2": 9},
        "keypoints": {"x": x, "y": y, "visible": SCORES[t, p].tolist()}, **extra,
    }  # fmt: skip


def test_ultralytics_results_with_track_ids(tmp_path):
    frames = [[ultralytics_box(t, p, track_id=p + 1) for p in range(2)] for t in range(3)]
    found = one(write_json(tmp_path / "u.json", frames))
    assert_same_people(found)
    assert found.ids == ("1", "2") * 3


@pytest.mark.parametrize("tail, ids", [("", None), (" 0.87", None), (" 0.87 {id}", ("1", "2") * 3)])
def test_ultralytics_labels(tmp_path, tail, ids):
    for t in range(3):
        lines = []
        for p in range(2):
            points = np.column_stack([POSES[t, p] / IMAGE_SIZE, SCORES[t, p]]).ravel()
            numbers = " ".join(f"{value:.8f}" for value in points)
            lines.append(f"0 0.5 0.5 0.2 0.4 {numbers}" + tail.format(id=p + 1))
        (tmp_path / f"walk_{t}.txt").write_text("\n".join(lines))
    found = one(tmp_path)
    assert_same_people(found, decimals=3)
    assert found.ids == ids


def test_videopose3d_has_one_person_a_video(tmp_path):
    metadata = {"layout_name": "coco", "num_joints": 17, "keypoints_symmetry": [[1], [2]],
                "video_metadata": {"walk.mp4": {"w": 640, "h": 480}}}  # fmt: skip
    positions = {"walk.mp4": {"custom": [POSES[:, 0]]}}
    np.savez_compressed(tmp_path / "data_2d_custom_walk.npz", positions_2d=positions, metadata=metadata)
    found = one(tmp_path / "data_2d_custom_walk.npz", ReadingOptions(fps=25))
    assert found.keypoints == pytest.approx(POSES[:, 0])
    assert found.camera == "walk.mp4/custom/0"
    assert found.image_size == IMAGE_SIZE
    assert any("joint set coco17, as the file says" in note for note in found.assumptions)


def test_an_archive_that_wants_to_run_code_is_refused_unexecuted(tmp_path):
    class Hostile:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    array = np.empty((), object)
    array[()] = {"walk": Hostile()}
    np.savez(tmp_path / "a.npz", positions_2d=array)
    with pytest.raises(ValueError, match="nothing was executed"):
        read_keypoints(tmp_path / "a.npz")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_long_csv(tmp_path, separator):
    rows = [["frame", "person", "joint", "x", "y", "score"]]
    for t, p in pairs():
        for j, name in enumerate(COCO17.joints):
            rows.append([t, NAMES[p], name, *POSES[t, p, j], SCORES[t, p, j]])
    (tmp_path / "k").write_text("# made by hand\n" + "\n".join(separator.join(map(str, row)) for row in rows))
    found = one(tmp_path / "k")
    assert_same_people(found)
    assert found.ids == NAMES * 3


def test_wide_csv_in_another_order_of_joints(tmp_path):
    order = list(reversed(range(17)))
    header = ["track_id", "frame", *(f"{COCO17.joints[j]}_{axis}" for j in order for axis in ("x", "y", "score"))]
    rows = [header]
    for t, p in pairs():
        rows.append([p, t, *np.column_stack([POSES[t, p], SCORES[t, p]])[order].ravel()])
    (tmp_path / "k.csv").write_text("\n".join(",".join(map(str, row)) for row in rows))
    assert_same_people(one(tmp_path / "k.csv"))


def test_a_table_of_some_joints_only_leaves_the_others_missing(tmp_path):
    rows = ["frame,joint,x,y"] + [f"{t},LeftAnkle,{10 + t},20\n{t},nose,{30 + t},40" for t in range(3)]
    (tmp_path / "k.csv").write_text("\n".join(rows))
    found = one(tmp_path / "k.csv")
    assert found.keypoints[:, COCO17.index("left_ankle"), 0].tolist() == [10, 11, 12]
    assert np.isfinite(found.keypoints[..., 0]).sum() == 6


def test_files_of_this_toolkit(tmp_path):
    sequence = make_sequence(frames=12)
    with schema.create(tmp_path / "a.h5", "made-up", "coco17", licence="none", citation="none") as file:
        schema.write_sequence(file, sequence)
    cameras = read_keypoints(tmp_path / "a.h5")
    assert [found.camera for found in cameras] == sequence.camera
    found = cameras[-1]
    n = 5
    t, p = found.frame_index[n], sequence.person.index(found.ids[n])
    assert found.keypoints[n] == pytest.approx(sequence.joints_2d_detected[-1, t, p], nan_ok=True)
    assert found.fps == sequence.fps


def test_the_folder_of_json_files_of_another_program_is_named_in_the_refusal(tmp_path):
    write_json(tmp_path / "x.json", {"weather": "fine"})
    with pytest.raises(ValueError, match=r"json with weather is none of the known formats: COCO keypoint results"):
        read_keypoints(tmp_path / "x.json")
    assert json.loads((tmp_path / "x.json").read_text()) == {"weather": "fine"}


def table(header, rows):
    return [header.split(",")] + [[str(value) for value in row] for row in rows]


RECTANGLE = {"x1": 0, "y1": 0, "x2": 9, "y2": 9}
PEOPLE = [[{"person_id": [p], "pose_keypoints_2d": flat(t, p)} for p in range(2)] for t in FRAMES]
# A content of every form, of which one thing or two are changed below.
JSON_FORMS = {
    "results": [{"image_id": t, "category_id": 1, "keypoints": flat(t, p), "track_id": p} for t, p in pairs()],
    "alphapose": [{"image_id": f"{t}.jpg", "keypoints": flat(t, p), "box": [0, 9], "idx": [p]} for t, p in pairs()],
    "data set": coco_video(instance_id=(4, 9)),
    "openpose": {"version": 1.3, "people": PEOPLE[0]},
    "mmpose": {
        "meta_info": {"keypoint_id2name": {str(j): name for j, name in enumerate(COCO17.joints)}},
        "instance_info": [{"frame_id": t + 1, "instances": mmpose_instances(t)} for t in FRAMES],
    },
    "rtmlib": [
        {"frame": t, "keypoints": POSES[t].tolist(), "scores": SCORES[t].tolist(), "ids": [1, 2]} for t in FRAMES
    ],
    "mediapipe": [{"pose_landmarks": [landmarks(t, p) for p in range(2)]} for t in FRAMES],
    "ultralytics": [[ultralytics_box(t, p, track_id=p) for p in range(2)] for t in FRAMES],
}
FOLDERS = {
    "openpose folder": [{"people": people} for people in PEOPLE],
    "mmpose folder": [mmpose_instances(t) for t in FRAMES],
}
ARCHIVES = {
    "arrays": {
        "keypoints": POSES.tolist(), "scores": SCORES.tolist(), "ids": [[1, 2]] * 3, "frame": [4, 5, 6], "fps": 25.0,
        "image_size": [640, 480], "joint_set": "coco17",
    },
    "videopose3d": {
        "positions_2d": {"walk.mp4": {"custom": [POSES[:, 0].tolist()]}},
        "metadata": {"layout_name": "coco", "video_metadata": {"walk.mp4": {"w": 640, "h": 480}}},
    },
}  # fmt: skip
TABLES = {
    "long": table(
        "frame,person,joint,x,y,score",
        [(t, p, name, *POSES[t, p, j], 0.9) for t, p in pairs() for j, name in enumerate(COCO17.joints)],
    ),
    "wide": table(
        "frame,person," + ",".join(f"{name}_{axis}" for name in COCO17.joints for axis in ("x", "y", "score")),
        [(t, p, *flat(t, p)) for t, p in pairs()],
    ),
    "labels": [["0", "0.5", "0.5", "0.2", "0.4", *map(str, [0.5, 0.5, 0.9] * 17), "0.8", str(p)] for p in range(2)],
}
OTHERS = (
    None, True, -1, 0, 2.5, 10**30, 10**400, float("nan"), float("inf"), "", "x", "12", [], [1], [[1, 2]], ["x"],
    [None], {}, {"x": 1}, [{}],
)  # fmt: skip


def changed(content, chance):
    """The content with one value dropped, repeated or replaced, somewhere in it: near its root as often as deep in."""
    content = copy.deepcopy(content)
    place = content
    while True:
        keys = list(place) if isinstance(place, dict) else range(len(place))
        key = chance.choice(keys)
        if not (isinstance(place[key], dict | list) and place[key]) or chance.random() < 0.25:
            break
        place = place[key]
    match chance.choice(["drop", "repeat", "replace", "replace", "replace"]):
        case "drop":
            del place[key]
        case "repeat" if isinstance(place, list):
            place.append(place[key])
        case _:
            place[key] = chance.choice(OTHERS)
    return content


def as_array(value):
    try:
        return np.array(value)
    except ValueError:  # ragged
        ragged = np.empty(len(value), object)
        ragged[:] = value
        return ragged


def write_form(path, form, content, chance):
    """A file or folder of a content; of some files the end is cut off."""
    if form in FOLDERS:
        path.mkdir()
        files = {path / f"v_{t}.json": json.dumps(entry).encode() for t, entry in enumerate(content)}
    elif form == "labels":
        path.mkdir()
        files = {path / "v_1.txt": "\n".join(" ".join(map(str, line or ())) for line in content).encode()}
    elif form in TABLES:
        files = {path: "\n".join(",".join(map(str, row or ())) for row in content).encode()}
    elif form in ARCHIVES:
        with path.open("wb") as file:
            np.savez(file, **{name: as_array(value) for name, value in content.items()})
        files = {path: path.read_bytes()}
    else:
        files = {path: json.dumps(content).encode()}
    for file, data in files.items():
        file.write_bytes(data[: chance.randrange(len(data) + 1)] if chance.random() < 0.1 else data)


def lined(content):
    """Rows of a table whose words may have become anything, as rows of words."""
    return [row if isinstance(row, list) else [row] for row in content]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of infinite numbers
@pytest.mark.parametrize("form", [*JSON_FORMS, *FOLDERS, *ARCHIVES, *TABLES])
def test_changed_contents_are_read_or_refused_by_the_name_of_their_file(tmp_path, form):
    chance = random.Random(0)
    valid = (JSON_FORMS | FOLDERS | ARCHIVES | TABLES)[form]
    refused = 0
    for n in range(60):
        content = valid
        for _ in range(n and chance.randrange(1, 3)):
            content = changed(content, chance) if content else content
        path = tmp_path / f"{n}.form"
        write_form(path, form, lined(content) if form in TABLES else content, random.Random(0) if not n else chance)
        try:
            assert read_keypoints(path, SIZED)
        except KeypointsError as error:
            assert n and str(path) in str(error)
            refused += 1
    assert 10 < refused < 59
