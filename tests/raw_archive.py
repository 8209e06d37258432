"""Archives of raw takes, made as the authors made theirs and in ways they did not."""

import io
import tarfile
from pathlib import Path

import numpy as np

# Members of the real archives lie under eight folders.
PREFIX = "media/rawalk/disk1/rawalk/datasets/ego_exo/camera_ready"


def files_of(folder: Path) -> dict[str, bytes]:
    """Path in the folder -> content, of every file in it, sorted."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def write_archive(path: Path, files: dict[str, bytes], shuffled: int | None = None, mode: str = "w:gz") -> Path:
    """An archive of files by path; in an order of its own where `shuffled` is a seed."""
    names = list(files)
    if shuffled is not None:
        names = [names[i] for i in np.random.default_rng(shuffled).permutation(len(names))]
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode, compresslevel=1) if mode == "w:gz" else tarfile.open(path, mode) as archive:
        for name in names:
            add(archive, name, files[name])
    return path


def add(archive: tarfile.TarFile, name: str, content: bytes = b"", **fields: object) -> None:
    """One member with its content; `fields` set what `tarfile.TarInfo` has, such as type and linkname."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for key, value in fields.items():
        setattr(member, key, value)
    archive.addfile(member, io.BytesIO(content))


def under(prefix: str, files: dict[str, bytes]) -> dict[str, bytes]:
    return {f"{prefix}/{name}": content for name, content in files.items()}
