"""Simulated takes in the raw layout of EgoHumans: the whole path from download to results without the download."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from finepose_mp.preprocessing.egohumans import catalogue
from finepose_mp.preprocessing.simulation.benchmark_files import write_benchmark
from finepose_mp.preprocessing.simulation.clips import MotionFile
from finepose_mp.preprocessing.simulation.colmap_files import write_colmap
from finepose_mp.preprocessing.simulation.detections import Detections, NoiseModel, detect, triangulate
from finepose_mp.preprocessing.simulation.glasses import RGB_CIRCLE
from finepose_mp.preprocessing.simulation.motion import FPS, Motion
from finepose_mp.preprocessing.simulation.scene import Scene, film, people_of
from finepose_mp.preprocessing.simulation.stages import STAGES, built_in_motion, stage
from finepose_mp.preprocessing.simulation.writer import Annotations, write_take

GENERATOR = "finepose_mp.preprocessing.simulation"
GENERATOR_VERSION = "1.1"  # raised whenever the same seed gives other files
MARK = "SIMULATED.json"
SHORTEST = 2  # frames


def plan_takes(scenes: Sequence[str], takes: int) -> list[catalogue.Take]:
    """The first takes of each scene, as many as asked for or as the scene has.

    Args:
        scenes: endings of scene folders, "tagging".
        takes: at most so many of each scene.

    Raises:
        ValueError: an unknown scene, a scene named twice, no scene, or less than one take.
    """
    if takes < 1:
        raise ValueError(f"at least one take of each scene has to be simulated, found {takes}")
    if not scenes or len(set(scenes)) < len(scenes):
        raise ValueError(
            f"name each scene to simulate once, found {' '.join(scenes) or 'none'}; known: {', '.join(STAGES)}"
        )
    for name in scenes:
        stage(name)
    chosen = [scene for scene in catalogue.scenes() if scene.suffix in scenes]
    return [
        catalogue.take(scene.folder, f"{number:03d}_{scene.suffix}")
        for scene in chosen
        for number in range(1, min(takes, scene.take_count) + 1)
    ]


def simulate(
    out: Path,
    takes: list[catalogue.Take],
    frames: int,
    seed: int,
    motion_file: MotionFile | None = None,
    noise: NoiseModel | None = None,
    on_take: Callable[[catalogue.Take], None] | None = None,
    benchmark: bool = False,
) -> None:
    """Writes simulated takes below `out`, which must be absent or empty. The same arguments write the same bytes.

    Args:
        out: the folder that then holds 01_tagging/001_tagging/... like the download.
        takes: from `plan_takes`.
        frames: length of each take at 20 frames a second.
        seed: any take depends on it and on its own name only, not on the other takes.
        motion_file: real motion; a take gets clips of the split that it has itself within its scene. Without it, the
            built-in articulated model moves.
        noise: of detections and calibrations; a realistic one by default.
        on_take: called after each take, for a progress bar.
        benchmark: also write files in the form of the published benchmark, into `out`/benchmark.

    Raises:
        FileExistsError: `out` has something in it.
        ValueError: too few frames, or real motion for scenes of both sides of the official split.
        MotionFileError: not enough clips of a split.
    """
    out, noise = Path(out), noise or NoiseModel()
    if frames < SHORTEST:
        raise ValueError(f"a take needs at least {SHORTEST} frames, found {frames}")
    if motion_file is not None and len({take.scene.split for take in takes}) > 1:
        # Clips follow the within-scene split, so a train clip would also move people of the official test scenes.
        raise ValueError(
            "real motion for train and test scenes of the official split together would put the same clips on both "
            "sides; choose scenes of one side (tagging legoassemble fencing, or the other four)"
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"{out} exists and is not an empty folder; choose another one or remove it first")
    out.mkdir(parents=True, exist_ok=True)
    description = _describe(seed, frames, motion_file, noise)
    _write_mark(out, description | {"takes": [take.name for take in takes]})
    for take in takes:
        _simulate_take(out / take.scene.folder / take.folder, take, frames, seed, motion_file, noise, description)
        if on_take is not None:
            on_take(take)
    if benchmark:
        write_benchmark(out, takes)


def _simulate_take(
    folder: Path,
    take: catalogue.Take,
    frames: int,
    seed: int,
    motion_file: MotionFile | None,
    noise: NoiseModel,
    description: dict,
) -> None:
    # Streams of their own, so that, for one, another noise model leaves the motion as it was.
    streams = np.random.SeedSequence([seed, list(STAGES).index(take.scene.suffix), take.number]).spawn(4)
    moving, filming, detecting, registering = (np.random.default_rng(stream) for stream in streams)
    motion = _move(take, frames, motion_file, moving)
    scene = film(take, motion, filming)
    write_take(folder, scene, annotate(scene, noise, detecting))
    write_colmap(folder, scene, noise, registering)
    about_take = {
        "take": take.name,
        "scene": take.scene.title,
        "action": take.scene.action,
        "people": dict(zip(scene.people, motion.sources, strict=True)),
    }
    _write_mark(folder, description | about_take)


def _move(take: catalogue.Take, frames: int, motion_file: MotionFile | None, rng: np.random.Generator) -> Motion:
    people, place = len(people_of(take)), stage(take.scene.suffix)
    if motion_file is None:
        return built_in_motion(take.scene.suffix, people, frames, rng)
    split = catalogue.within_scene_split(take.number)
    return motion_file.motion(split, people, frames, place.clip_words, place.half_size, rng)


def annotate(scene: Scene, noise: NoiseModel, rng: np.random.Generator) -> Annotations:
    """Detections in the valid fixed cameras and in the RGB images of valid glasses, and triangulations from them."""
    everybody, valid = scene.joints_3d_world, scene.valid
    exo = {
        exo.name: _of_valid(detect(everybody, exo.camera, None, noise, rng), valid)
        for exo in scene.exo
        if exo.name in scene.take.exo_cameras
    }
    ego = {
        scene.glasses[p].name: _of_valid(
            detect(everybody, scene.glasses[p].camera(0), p, noise, rng, RGB_CIRCLE), valid
        )
        for p in valid
    }
    min_views = stage(scene.take.scene.suffix).min_views
    triangulated = triangulate(everybody[:, valid], list(exo.values()), list(ego.values()), min_views, noise, rng)
    return Annotations(triangulated, exo | ego)


def _of_valid(found: Detections, valid: list[int]) -> Detections:
    """Detections of the annotated people only; the others are seen, and may hide somebody, but have no identity."""
    return Detections(**{name: value[:, valid] for name, value in vars(found).items()})


def _describe(seed: int, frames: int, motion_file: MotionFile | None, noise: NoiseModel) -> dict:
    """What every mark says: that nothing was recorded, and how to make the same again."""
    motion: dict[str, object] = {"source": "built-in articulated model"}
    if motion_file is not None:
        motion = {
            "source": "motion file",
            "file": motion_file.path.name,
            "sha256": motion_file.sha256,
            "clips": "of the split that the take has within its scene; short ones run to and fro",
        }
    return {
        "simulated": True,
        "note": "Nothing in this folder was recorded. Files that cannot say so themselves are covered by this one.",
        "generator": GENERATOR,
        "generator_version": GENERATOR_VERSION,
        "seed": seed,
        "frames": frames,
        "fps": FPS,
        "motion": motion,
        "noise_model": {"meaning": f"docstring of {GENERATOR}.detections.NoiseModel", **asdict(noise)},
    }


def _write_mark(folder: Path, content: dict) -> None:
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    (folder / MARK).write_text(text, encoding="utf-8", newline="\n")
