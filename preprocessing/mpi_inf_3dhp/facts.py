"""What is known in advance about MPI-INF-3DHP: sequences, lengths, frame rates, activities, joints.

Lengths and rates of the training set: the dataset's README. The official helper script states 25 frames a second for
subjects 3 and 5 too, in code that is never reached; their frame counts say 50. Lengths of the test sequences and their
numbers of valid frames: the distributed annotation files, which differ from the README's counts in TS3, TS4 and TS6.
"""

from dataclasses import dataclass

# The 17 joints of the literature out of the 28 of the training annotations, in the order of joint set mpi17.
JOINTS_OF_28 = (7, 5, 14, 15, 16, 9, 10, 11, 23, 24, 25, 18, 19, 20, 4, 3, 6)
ALL_JOINTS = 28

# Hips and spine of the 17 were edited in 2D and in 3D independently, so that their 3D is up to 3 px off their 2D.
EDITED_JOINTS = ("right_hip", "left_hip", "spine")

ACTIVITIES = {
    1: "Standing/Walking",
    2: "Exercising",
    3: "Sitting",
    4: "Reaching/Crouching",
    5: "On The Floor",
    6: "Sports",
    7: "Miscellaneous",
}

CAMERA_SETS: dict[str, tuple[int, ...]] = {
    "vnect": (0, 1, 2, 4, 5, 6, 7, 8),  # chest height and above; what the literature trains on
    "all": tuple(range(14)),  # with three on the ceiling
}

# Findings by their stable names, and what each expects.
CHECKS: dict[str, str] = {
    "activity.unknown": "activities are numbered 1 to 7",
    "bones.length": "shanks, forearms and upper arms keep their length",
    "calibration.absent": "camera.calibration lies beside annot.mat",
    "calibration.camera_absent": "every wanted camera is calibrated",
    "calibration.count": "camera.calibration has 14 cameras, or the 8 of the literature",
    "camera.fitted": "TS2, whose calibration file is another camera's, has its intrinsics fitted to the annotations",
    "cameras.absent": "every wanted camera is annotated",
    "fps.disagreement": "a community file states the true frame rate",
    "fps.undocumented": "the frame rate of test sequences is taken from the training set",
    "frames.beyond_video": "annotations end with the video",
    "frames.long": "a training sequence has about as many annotated frames as its video",
    "frames.short": "every frame of the video is annotated",
    "frames.test_length": "a test sequence has its published frames and valid frames",
    "reprojection.residual": "3D projects onto the annotated 2D",
    "universal.only": "there are metric poses beside the universal ones",
    "universal.scale": "universal poses are the recorded ones scaled about the pelvis",
    "video.short": "every video has all annotated frames",
    "world.disagreement": "all cameras see the same pose in the world",
}

TEST_FPS = 25.0  # not documented; the test set has the training set's cameras and no other rate is known
VALIDATION_SUBJECT = "S8"  # in the split within scenes, where one subject is held out of training


@dataclass(frozen=True)
class Training:
    """A training sequence: frames of its videos and their rate in frames per second."""

    frames: int
    fps: float


TRAINING: dict[str, Training] = {
    f"S{subject}/Seq{sequence}": Training(frames, fps)
    for subject, *sequences in (
        (1, (6416, 25.0), (12430, 50.0)),
        (2, (6502, 25.0), (6081, 25.0)),
        (3, (12488, 50.0), (12283, 50.0)),
        (4, (6171, 25.0), (6675, 25.0)),
        (5, (12820, 50.0), (12312, 50.0)),
        (6, (6188, 25.0), (6145, 25.0)),
        (7, (6239, 25.0), (6320, 25.0)),
        (8, (6468, 25.0), (6054, 25.0)),
    )
    for sequence, (frames, fps) in enumerate(sequences, start=1)
}


@dataclass(frozen=True)
class Test:
    """A test sequence: annotated frames, and how many of them the official evaluation counts."""

    frames: int
    valid_frames: int


TEST: dict[str, Test] = {
    "TS1": Test(6151, 603),
    "TS2": Test(6080, 540),
    "TS3": Test(5838, 506),
    "TS4": Test(6007, 558),
    "TS5": Test(320, 276),
    "TS6": Test(492, 392),
}

# The video of this camera is shorter than the annotations; its other cameras' are complete.
SHORT_VIDEOS = {"S6/Seq2": {2: 3911}}
