"""What is known in advance about the 133 released EgoHumans takes: names, splits, people, cameras and lengths.

The facts live in `catalogue.yaml`. They decide which people and cameras are valid and where a camera's pose comes from;
what is on disk always wins over an expected count, and the difference becomes a finding. Another dataset of the same
layout (Harmony4D) is one more such file away.
"""

import re
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

FPS = 20.0

SCENE_FOLDER = re.compile(r"\d{2}_[A-Za-z0-9]+")
TAKE_FOLDER = re.compile(r"\d{3}_[A-Za-z0-9]+")


@dataclass(frozen=True)
class Scene:
    """One big sequence: its folder ("01_tagging"), the words used for it, and its side of the official split."""

    folder: str
    download_folder: str
    suffix: str
    title: str
    action: str
    split: str
    take_count: int


@dataclass(frozen=True)
class Take:
    """One subsequence and the facts needed to read it; `known` is False for a take outside the catalogue.

    `arias` are the people that wear valid glasses, `exo_cameras` the fixed cameras expected on disk and valid. Both are
    empty, `frames` and `keypoints_2d` None, where nothing is known. `manual_cameras` have hand-made poses (camNN.npy),
    `absent_cameras` have no folder at all.
    """

    scene: Scene
    number: int
    known: bool
    frames: int | None = None
    arias: tuple[str, ...] = ()
    invalid_arias: tuple[str, ...] = ()
    exo_cameras: tuple[str, ...] = ()
    invalid_cameras: tuple[str, ...] = ()
    absent_cameras: tuple[str, ...] = ()
    manual_cameras: tuple[str, ...] = ()
    keypoints_2d: int | None = None
    fps: float = FPS

    @property
    def folder(self) -> str:
        """The take's folder name, "001_tagging"."""
        return f"{self.number:03d}_{self.scene.suffix}"

    @property
    def name(self) -> str:
        """The take's name in the converted file, "01_tagging/001_tagging"."""
        return f"{self.scene.folder}/{self.folder}"


def within_scene_split(take_number: int) -> str:
    """Side of the within-scene split ("train", "val" or "test") of take 1, 2, 3, ... of any scene.

    One take in five is tested and one in five validated, so that every scene appears on all three sides.
    """
    return {2: "test", 4: "val"}.get(take_number % 5, "train")


# For which take numbers an entry of a table holds: all, one, or a range.
TakeNumbers = int | Annotated[str, Field(pattern=r"^(all|\d+|\d+-\d+)$")]


class SceneFacts(BaseModel):
    """What a catalogue says about one scene; `catalogue.yaml` explains its tables."""

    model_config = ConfigDict(extra="forbid")

    suffix: str
    title: str
    action: str
    split: Literal["train", "val", "test"]
    takes: int
    arias: int
    exo_cameras: int
    download_folder: str | None = None
    frames: list[int | None] = []
    invalid_arias: dict[str, TakeNumbers] = {}
    invalid_cameras: dict[str, TakeNumbers] = {}
    absent_cameras: dict[str, TakeNumbers] = {}
    manual_cameras: dict[str, TakeNumbers] = {}
    keypoints_2d: dict[int, TakeNumbers] = {}


class Catalogue(BaseModel):
    """A dataset of EgoHumans' layout: what its file in our format says about itself, and its scenes by folder."""

    model_config = ConfigDict(extra="forbid")

    dataset: str
    licence: str
    citation: str
    fps: float = FPS
    scenes: dict[str, SceneFacts]

    def all_scenes(self) -> tuple[Scene, ...]:
        """The scenes in the order of their folders."""
        return tuple(_scene_from_facts(folder, facts) for folder, facts in self.scenes.items())

    def scene(self, folder: str) -> Scene:
        """The scene of a big-sequence folder, by either of its names; an unknown one gets its words from its folder.

        Raises:
            ValueError: the folder is not named like a big sequence.
        """
        for known in self.all_scenes():
            if folder in (known.folder, known.download_folder):
                return known
        if not SCENE_FOLDER.fullmatch(folder):
            raise ValueError(f"{folder!r} is not the name of a big sequence; expected a name like '01_tagging'")
        word = folder.split("_", 1)[1]
        return Scene(folder, folder, word, word.capitalize(), word.lower(), "train", 0)

    def take(self, scene_folder: str, take_folder: str) -> Take:
        """The facts of one take by its two folder names; an unknown one gets no invalid lists (`known` False).

        Raises:
            ValueError: a folder is not named like a big sequence or like a take.
        """
        its_scene = self.scene(scene_folder)
        if not TAKE_FOLDER.fullmatch(take_folder):
            raise ValueError(
                f"{take_folder!r} is not the name of a take; expected a name like '001_{its_scene.suffix}'"
            )
        number, suffix = take_folder.split("_", 1)
        if suffix != its_scene.suffix or not 1 <= int(number) <= its_scene.take_count:
            return Take(replace(its_scene, suffix=suffix), int(number), known=False, fps=self.fps)
        return _take_from_facts(its_scene, int(number), self.scenes[its_scene.folder], self.fps)


def load_catalogue(path: Path) -> Catalogue:
    """The catalogue in a YAML file of the form of `catalogue.yaml`.

    Raises:
        ValueError: not such a file; the message names the file, the entry and what is wrong with it.
    """
    try:
        return Catalogue.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (ValidationError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path} is no catalogue of takes: {error}\nCompare it with preprocessing/egohumans/catalogue.yaml"
        ) from error


@cache
def released() -> Catalogue:
    """The catalogue of the 133 released EgoHumans takes."""
    return Catalogue.model_validate(
        yaml.safe_load(files(__package__).joinpath("catalogue.yaml").read_text(encoding="utf-8"))
    )


def scenes() -> tuple[Scene, ...]:
    """The seven released scenes in the order of their folders."""
    return released().all_scenes()


def scene(folder: str) -> Scene:
    """The released scene of a big-sequence folder, see `Catalogue.scene`."""
    return released().scene(folder)


def take(scene_folder: str, take_folder: str) -> Take:
    """The facts of one released take by its two folder names, see `Catalogue.take`."""
    return released().take(scene_folder, take_folder)


def takes() -> tuple[Take, ...]:
    """The 133 released takes, in order."""
    return tuple(
        take(its_scene.folder, f"{number:03d}_{its_scene.suffix}")
        for its_scene in scenes()
        for number in range(1, its_scene.take_count + 1)
    )


def _scene_from_facts(folder: str, facts: SceneFacts) -> Scene:
    return Scene(
        folder, facts.download_folder or folder, facts.suffix, facts.title, facts.action, facts.split, facts.takes
    )


def _take_from_facts(its_scene: Scene, number: int, facts: SceneFacts, fps: float) -> Take:
    def names(table: dict[str, TakeNumbers]) -> tuple[str, ...]:
        return tuple(sorted(name for name, takes_ in table.items() if _holds(takes_, number)))

    invalid_arias, invalid_cameras = names(facts.invalid_arias), names(facts.invalid_cameras)
    missing_cameras = {*invalid_cameras, *names(facts.absent_cameras)}
    arias = (f"aria{i:02d}" for i in range(1, facts.arias + 1))
    cameras = (f"cam{i:02d}" for i in range(1, facts.exo_cameras + 1))
    return Take(
        scene=its_scene,
        number=number,
        known=True,
        frames=facts.frames[number - 1] if number <= len(facts.frames) else None,
        arias=tuple(name for name in arias if name not in invalid_arias),
        invalid_arias=invalid_arias,
        exo_cameras=tuple(name for name in cameras if name not in missing_cameras),
        invalid_cameras=invalid_cameras,
        absent_cameras=names(facts.absent_cameras),
        manual_cameras=names(facts.manual_cameras),
        keypoints_2d=next((count for count, takes_ in facts.keypoints_2d.items() if _holds(takes_, number)), None),
        fps=fps,
    )


def _holds(takes_: TakeNumbers, number: int) -> bool:
    """Whether a take number lies in "all", a single number or a range such as "8-11"."""
    if takes_ == "all":
        return True
    first, _, last = str(takes_).partition("-")
    return int(first) <= number <= int(last or first)
