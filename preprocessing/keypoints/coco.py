"""COCO keypoints: results, data sets with videos and instance ids, EgoHumans' benchmark files, and AlphaPose's results.

Results are a list of {"image_id", "category_id", "keypoints": [x, y, score, ...], "score"}; AlphaPose adds "box" and
"idx" and names the image file. Data sets are {"images", "annotations", "categories"[, "videos"]}, where the third value
of a keypoint is 0 absent, 1 hidden, 2 visible.
"""

from collections import defaultdict
from pathlib import PurePosixPath

from finepose_mp.preprocessing.keypoints.content import Content, frame_number
from finepose_mp.preprocessing.keypoints.found import (
    UNNAMED,
    Found,
    KeypointsError,
    Person,
    are_frames,
    identity_of,
    of_kind,
    triples,
    whole_number,
)


def read_results(content: Content) -> list[Found] | None:
    """People of a list of COCO results, AlphaPose's among them; None when the content is something else."""
    entries = content.value
    if content.kind != "json" or not _is_list_of(entries, "image_id"):
        return None
    if "keypoints" not in entries[0]:
        raise KeypointsError(f"{content.path}: COCO results without keypoints, such as boxes only, cannot be lifted")
    is_alphapose = "idx" in entries[0] or isinstance(entries[0]["image_id"], str)
    people = []
    for number, entry in enumerate(entries):
        where = f"{content.path}: entry {number}"
        keypoints, scores = triples(entry.get("keypoints", ()), where)
        identity = identity_of(entry, "instance_id", "track_id", "idx")
        people.append(Person(_image_number(entry.get("image_id"), where), keypoints, scores, identity))
    format = "AlphaPose results" if is_alphapose else "COCO keypoint results"
    return [Found(format, people, is_order_free=True)]


def read_dataset(content: Content) -> list[Found] | None:
    """People of each video or folder of images of a COCO data set; None when the content is something else."""
    if content.kind != "json" or not isinstance(content.value, dict):
        return None
    if not {"images", "annotations"} <= content.value.keys():
        return None
    images, videos = dict(_entries(content, "images")), dict(_entries(content, "videos"))
    annotations = {where: a for where, a in _entries(content, "annotations") if a.get("keypoints")}
    if content.value["annotations"] and not annotations:
        raise KeypointsError(
            f"{content.path}: its annotations are boxes without keypoints; of the EgoHumans benchmark, take "
            "coco/person_keypoints_*.json instead of coco_track/tracking_*.json"
        )
    listed = {_id(image, "id", where) for where, image in images.items()}
    people_of = defaultdict(dict)
    for where, annotation in annotations.items():
        image_id = _id(annotation, "image_id", where)
        if image_id not in listed:
            raise KeypointsError(f"{where}: image_id {image_id!r} is none of the {len(listed)} images")
        people_of[image_id][where] = annotation
    names = {_id(video, "id", where): str(video.get("name", video["id"])) for where, video in videos.items()}
    images_of = defaultdict(dict)
    for where, image in images.items():
        images_of[_camera(image, names, where)][where] = image
    joint_names = _joint_names(content)
    return [_read_camera(camera, images, people_of, joint_names) for camera, images in images_of.items()]


def _read_camera(camera: str, images: dict[str, dict], people_of: dict, joint_names: list[str] | None) -> Found:
    """Everybody in the images of one camera; images and annotations by what to call them in messages."""
    numbers, note = _frame_numbers(images)
    people = []
    for number, image in zip(numbers, images.values(), strict=True):
        for where, annotation in people_of.get(image["id"], {}).items():
            keypoints, scores = triples(annotation["keypoints"], where)
            identity = identity_of(annotation, "instance_id", "track_id", "human_name")
            people.append(Person(number, keypoints, scores, identity))
    sizes = {_size(image, where) for where, image in images.items()}
    size = next(iter(sizes)) if len(sizes) == 1 else None
    if len(sizes) > 1:
        note += [f"images of {camera} have {len(sizes)} different sizes, so none was taken from the file"]
    return Found(
        format="COCO keypoints",
        people=people,
        frames=numbers,
        camera=camera,
        joint_names=joint_names,
        image_size=size,
        units="px",
        notes=note,
    )


def _entries(content: Content, key: str) -> list[tuple[str, dict]]:
    """(what to call it in messages, entry) of each object of a list, none where the list is absent or null."""
    where = f"{content.path}: {key}"
    values = content.value.get(key)
    values = [] if values is None else of_kind(values, list, where)
    return [(f"{where}[{n}]", of_kind(value, dict, f"{where}[{n}]")) for n, value in enumerate(values)]


def _id(entry: dict, key: str, where: str) -> int | float | str:
    value = entry.get(key)
    if not isinstance(value, int | float | str):
        found = f"is {value!r}" if key in entry else "is missing"
        raise KeypointsError(f"{where}: {key} {found}, expected a number or text")
    return value


def _size(image: dict, where: str) -> tuple[int, int] | None:
    """Width and height in pixels, None where one of them is not said."""
    if not image.get("width") or not image.get("height"):
        return None
    return whole_number(image["width"], f"{where}: width"), whole_number(image["height"], f"{where}: height")


def _file_name(image: dict, where: str) -> str:
    return of_kind(image.get("file_name", ""), str, f"{where}: file_name")


def _camera(image: dict, names: dict, where: str) -> str:
    if image.get("video_id") is not None and _id(image, "video_id", where) in names:
        return names[image["video_id"]]
    folder = PurePosixPath(_file_name(image, where)).parent
    return str(image.get("video_name") or (folder if folder.name else UNNAMED))


def _frame_numbers(images: dict[str, dict]) -> tuple[list[int], list[str]]:
    """Frame number of each image, from its file name before `frame_id`, which often counts kept images only."""
    sources = (
        ("the numbers in names of images", [frame_number(_file_name(i, where)) for where, i in images.items()]),
        ("frame_id", [_frame_id(image, where) for where, image in images.items()]),
    )
    for name, numbers in sources:
        if None not in numbers and len(set(numbers)) == len(numbers) and are_frames(numbers):
            return numbers, [f"frames are numbered by {name}"]
    return list(range(len(images))), ["frames are numbered in the order of images, which have no frame numbers"]


def _frame_id(image: dict, where: str) -> int | None:
    number = image.get("frame_id")
    return None if number is None else whole_number(number, f"{where}: frame_id")


def _joint_names(content: Content) -> list[str] | None:
    for where, category in _entries(content, "categories"):
        if category.get("keypoints"):
            return [str(name) for name in of_kind(category["keypoints"], list, f"{where}: keypoints")]
    return None


def _image_number(image: object, where: str) -> int:
    number = frame_number(image) if isinstance(image, str) else image
    if number is None:
        raise KeypointsError(f"{where}: image_id {image!r} has no number, so its place in time is unknown")
    return whole_number(number, f"{where}: image_id")


def _is_list_of(value: object, key: str) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(entry, dict) and key in entry for entry in value)
