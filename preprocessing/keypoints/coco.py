"""COCO keypoints: results, data sets with videos and instance ids, EgoHumans' benchmark files, and AlphaPose's results.

Results are a list of {"image_id", "category_id", "keypoints": [x, y, score, ...], "score"}; AlphaPose adds "box" and
"idx" and names the image file. Data sets are {"images", "annotations", "categories"[, "videos"]}, where the third value
of a keypoint is 0 absent, 1 hidden, 2 visible.
"""

from collections import defaultdict
from pathlib import PurePosixPath

from finepose_mp.preprocessing.keypoints.content import Content, frame_number
from finepose_mp.preprocessing.keypoints.found import Found, KeypointsError, Person, identity_of, triples


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
    dataset = content.value
    if content.kind != "json" or not isinstance(dataset, dict) or not {"images", "annotations"} <= dataset.keys():
        return None
    annotations = [a for a in dataset["annotations"] if a.get("keypoints")]
    if dataset["annotations"] and not annotations:
        raise KeypointsError(
            f"{content.path}: its annotations are boxes without keypoints; of the EgoHumans benchmark, take "
            "coco/person_keypoints_*.json instead of coco_track/tracking_*.json"
        )
    people_of = defaultdict(list)
    for annotation in annotations:
        people_of[annotation["image_id"]].append(annotation)
    unknown = people_of.keys() - {image["id"] for image in dataset["images"]}
    if unknown:
        raise KeypointsError(f"{content.path}: annotations of images that it does not list, such as {min(unknown)}")
    names = {video["id"]: str(video.get("name", video["id"])) for video in dataset.get("videos", ())}
    images_of = defaultdict(list)
    for image in dataset["images"]:
        images_of[_camera(image, names)].append(image)
    return [_read_camera(content, camera, images, people_of) for camera, images in images_of.items()]


def _read_camera(content: Content, camera: str, images: list[dict], people_of: dict) -> Found:
    numbers, note = _frame_numbers(images)
    people = []
    for number, image in zip(numbers, images, strict=True):
        for annotation in people_of.get(image["id"], ()):
            where = f"{content.path}: annotation {annotation.get('id')}"
            keypoints, scores = triples(annotation["keypoints"], where)
            identity = identity_of(annotation, "instance_id", "track_id", "human_name")
            people.append(Person(number, keypoints, scores, identity))
    sizes = {(image.get("width"), image.get("height")) for image in images}
    size = next(iter(sizes)) if len(sizes) == 1 else (None, None)
    if len(sizes) > 1:
        note += [f"images of {camera} have {len(sizes)} different sizes, so none was taken from the file"]
    return Found(
        format="COCO keypoints",
        people=people,
        frames=numbers,
        camera=camera,
        joint_names=_joint_names(content.value),
        image_size=(int(size[0]), int(size[1])) if all(size) else None,
        units="px",
        notes=note,
    )


def _camera(image: dict, names: dict) -> str:
    if image.get("video_id") in names:
        return names[image["video_id"]]
    return str(image.get("video_name") or PurePosixPath(image.get("file_name", "")).parent)


def _frame_numbers(images: list[dict]) -> tuple[list[int], list[str]]:
    """Frame number of each image, from its file name before `frame_id`, which often counts kept images only."""
    sources = (
        ("the numbers in names of images", [frame_number(image.get("file_name", "")) for image in images]),
        ("frame_id", [image.get("frame_id") for image in images]),
    )
    for name, numbers in sources:
        if None not in numbers and len(set(numbers)) == len(numbers):
            return [int(number) for number in numbers], [f"frames are numbered by {name}"]
    return list(range(len(images))), ["frames are numbered in the order of images, which have no numbers of their own"]


def _joint_names(dataset: dict) -> list[str] | None:
    for category in dataset.get("categories", ()):
        if category.get("keypoints"):
            return [str(name) for name in category["keypoints"]]
    return None


def _image_number(image: object, where: str) -> int:
    number = frame_number(image) if isinstance(image, str) else image
    if not isinstance(number, int):
        raise KeypointsError(f"{where}: image_id {image!r} has no number, so its place in time is unknown")
    return number


def _is_list_of(value: object, key: str) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(entry, dict) and key in entry for entry in value)
