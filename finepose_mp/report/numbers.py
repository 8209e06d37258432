"""Where the numbers stand in the results of each protocol: what charts and page have in common."""

from finepose_mp.skeletons import MPI17

KIND_NAMES = {"all": "All cameras", "ego_rgb": "Head-worn, RGB", "ego_slam": "Head-worn, SLAM", "exo": "Fixed"}


def scenes_of(results: dict) -> list[str]:
    """Scenes (actions, sequences) and their averages, in the order of the results."""
    return list(results["scenes"])


def mean_of(results: dict) -> str:
    """Name of the unweighted mean over scenes, which stands for the whole."""
    return next(name for name in results["scenes"] if name.startswith("mean of "))


def interval(results: dict, scene: str, metric: str, row: str) -> list[float] | None:
    """95 % interval over takes; None where there is none."""
    if "intervals" in results:
        return results["intervals"]["metrics"].get(scene, {}).get(metric, {}).get(row)
    if "interval" in results and scene == mean_of(results):
        return results["interval"]["metrics"].get(metric, {}).get(row)
    return None


def joint_errors(results: dict) -> dict[str, float | None]:
    """{joint: MPJPE in mm} of the headline, mean of scenes (MPI-INF-3DHP: all frames)."""
    headline = results["headline"]
    if "truths" in results:
        values = results["truths"][results["headline_truth"]][headline]["all"]["All"]["mpjpe by joint"]
        return dict(zip(MPI17.joints, values, strict=True))
    of_joints = results.get("per_joint_mpjpe", {})
    return of_joints.get(mean_of(results), of_joints).get(headline, {})
