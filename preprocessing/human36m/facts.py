"""What is known about Human3.6M beforehand: subjects, actions, clips with their lengths, and takes with known defects.

Names of clips are canonical, "Photo 1" also for S1, whose files alone are called TakingPhoto and WalkingDog.
"""

from dataclasses import dataclass
from functools import cache
from importlib import resources

import yaml

FPS = 50.0
JOINT_SET = "h36m17"
JOINTS_IN_FILES = 32

# Hips, right leg, left leg, Spine1, Neck, Head, the Site above it, left arm, right arm (<skel_pos> of metadata.xml).
KEPT_JOINTS = (0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27)

# S9's three takes of `SHIFTED_CLIPS` lie this far off the images, in world coordinates (PosePile's correction).
SHIFT_CORRECTION_M = (-0.2, 0.0, 0.0)
SHIFTED_CLIPS = (("S9", "Greeting"), ("S9", "SittingDown 1"), ("S9", "Waiting 1"))
UNREADABLE_VIDEO = ("S11", "Directions", "54138969")

# Videos run up to three frames longer than the poses; longer than that, motion capture ended early.
_USUAL_EXCESS = 3

_S1_NAMES = {"TakingPhoto": "Photo", "WalkingDog": "WalkDog"}


@dataclass(frozen=True)
class Clip:
    """A published clip: whose, which action, how long.

    Attributes:
        subject: "S9". name: canonical, "Greeting 1". action: "Greeting", as in file names.
        scene: column of the literature's tables, "Walking Dog". words: what people do, "walking the dog".
        number, take: of action and sub-action, as in the community's names s_09_act_05_subact_02.
        frames: poses at 50 Hz. video: frames of the four videos.
    """

    subject: str
    name: str
    action: str
    scene: str
    words: str
    number: int
    take: int
    frames: int
    video: tuple[int, ...]

    @property
    def sequence(self) -> str:
        """Name of the clip's group in the file, "S9/Greeting 1"."""
        return f"{self.subject}/{self.name}"

    @property
    def is_truncated(self) -> bool:
        """Whether motion capture ended well before the videos do."""
        return min(self.video) - self.frames > _USUAL_EXCESS

    @property
    def is_shifted(self) -> bool:
        """Whether the poses are shifted with respect to the images."""
        return (self.subject, self.name) in SHIFTED_CLIPS

    @property
    def split(self) -> str:
        """The literature's split: "train" for S1, S5, S6, S7, S8, "test" for S9 and S11."""
        return next(split for split, subjects in _facts()["split"].items() if self.subject in subjects)

    @property
    def split_within_scene(self) -> str:
        """Of five consecutive takes of an action, subject after subject, the second is "test", the fourth "val"."""
        takes_before = 2 * list(clips()).index(self.subject)
        return {2: "test", 4: "val"}.get((takes_before + self.take) % 5, "train")


@cache
def clips() -> dict[str, dict[str, Clip]]:
    """Subject -> canonical name -> clip, of the seven subjects with published poses."""
    found: dict[str, dict[str, Clip]] = {}
    actions = {action["number"]: (name, action) for name, action in _facts()["actions"].items()}
    for subject, by_name in _facts()["clips"].items():
        for name, said in by_name.items():
            action, about = actions[said["action"]]
            clip = Clip(
                subject=subject,
                name=name,
                action=action,
                scene=about["scene"],
                words=about["words"],
                number=said["action"],
                take=said["take"],
                frames=said["frames"],
                video=tuple(said["video"]),
            )
            found.setdefault(subject, {})[name] = clip
    return found


def find_clip(subject: str, name: str) -> Clip | None:
    """The clip of that canonical name, None when no such clip was published."""
    return clips().get(subject, {}).get(name)


def published_totals() -> dict[str, int]:
    """Split -> number of poses times four cameras that the field reports; without S11's Directions."""
    return dict(_facts()["totals"])


def bone_lengths() -> dict[str, dict[str, float]]:
    """Subject -> bone -> length in metres, of the four subjects of whom it is known."""
    return {
        subject: {bone: millimetres / 1000 for bone, millimetres in bones.items()}
        for subject, bones in _facts()["bones"].items()
    }


def canonical_name(stem: str) -> str:
    """Canonical clip name of a file's stem: "TakingPhoto 1" and "Photo_1" are both "Photo 1"."""
    action, _, rest = stem.replace("_", " ").strip().partition(" ")
    return " ".join(filter(None, (_S1_NAMES.get(action, action), rest)))


@cache
def _facts() -> dict:
    return yaml.safe_load(resources.files(__package__).joinpath("clips.yaml").read_text(encoding="utf-8"))
