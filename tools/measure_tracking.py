"""Measures how well association keeps people apart, on simulated takes with crossings and exits.

Prints IDF1, identity switches and fragmentations of fixed cameras, and of head-worn ones with the camera's motion
ignored, estimated from keypoints, and known.
"""

import argparse
import sys
from collections import defaultdict

from finepose_mp import tracking
from finepose_mp.preprocessing.keypoints import simulated

WORLD_UP = "+z"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", nargs="+", default=["fencing", "tagging"], help="default: %(default)s")
    parser.add_argument("--takes", type=int, default=2, help="of each scene (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=600, help="of each take (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    arguments = parser.parse_args()
    try:
        measure(arguments)
    except ValueError as error:
        print(f"measure_tracking: {error}", file=sys.stderr)
        return 2
    return 0


def measure(arguments: argparse.Namespace) -> None:
    print(f"{'scene':14} {'camera':7} {'its motion':12} {'IDF1':>6} {'worst':>6} {'switches':>8} {'fragments':>9}")
    for scene in arguments.scenes:
        scores = defaultdict(list)
        for view in simulated.simulated_cameras(scene, arguments.takes, arguments.frames, arguments.seed):
            for motion, tracks in _track(view).items():
                scores["worn" if view.is_worn else "fixed", motion].append(simulated.score_tracks(view, tracks))
        for (kind, motion), found in scores.items():
            total = tracking.total_scores(found)
            worst = min(score.idf1 for score in found)
            print(
                f"{scene:14} {kind:7} {motion:12} {total.idf1:6.3f} {worst:6.3f} {total.switches:8} "
                f"{total.fragmentations:9}",
                flush=True,
            )


def _track(view: simulated.SimulatedCamera) -> dict[str, tracking.Tracks]:
    """Tracks by how the camera's motion was treated."""
    at_rest = {"at rest" if not view.is_worn else "ignored": tracking.track(view.detections)}
    if not view.is_worn:
        return at_rest
    least = tracking.TrackingSettings().min_score
    steadied = tracking.by_poses(view.detections, view.camera)
    places = tracking.places_on_floor(view.detections, steadied.positions, view.camera, WORLD_UP, least)
    return at_rest | {
        "estimated": tracking.track(view.detections, steadied=tracking.by_keypoints(view.detections, least)),
        "known": tracking.track(view.detections, steadied=steadied, places=places),
    }


if __name__ == "__main__":
    sys.exit(main())
