"""From 2D keypoints of one or several cameras to a 3D scene: an HDF5 file of this toolkit with the prediction in it.

docs/PREDICT.md shows the way from OpenPose, COCO, MediaPipe and others, with cameras and without. A file of this
toolkit is lifted sequence by sequence, its people and cameras as they are.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from finepose_mp import schema
from finepose_mp.config import PRESETS
from finepose_mp.files import check_free
from finepose_mp.inference import prediction
from finepose_mp.preprocessing.keypoints import UNITS, ReadingOptions, RecordingOptions, read_recording


def main() -> int:
    parser = _parser()
    arguments = parser.parse_args()
    if not arguments.keypoints and not arguments.video:
        parser.error("give files of 2D keypoints, or videos with --video")
    try:
        run(arguments)
    except (OSError, ValueError, KeyError) as error:
        print(f"predict: {error}", file=sys.stderr)
        return 2
    return 0


def run(arguments: argparse.Namespace) -> None:
    if arguments.out.suffix.lower() not in (".h5", ".hdf5"):
        raise ValueError(
            f"--out {arguments.out}: a scene is HDF5, name it .h5 or .hdf5; tools/export.py makes other files of it"
        )
    check_free(arguments.out, overwrite=arguments.overwrite)
    options = prediction.PredictionOptions(
        which=arguments.which,
        preset=arguments.preset,
        hypotheses=arguments.hypotheses,
        sampling_steps=arguments.steps,
        flip=arguments.flip,
        cameras=arguments.use_cameras,
        action=arguments.action,
    )
    if _is_lifted_as_it_is(arguments):
        _check_unused(arguments)
        options = replace(options, sequences=arguments.sequence and [arguments.sequence])
        source = arguments.keypoints[0]
        report(prediction.predict_file(arguments.run, source, arguments.out, options, arguments.overwrite), arguments)
        return
    recording = read_recording(arguments.keypoints, _reading(arguments), _recording(arguments), arguments.video)
    unknown = sorted(set(arguments.use_cameras or ()) - set(recording.sequence.camera))
    if unknown:
        files = ", ".join(map(str, [*arguments.video, *arguments.keypoints]))
        raise ValueError(
            f"{files}: no camera {', '.join(unknown)} for --use-cameras; found {', '.join(recording.sequence.camera)}"
        )
    options = replace(options, assumed=recording.assumed, decisions=recording.decisions)
    with tempfile.TemporaryDirectory(prefix="finepose_mp_") as folder:
        source = Path(folder) / "recording.h5"
        with schema.create(
            source, "keypoints", recording.joint_set, licence="that of the keypoints", citation=""
        ) as file:
            schema.write_sequence(file, recording.sequence)
        report(prediction.predict_file(arguments.run, source, arguments.out, options, arguments.overwrite), arguments)


def report(summaries: list[prediction.Summary], arguments: argparse.Namespace) -> None:
    """Prints what was assumed and what came out."""
    for summary in summaries:
        for sentence in summary.assumed:
            print(f"  {sentence}")
        is_placed = _stored(arguments.out, summary.sequence)["frame"] == prediction.WORLD
        where = "in the world" if is_placed else "relative to their own roots"
        print(
            f"{summary.sequence}: {summary.people} people in {summary.frames} frames {where}; poses from keypoints of "
            f"the frame {summary.seen}, inferred from neighbours {summary.inferred}"
        )
    page = arguments.out.with_suffix(".html")
    print(f"{arguments.out}: look at it with `python tools/visualize.py {arguments.out} --out {page}`")


def _stored(scene: Path, sequence: str) -> dict:
    """What the file keeps about a prediction."""
    with schema.open_file(scene) as file:
        return json.loads(file[sequence].attrs["prediction"])


def _is_lifted_as_it_is(arguments: argparse.Namespace) -> bool:
    """Whether the only input is a file of this toolkit whose people and cameras are to be kept."""
    changed = arguments.ignore_ids or arguments.camera or arguments.video or len(arguments.keypoints) > 1
    return not changed and prediction.is_contract(arguments.keypoints[0])


def _check_unused(arguments: argparse.Namespace) -> None:
    """Nothing unless something is said about keypoints that a file of this toolkit says itself."""
    values = {
        "--moving-camera": arguments.moving_camera or None,
        "--image-size": arguments.image_size,
        "--fps": arguments.fps,
        "--joint-set": arguments.joint_set,
        "--units": arguments.units,
    }
    given = [option for option, value in values.items() if value is not None]
    if given:
        raise ValueError(
            f"{arguments.keypoints[0]}: a file of this toolkit is taken as it is, so {', '.join(given)} has no effect; "
            "leave it out, or associate its people anew with --ignore-ids"
        )


def _reading(arguments: argparse.Namespace) -> ReadingOptions:
    return ReadingOptions(
        joint_set=arguments.joint_set,
        image_size=arguments.image_size and tuple(arguments.image_size),
        fps=arguments.fps,
        units=arguments.units,
        sequence=arguments.sequence,
        ignore_ids=arguments.ignore_ids,
    )


def _recording(arguments: argparse.Namespace) -> RecordingOptions:
    return RecordingOptions(
        cameras=arguments.camera,
        camera_moves=arguments.moving_camera,
        joint_set=prediction.joint_set_of_run(arguments.run),
        action=arguments.action or "",
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "keypoints",
        type=Path,
        nargs="*",
        help="files or folders of 2D keypoints, one a camera; formats by content",
    )
    parser.add_argument("--run", type=Path, required=True, help="directory of a training run")
    parser.add_argument("--out", type=Path, default=Path("scene.h5"), help="file to write (default: %(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="replace the file if it exists")
    parser.add_argument("--action", help='what people do, in words, for a prompted model: "playing tag"')
    parser.add_argument(
        "--video", type=Path, nargs="+", default=[], help="detect people in videos first (extra `detect`), one a camera"
    )
    recording = parser.add_argument_group("what the keypoints do not say")
    recording.add_argument("--camera", type=Path, metavar="FILE", help="cameras: YAML, JSON, or a file of this toolkit")
    recording.add_argument(
        "--moving-camera", action="store_true", help="estimate the motion of a camera of unknown pose from the people"
    )
    recording.add_argument("--image-size", type=int, nargs=2, metavar=("W", "H"), help="of the images, pixels")
    recording.add_argument("--fps", type=float, help="frames a second")
    recording.add_argument("--joint-set", help="of the keypoints, where neither names nor their number tell")
    recording.add_argument(
        "--units", choices=UNITS, help="px; fraction (0..1 of width and height); screen (-1..1 by the width)"
    )
    recording.add_argument("--ignore-ids", action="store_true", help="associate people anew, whatever ids the file has")
    recording.add_argument("--sequence", help="of a file of this toolkit (default: all, or the only one)")
    recording.add_argument(
        "--use-cameras",
        nargs="+",
        metavar="NAME",
        help="those to look through, by name (default: all)",
    )
    sampling = parser.add_argument_group("how poses are sampled (default: as the run says)")
    sampling.add_argument("--which", choices=("best", "last"), default="best", help="checkpoint (default: best)")
    sampling.add_argument("--preset", choices=PRESETS, help="hypotheses, steps and mirroring by name")
    sampling.add_argument("--hypotheses", type=int, help="per person")
    sampling.add_argument("--steps", type=int, help="DDIM sampling steps")
    sampling.add_argument(
        "--no-flip", dest="flip", action="store_false", default=None, help="do not average with the mirrored input"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
