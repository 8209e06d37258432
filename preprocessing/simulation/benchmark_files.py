"""The published benchmark files of simulated takes: COCO keypoints, COCO tracking and detections, in the same form.

Made from the raw files on disk as the official toolkit makes them from its own, with its deviating projections
(`toolkit`). They lie in benchmark/<scene>/<take>/{coco,coco_track}, and those of the three test scenes once more all
together, where, as in the published ones, 003_fencing is contained twice and 007_fencing not at all.
"""

import json
import pickle
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from finepose_mp.preprocessing.egohumans import aria, catalogue
from finepose_mp.preprocessing.simulation import toolkit
from finepose_mp.preprocessing.unpickling import load_npy, load_pickle

FOLDER = "benchmark"
TEST_SCENES = ("01_tagging", "02_legoassemble", "03_fencing")
ALL = f"{':'.join(TEST_SCENES)}/all"
LEFT_OUT, TWICE = "03_fencing/007_fencing", "03_fencing/003_fencing"
MODES = ("ego_rgb", "ego_slam", "exo")

_FEWEST_VISIBLE = 5
_PICKLE_PROTOCOL = 4
_CATEGORIES = [{"id": 1, "name": "person", "supercategory": "person"}, {"id": 2, "name": "bicycle"}]


@dataclass
class _Image:
    """One picture of one camera: where it is, and the annotated people by name."""

    file_name: str
    size: tuple[int, int]
    camera: str
    mode: str  # rgb, left or right
    frame: int
    extrinsics: np.ndarray | None  # (4, 4), of head-worn RGB cameras
    people: dict[str, dict] = field(default_factory=dict)


@dataclass
class _Take:
    """What of a take's raw files the benchmark is made from."""

    folder: Path
    facts: catalogue.Take
    poses: dict[int, dict[str, np.ndarray]]  # frame -> person -> (17, 4)
    transforms: dict[str, np.ndarray]

    @property
    def people(self) -> list[str]:
        return sorted({name for poses in self.poses.values() for name in poses} - set(self.facts.invalid_arias))


def write_benchmark(raw: Path, takes: list[catalogue.Take]) -> Path:
    """Writes the benchmark files of takes below `raw` (their folders as in the download); returns their folder."""
    root = Path(raw) / FOLDER
    together: dict[str, list[tuple[str, list[_Image]]]] = {mode: [] for mode in MODES}
    for facts in takes:
        take = _read(Path(raw) / facts.scene.folder / facts.folder, facts)
        for mode in MODES:
            images = list(_images(take, mode))
            _write_set(root / facts.scene.folder / facts.folder, mode, [(facts.name, images)], is_one_take=True)
            copies = 0 if facts.name == LEFT_OUT else 2 if facts.name == TWICE else 1
            if facts.scene.folder in TEST_SCENES:
                together[mode] += [(facts.name, images)] * copies
    for mode, sets in together.items():
        if sets:
            _write_set(root / ALL, mode, sets, is_one_take=False)
    return root


def _read(folder: Path, facts: catalogue.Take) -> _Take:
    workplace = folder / "colmap/workplace"
    poses = {
        int(path.stem): load_npy(path.read_bytes(), path.name).item()
        for path in sorted((folder / "processed_data/fit_poses3d").glob("*.npy"))
    }
    transforms = load_pickle((workplace / "colmap_from_aria_transforms.pkl").read_bytes(), "transforms")
    return _Take(folder, facts, poses, transforms)


def _images(take: _Take, mode: str) -> Iterator[_Image]:
    """All pictures of the valid cameras of a kind, camera by camera, with their annotations."""
    if mode == "exo":
        yield from _exo_images(take)
        return
    for name in take.people:
        for sensor, lens in enumerate(aria.LENSES):
            if lens.kind == mode:
                yield from _ego_images(take, name, sensor)


def _ego_images(take: _Take, name: str, sensor: int) -> Iterator[_Image]:
    lens = aria.LENSES[sensor]
    own_to_shared = np.linalg.inv(take.transforms[name]) @ take.transforms["aria01"]
    for frame, poses in take.poses.items():
        path = take.folder / f"ego/{name}/calib/{frame:05d}.txt"
        lines = path.read_text(encoding="utf-8").splitlines()
        params = np.array(lines[2 + 2 * sensor].split(), float)
        own = np.vstack([np.array(lines[3 + 2 * sensor].split(), float).reshape(4, 3).T, [0, 0, 0, 1]])
        matrix = own @ own_to_shared
        file_name = f"{take.facts.name}/ego/{name}/images/{lens.name}/{frame:05d}.jpg"
        is_rgb = lens.kind == "ego_rgb"
        image = _Image(file_name, lens.image_size, name, lens.name, frame, matrix if is_rgb else None)
        for person, pose in poses.items():
            if person != name and person in take.people:
                points = toolkit.transformed(pose[:, :3], matrix)
                pixels = toolkit.aria_pixels(points, params, lens.sensor_size[1])
                _annotate(image, person, pose, pixels, points if is_rgb else None)
        yield image


def _exo_images(take: _Take) -> Iterator[_Image]:
    cameras, registered = _colmap(take.folder / "colmap/workplace")
    for name in sorted(registered.keys() & set(take.facts.exo_cameras)):
        camera_id, poses = registered[name]
        size, params = cameras[camera_id]
        manual = take.folder / f"colmap/workplace/{name}.npy"
        if name in take.facts.manual_cameras:
            poses = [(1, load_npy(manual.read_bytes(), manual.name))]
        for frame, people in take.poses.items():
            matrix = toolkit.nearest_pose(poses, frame) @ take.transforms["aria01"]
            image = _Image(f"{take.facts.name}/exo/{name}/images/{frame:05d}.jpg", size, name, "rgb", frame, None)
            for person, pose in people.items():
                if person in take.people:
                    points = toolkit.transformed(pose[:, :3], matrix)
                    _annotate(image, person, pose, toolkit.exo_pixels(points, params), None)
            yield image


def _colmap(workplace: Path) -> tuple[dict, dict]:
    """Camera id -> (image size, lens), and camera name -> (camera id, [(frame, pose (4, 4)), ...]) in file order."""
    cameras, registered = {}, {}
    for line in (workplace / "cameras.txt").read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            words = line.split()
            cameras[int(words[0])] = (int(words[2]), int(words[3])), np.array(words[4:], float)
    lines = (workplace / "images.txt").read_text(encoding="utf-8").split("\n")
    for line in [line for line in lines if not line.startswith("#")][:-1:2]:
        words = line.split()
        w, x, y, z, *translation = map(float, words[1:8])
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = Rotation.from_quat([x, y, z, w]).as_matrix(), translation
        name, _, picture = words[9].partition("/")
        registered.setdefault(name, (int(words[8]), []))[1].append((int(Path(picture).stem), pose))
    return cameras, registered


def _annotate(
    image: _Image, person: str, pose: np.ndarray, pixels: np.ndarray, points_camera: np.ndarray | None
) -> None:
    inside = toolkit.visible(pixels, pose[:, 3], image.size)
    if inside.sum() < _FEWEST_VISIBLE:
        return
    rounded = np.rint(np.clip(np.nan_to_num(pixels), -1e9, 1e9)).astype(int)  # far off the axis they explode
    keypoints = np.column_stack([rounded, np.where(inside, 2, 0)])
    in_camera = [] if points_camera is None else np.column_stack([points_camera, pose[:, 3]]).ravel().tolist()
    image.people[person] = {
        "keypoints": keypoints.ravel().tolist(),
        "num_keypoints": int(inside.sum()),
        "bbox": toolkit.box(pixels, inside),
        "keypoints_3d": in_camera,
        "keypoints_3d_world": pose,
    }


def _write_set(folder: Path, mode: str, sets: list[tuple[str, list[_Image]]], is_one_take: bool) -> None:
    """The files of one kind of camera; ids count on over the takes."""
    for name in ("coco", "coco_track"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    _dump(folder / f"coco/person_keypoints_{mode}.json", _keypoint_file(sets))
    tracking, kept = _tracking_file(sets, is_one_take)
    _dump(folder / f"coco_track/tracking_{mode}.json", tracking)
    detections = _detections(kept, mode)
    (folder / f"coco_track/detections_{mode}.pkl").write_bytes(pickle.dumps(detections, _PICKLE_PROTOCOL))


def _dump(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content), encoding="utf-8", newline="\n")


def _video_name(take_name: str, image: _Image) -> str:
    scene, number = take_name.split("/")
    return f"{scene.split('_', 1)[1]}_{number}_{image.camera}_{image.mode}"


def _keypoint_file(sets: list[tuple[str, list[_Image]]]) -> dict:
    images, annotations = [], []
    for take_name, pictures in sets:
        for image in pictures:
            video = _video_name(take_name, image)
            images.append(
                {"id": len(images), "file_name": image.file_name, "width": image.size[0], "height": image.size[1],
                 "date_captured": "", "license": 1, "coco_url": "", "flickr_url": "", "video_name": video}
            )  # fmt: skip
            for person, entry in image.people.items():
                x, y, w, h = entry["bbox"]
                annotations.append(
                    {"id": len(annotations), "image_id": images[-1]["id"], "category_id": 1, "iscrowd": 0,
                     "area": w * h, "bbox": [x, y, w, h], "segmentation": None, "width": image.size[0],
                     "height": image.size[1], "video_name": video, "keypoints": entry["keypoints"],
                     "num_keypoints": entry["num_keypoints"], "human_name": person, "camera_name": image.camera,
                     "camera_mode": image.mode, "time_stamp": image.frame, "keypoints_3d": entry["keypoints_3d"]}
                )  # fmt: skip
    info = {"description": "SIMULATED, not recorded", "version": "1.0"}
    return {"info": info, "licenses": [{"id": 1, "name": ""}], "categories": _CATEGORIES, "images": images,
            "annotations": annotations}  # fmt: skip


def _tracking_file(sets: list[tuple[str, list[_Image]]], is_one_take: bool) -> tuple[dict, list[_Image]]:
    """The tracking file, from which pictures of nobody are left out, and the pictures that are left."""
    videos, images, annotations, kept = [], [], [], []
    image_counts: dict[int, int] = {}
    instance_counts: dict[int, int] = {}
    for take_name, pictures in sets:
        names: dict[str, int] = {}
        for image in (picture for picture in pictures if picture.people):
            name = _video_name(take_name, image)
            if name not in names:
                names[name] = len(videos) + 1
                videos.append({"id": names[name], "name": name})
            video = names[name]
            entry = {"file_name": image.file_name, "height": image.size[1], "width": image.size[0], "id": len(images),
                     "video_id": video, "frame_id": image_counts.get(video, 0)}  # fmt: skip
            if image.extrinsics is not None:
                entry |= {"extrinsics": image.extrinsics.ravel().tolist(), "depth_path": "/none"}
            images.append(entry)
            kept.append(image)
            image_counts[video] = image_counts.get(video, 0) + 1
            for person, found in image.people.items():
                instance_counts[video] = instance_counts.get(video, 0) + 1
                x, y, w, h = found["bbox"]
                annotations.append(
                    {"id": len(annotations), "image_id": entry["id"], "video_id": video, "category_id": 0,
                     "instance_id": int(person.removeprefix("aria")), "bbox": [x, y, w, h], "area": w * h,
                     "occluded": False, "truncated": False, "iscrowd": False, "ignore": False,
                     "is_vid_train_frame": True, "visibility": 1.0, "human_name": person,
                     "camera_name": image.camera, "camera_mode": image.mode, "time_stamp": image.frame}
                )  # fmt: skip
    content = {"categories": [{"id": 0, "name": "pedestrian"}], "videos": videos, "images": images,
               "annotations": annotations, "video_num": len(videos), "image_num": len(images),
               "instance_num": len(annotations)}  # fmt: skip
    if is_one_take:
        content |= {"video_image_num": image_counts, "video_instance_num": instance_counts}
    return content, kept


def _detections(kept: list[_Image], mode: str) -> dict:
    """The pickled "detections", which are ground truth: boxes, 3D joints and (unusable) roots by file name."""
    boxes, points, roots = {}, {}, {}
    for image in kept:
        people = list(image.people.values())
        corners = [(x, y, x + w, y + h, 1.0) for x, y, w, h in (entry["bbox"] for entry in people)]
        boxes[image.file_name] = [np.array(corners)]
        points[image.file_name] = [np.stack([entry["keypoints_3d_world"] for entry in people])]
        roots[image.file_name] = [np.zeros((len(people), 3))]
    content = {"det_bboxes": boxes, "keypoints_3d": points}
    return content | {"roots_3d": roots} if mode == "ego_rgb" else content
