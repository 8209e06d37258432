"""The published benchmark files of EgoHumans, or files of the same form from an external detector.

    benchmark/<scene>/<take>/coco/person_keypoints_{ego_rgb,ego_slam,exo}.json      keypoints (51 numbers) by human_name
    benchmark/<scene>/<take>/coco_track/tracking_{ego_rgb,ego_slam,exo}.json        identities; keypoints from others
    benchmark/<scene>/<take>/coco_track/detections_{ego_rgb,ego_slam,exo}.pkl       3D ground truth
    benchmark/01_tagging:02_legoassemble:03_fencing/all/...                         all test takes in one

The last contains 003_fencing twice and 007_fencing not at all. Published "keypoints" are projected ground truth: with
the toolkit's own deviations from the lens, rounded, and one pixel to the right in upright images.
"""

import re
from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np

from finepose_mp.preprocessing.json_stream import elements
from finepose_mp.preprocessing.unpickling import DamagedFileError, UnsafeFileError, load_pickle

# Upright images are x_up = H - y in the official toolkit, H - 1 - y between the centres of pixels.
UPRIGHT_BIAS_PX = 1.0

_FILE_NAME = re.compile(
    r"(?:.*/)?(\d{2}_[^/]+)/(\d{3}_[^/]+)/(?:ego/(aria\d{2})/images/(rgb|left|right)|exo/(cam\d{2})/images)/(\d{5})\.jpg"
)
_TAKE_FOLDER = re.compile(r"/\d{2}_[^/:]+/\d{3}_[^/:]+/")
_PERSON = re.compile(r"aria\d{2}")
_KEYPOINTS = 51
_KEYPOINT_FILE, _TRACKING_FILE = "person_keypoints_", "tracking_"
_VISIBILITIES = {0.0, 1.0, 2.0}


class BenchmarkError(ValueError):
    """A folder without benchmark files; the message says what was looked for."""


@dataclass(frozen=True)
class ImageKey:
    """A picture by take ("01_tagging/001_tagging"), camera as in the converted file, and source frame number."""

    take: str
    camera: str
    frame: int


def image_key(file_name: object) -> ImageKey | None:
    """What a file name of the benchmark says, None where it is no picture of a take."""
    match = _FILE_NAME.fullmatch(file_name) if isinstance(file_name, str) else None
    if match is None:
        return None
    scene, take, aria, mode, exo, frame = match.groups()
    return ImageKey(f"{scene}/{take}", exo or f"{aria}_{mode}", int(frame))


@dataclass
class TakeFiles:
    """What the benchmark says about one take.

    keypoints: camera -> person -> [(frame, (17, 3) u, v, score or visibility)]; is_published says whether they are
    the toolkit's own. instances: (frame, camera) -> people. extrinsics: camera -> frame -> (4, 4) world to sensor, with
    a scale. poses: frame -> person -> (17, 4). images and annotated are pictures of person_keypoints files; the rest is
    what is odd: pictures contained more than once by file, contradicting identities, and unusable annotations.
    """

    name: str
    keypoints: dict[str, dict[str, list[tuple[int, np.ndarray]]]] = field(default_factory=dict)
    is_published: bool = True
    instances: dict[tuple[int, str], list[str]] = field(default_factory=dict)
    extrinsics: dict[str, dict[int, np.ndarray]] = field(default_factory=dict)
    poses: dict[int, dict[str, np.ndarray]] = field(default_factory=dict)
    images: set[ImageKey] = field(default_factory=set)
    annotated: set[ImageKey] = field(default_factory=set)
    repeated: Counter = field(default_factory=Counter)
    mismatched: list[str] = field(default_factory=list)
    damaged: int = 0


class Benchmark:
    """The benchmark files below a folder.

    Raises:
        BenchmarkError: there are none.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.files = [*sorted(self.folder.rglob("*.json")), *sorted(self.folder.rglob("detections_*.pkl"))]
        if not any(path.suffix == ".json" for path in self.files):
            raise BenchmarkError(
                f"{self.folder}: no benchmark files; expected COCO files such as "
                "01_tagging/001_tagging/coco/person_keypoints_exo.json in it (folder benchmark of the download)"
            )

    def take(self, name: str) -> TakeFiles | None:
        """What the files say about the take of that name; None when they do not know it.

        Files of the take alone are preferred to those of all takes, which are read once and kept.

        Raises:
            DamagedFileError: not JSON, truncated, or a pickle that is damaged.
            UnsafeFileError: a pickle that would run code.
        """
        own = [path for path in self.files if f"/{name}/" in self._below(path)]
        return _read_files(tuple(own or self.of_all_takes())).get(name)

    def of_all_takes(self) -> list[Path]:
        """Files that lie in no folder of a single take."""
        return [path for path in self.files if not _TAKE_FOLDER.search(self._below(path))]

    def _below(self, path: Path) -> str:
        return f"/{path.relative_to(self.folder).as_posix()}"


@lru_cache(maxsize=2)
def _read_files(paths: tuple[Path, ...]) -> dict[str, TakeFiles]:
    """Take name -> what files say about it."""
    takes: dict[str, TakeFiles] = {}
    for path in paths:
        try:
            _read_json(path, takes) if path.suffix == ".json" else _read_detections(path, takes)
        except (DamagedFileError, UnsafeFileError):
            raise
        except (TypeError, ValueError, KeyError, OverflowError) as error:  # values of other types than in COCO
            raise DamagedFileError(f"{path}: not of the form of a benchmark file ({error})") from error
    return takes


def _read_json(path: Path, takes: dict[str, TakeFiles]) -> None:
    images = _read_images(path, takes)
    for _, annotation in elements(path, "annotations"):
        if not isinstance(annotation, dict):
            raise DamagedFileError(f"{path}: an annotation that is no object")
        key = images.get(annotation.get("image_id"))
        if key is not None:
            _add_annotation(path, takes[key.take], key, annotation)


def _read_images(path: Path, takes: dict[str, TakeFiles]) -> dict[object, ImageKey]:
    """Image id -> what it is a picture of; of two with one name the second is counted and left out."""
    images, seen = {}, set()
    for _, image in elements(path, "images"):
        key = image_key(image.get("file_name")) if isinstance(image, dict) else None
        if key is None:
            example = "01_tagging/001_tagging/exo/cam01/images/00001.jpg"
            raise DamagedFileError(f"{path}: an image without a file_name such as {example}")
        take = takes.setdefault(key.take, TakeFiles(key.take))
        if key in seen:
            take.repeated[str(path)] += 1
            continue
        seen.add(key)
        take.images.add(key)
        images[image.get("id")] = key
        if "extrinsics" in image:
            matrix = np.asarray(image["extrinsics"], dtype=np.float64)
            if matrix.shape != (16,):
                raise DamagedFileError(f"{path}: extrinsics of {image['file_name']} are no 16 numbers")
            take.extrinsics.setdefault(key.camera, {})[key.frame] = matrix.reshape(4, 4)
    return images


def _add_annotation(path: Path, take: TakeFiles, key: ImageKey, annotation: dict) -> None:
    person = _person(take, key, annotation)
    if person is None:
        take.damaged += 1
        return
    take.annotated.add(key)
    is_published = path.name.startswith(_KEYPOINT_FILE)
    if path.name.startswith(_TRACKING_FILE):
        take.instances.setdefault((key.frame, key.camera), []).append(person)
    if "keypoints" not in annotation:
        return
    if not is_published and take.is_published:  # somebody's own detections win over the published projections
        take.is_published, take.keypoints = False, {}
    if is_published and not take.is_published:
        return
    numbers = np.asarray(annotation["keypoints"], dtype=np.float64)
    if numbers.shape != (_KEYPOINTS,):
        raise DamagedFileError(f"{path}: keypoints of annotation {annotation.get('id')} are no {_KEYPOINTS} numbers")
    people = take.keypoints.setdefault(key.camera, {})
    people.setdefault(person, []).append((key.frame, numbers.reshape(-1, 3).astype(np.float32)))


def _person(take: TakeFiles, key: ImageKey, annotation: dict) -> str | None:
    """The annotated person's name: human_name, or the number of the Aria; a contradiction is noted."""
    named, number = annotation.get("human_name"), annotation.get("instance_id")
    numbered = f"aria{number:02d}" if isinstance(number, int) and 0 < number < 100 else None
    if isinstance(named, str) and _PERSON.fullmatch(named):
        if numbered is not None and numbered != named:
            take.mismatched.append(f"{key.camera} frame {key.frame}: human_name {named}, instance_id {number}")
        return named
    return numbered


def _read_detections(path: Path, takes: dict[str, TakeFiles]) -> None:
    """Adds the 3D poses of a pickle; its rows are in the order of the image's annotations in the tracking file."""
    content = load_pickle(path.read_bytes(), str(path))
    poses = content.get("keypoints_3d") if isinstance(content, dict) else None
    if not isinstance(poses, dict):
        raise DamagedFileError(f"{path}: no keypoints_3d in it")
    for file_name, arrays in poses.items():
        key = image_key(file_name)
        take = takes.get(key.take) if key is not None else None
        if take is None:
            continue
        people = take.instances.get((key.frame, key.camera), [])
        rows = np.asarray(arrays[0]) if isinstance(arrays, list) and len(arrays) == 1 else np.zeros(0)
        if rows.shape != (len(people), 17, 4) or rows.dtype.kind != "f":
            take.damaged += 1
            continue
        for person, pose in zip(people, rows, strict=True):
            take.poses.setdefault(key.frame, {}).setdefault(person, pose)
            if not np.array_equal(take.poses[key.frame][person], pose):
                take.mismatched.append(f"{key.camera} frame {key.frame}: 3D of {person} differs between cameras")


def score_of(third: np.ndarray) -> np.ndarray:
    """Scores of the third number of keypoints: itself, or 1 where it is COCO's visibility and above 0."""
    is_visibility = set(np.unique(third).tolist()) <= _VISIBILITIES
    return (third > 0).astype(np.float32) if is_visibility else third
