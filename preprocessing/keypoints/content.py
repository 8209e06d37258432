"""What kind of file keypoints came in, told by its first bytes and never by its name."""

import io
import json
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from finepose_mp.preprocessing.keypoints.found import LARGEST_WHOLE, KeypointsError
from finepose_mp.preprocessing.unpickling import DamagedFileError, UnsafeFileError, load_npy

_LARGEST_ARCHIVE = 2_000_000_000  # bytes, unpacked


@dataclass(frozen=True)
class Content:
    """A file in memory: `kind` is json, arrays, text, hdf5, json_folder or text_folder.

    `value` is the parsed JSON; a dictionary of arrays; the text; nothing for HDF5; or (frame, name, parsed) of every
    file of a folder in order of the frame number that its name ends with.
    """

    path: Path
    kind: str
    value: object


def read_content(path: Path) -> Content:
    """The content of a file or folder.

    Raises:
        FileNotFoundError: there is nothing of that name.
        KeypointsError: empty, damaged, unsafe, or of no known kind.
    """
    path = Path(path)
    if path.is_dir():
        return _read_folder(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file or folder of 2D keypoints")
    data = path.read_bytes()
    if not data.strip():
        raise KeypointsError(f"{path}: the file is empty")
    if data.startswith(b"\x89HDF"):
        return Content(path, "hdf5", None)
    if data.startswith((b"PK\x03\x04", b"\x93NUMPY")):
        return Content(path, "arrays", _read_arrays(path, data))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise KeypointsError(
            f"{path}: starts with {data[:8]!r}, which is neither text, NumPy arrays nor HDF5. For a video, run a 2D "
            "keypoint detector on it first, or pass it as a video"
        ) from error
    if text.lstrip().startswith(("[", "{")):
        return Content(path, "json", _parse_json(text, path))
    return Content(path, "text", text)


def frame_number(name: str) -> int | None:
    """The last number in a file's name, without folder and suffixes: video_000000000012_keypoints.json is frame 12.

    None where there is none, or one too long to count anything.
    """
    numbers = re.findall(r"\d+", Path(name).name.split(".")[0])
    is_number = bool(numbers) and len(numbers[-1]) < 20 and int(numbers[-1]) <= LARGEST_WHOLE
    return int(numbers[-1]) if is_number else None


def _parse_json(text: str, path: Path) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise KeypointsError(f"{path}: not valid JSON ({error}); it may be truncated, write it again") from error


def _read_folder(path: Path) -> Content:
    # macOS leaves a hidden ._NAME beside every file that it copies to foreign disks.
    seen = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
    by_suffix = {suffix: [file for file in seen if file.suffix.lower() == suffix] for suffix in (".json", ".txt")}
    kind = "json_folder" if by_suffix[".json"] else "text_folder"
    files = by_suffix[".json"] or by_suffix[".txt"]
    if not files:
        raise KeypointsError(f"{path}: the folder holds no .json or .txt files of keypoints")
    numbers = [frame_number(file.name) for file in files]
    if None in numbers or len(set(numbers)) < len(files):
        raise KeypointsError(
            f"{path}: names of files must end with frame numbers, each once; found {files[0].name} ... {files[-1].name}"
        )
    entries = []
    for number, file in sorted(zip(numbers, files, strict=True)):
        try:
            text = file.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise KeypointsError(f"{file}: expected text in UTF-8 ({error}); it is damaged, write it again") from error
        entries.append((number, file.name, text if kind == "text_folder" else _parse_json(text, file)))
    return Content(path, kind, entries)


def _read_arrays(path: Path, data: bytes) -> dict[str, np.ndarray]:
    """Arrays by name of an npz, or the one of an npy as "keypoints"; objects pass the restricted unpickler."""
    try:
        if data.startswith(b"\x93NUMPY"):
            return {"keypoints": load_npy(data, str(path))}
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
            if sum(info.file_size for info in members) > _LARGEST_ARCHIVE:
                raise KeypointsError(f"{path}: unpacks to more than {_LARGEST_ARCHIVE} bytes, which no keypoints need")
            arrays = {
                i.filename.removesuffix(".npy"): load_npy(archive.read(i), f"{path}/{i.filename}") for i in members
            }
    except (DamagedFileError, UnsafeFileError, zipfile.BadZipFile) as error:
        raise KeypointsError(f"{path}: {error}") from error
    if not arrays:
        raise KeypointsError(f"{path}: the archive holds no NumPy arrays")
    return arrays
