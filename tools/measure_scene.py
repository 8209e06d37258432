"""Measures what a predicted scene rests on: who is who over time and across cameras on simulated takes and, given a run
and a file with truth, where people stand with and without fusion of cameras, the spread, the seams and the cost.

Identities: IDF1, switches and fragmentations of fixed cameras, and of head-worn ones with the camera's motion ignored,
estimated from keypoints, known, and known beside the other head-worn or all other cameras of the take.
"""

import argparse
import sys
import time
from collections import defaultdict
from itertools import groupby
from pathlib import Path

import numpy as np

from finepose_mp import tracking
from finepose_mp.evaluation.scene_measures import SceneMeasure, mean_errors, measure_scenes
from finepose_mp.evaluation.scenes import ERRORS
from finepose_mp.preprocessing.keypoints import simulated

WORLD_UP = "+z"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", nargs="*", default=["fencing", "tagging"], help="simulated (default: %(default)s)")
    parser.add_argument("--takes", type=int, default=2, help="of each scene, and of the file (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=600, help="of each simulated take (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--run", type=Path, help="directory of a training run")
    parser.add_argument("--data", type=Path, help="HDF5 file with truth, of which the run's test takes count")
    parser.add_argument("--fixed", type=int, default=4, help="fixed cameras to fuse (default: %(default)s)")
    arguments = parser.parse_args()
    try:
        if (arguments.run is None) != (arguments.data is None):
            raise ValueError("--run and --data belong together")
        if arguments.scenes:
            print_identities(arguments)
            print_association_speed(arguments)
        if arguments.run is not None:
            print_scenes(arguments)
    except (OSError, ValueError) as error:
        print(f"measure_scene: {error}", file=sys.stderr)
        return 2
    return 0


def print_identities(arguments: argparse.Namespace) -> None:
    print(f"{'scene':14} {'camera':7} {'its motion':12} {'IDF1':>6} {'worst':>6} {'switches':>8} {'fragments':>9}")
    for scene in arguments.scenes:
        scores = defaultdict(list)
        views = simulated.simulated_cameras(scene, arguments.takes, arguments.frames, arguments.seed)
        for _, of_take in groupby(views, key=lambda view: view.take.split()[0]):
            for key, found in _scores_of_take(list(of_take)).items():
                scores[key] += found
        for (kind, motion), found in scores.items():
            total = tracking.total_scores(found)
            worst = min(score.idf1 for score in found)
            print(
                f"{scene:14} {kind:7} {motion:12} {total.idf1:6.3f} {worst:6.3f} {total.switches:8} "
                f"{total.fragmentations:9}",
                flush=True,
            )


def print_association_speed(arguments: argparse.Namespace) -> None:
    crowd = simulated.crowd(arguments.scenes[0], 8, arguments.frames, arguments.seed)
    started = time.process_time()
    tracking.track(crowd)
    seconds = time.process_time() - started
    print(f"association of {crowd.frame_count} frames with 8 people: {seconds:.2f} s of processor time")


def print_scenes(arguments: argparse.Namespace) -> None:
    measures: list[SceneMeasure] = []
    print("\nmm in the world, mean over held-out takes; a row a choice of cameras, fused where there are several")
    for measure in measure_scenes(arguments.run, arguments.data, takes=arguments.takes, fixed=arguments.fixed):
        measures.append(measure)
        print(f"  {measure.take} through {measure.through}: {measure.cpu_seconds:.1f} s of processor time", flush=True)
    errors = mean_errors(measures)
    print(f"{'cameras':10} " + " ".join(f"{name:>15}" for name in ERRORS))
    for through, found in errors.items():
        print(f"{through:10} " + " ".join(f"{found.get(name, np.nan):15.0f}" for name in ERRORS))
    print_fusion(errors)
    for through in errors:
        print_curve(through, [m for m in measures if m.through == through])
    for name in ("at seams", "inside"):
        values = [m.seams[name] for m in measures if m.seams[name] is not None]
        print(f"acceleration of joints {name} of windows: {np.mean(values):.2f} m/s^2")


def print_fusion(errors: dict) -> None:
    for word in ("fixed", "worn"):
        single = errors.get(f"1 {word}")
        for through, fused in errors.items():
            if single and through.endswith(word) and through != f"1 {word}":
                part = fused["mpjpe_world"] / single["mpjpe_world"]
                print(f"MPJPE in the world through {through} cameras is {part:.2f} of that through one")


def print_curve(through: str, measures: list[SceneMeasure]) -> None:
    """Spread and error of every tenth of the joints, by growing spread, mean over takes."""
    tenths = list(zip(*(measure.calibration for measure in measures), strict=True))
    print(f"through {through}: spread of hypotheses and error of the pose by tenths of the joints, RMS in mm")
    for key in ("spread", "error"):
        print(f"  {key:7}" + " ".join(f"{np.mean([row[key] for row in tenth]):5.0f}" for tenth in tenths))


def _scores_of_take(views: list[simulated.SimulatedCamera]) -> dict[tuple[str, str], list[tracking.IdentityScores]]:
    """Scores of each camera by its kind and by how its motion was treated."""
    scores, known, cautious = defaultdict(list), {}, {}
    for view in views:
        if not view.is_worn:
            known[view] = cautious[view] = tracking.track(view.detections)
            scores["fixed", "at rest"].append(simulated.score_tracks(view, known[view]))
            continue
        least = tracking.TrackingSettings().min_score
        estimated = tracking.track(view.detections, steadied=tracking.by_keypoints(view.detections, least))
        steadied = tracking.by_poses(view.detections, view.camera)
        places = tracking.places_on_floor(view.detections, steadied.positions, view.camera, WORLD_UP, least)
        known[view] = tracking.track(view.detections, steadied=steadied, places=places)
        cautious[view] = tracking.track(view.detections, tracking.CAUTIOUS, steadied, places)
        ways = {"ignored": tracking.track(view.detections), "estimated": estimated, "known": known[view]}
        for motion, tracks in ways.items():
            scores["worn", motion].append(simulated.score_tracks(view, tracks))
    for name, group in (("+ worn ones", [view for view in views if view.is_worn]), ("+ all others", views)):
        found = simulated.score_across_views(group, [cautious[v] for v in group], [known[v] for v in group])
        scores["worn", name] = [score for view, score in zip(group, found, strict=True) if view.is_worn]
    return scores


if __name__ == "__main__":
    sys.exit(main())
