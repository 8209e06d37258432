"""Shows a sequence, of a data set or a predicted scene, everybody in 3D beside what chosen cameras see, prediction
against truth where there are both. The suffix of --out decides: a picture of one moment (.png, .pdf, .svg), an
animation (.gif, .mp4), or a page that plays in any browser (.html). docs/VISUALIZE.md describes them."""

import argparse
import sys
from pathlib import Path

from finepose_mp import schema, viewer, visualization
from finepose_mp.files import appearing
from finepose_mp.skeletons import JointSet, joint_set

PICTURES = (".png", ".pdf", ".svg")
KNOWN = (*PICTURES, *visualization.ANIMATIONS, ".html")


def main() -> int:
    try:
        show(_parser().parse_args())
    except (OSError, ValueError, KeyError, visualization.MissingLibraryError) as error:
        print(f"visualize: {error}", file=sys.stderr)
        return 2
    return 0


def show(arguments: argparse.Namespace) -> None:
    out = arguments.rerun or arguments.out
    _check(arguments)
    with schema.open_file(arguments.file) as file:
        names = schema.sequence_names(file)
        if not names:
            raise ValueError(f"{arguments.file} holds no sequence")
        sequence = schema.read_sequence(file, arguments.sequence or names[0])
        joints = joint_set(file.attrs["joint_set"])
    with appearing(out, arguments.overwrite) as path:
        if arguments.rerun is not None:
            about = _record(sequence, joints, arguments, path)
        elif path.suffix.lower() == ".html":
            about = _write_page(sequence, joints, arguments, path)
        elif path.suffix.lower() in PICTURES:
            about = _draw(sequence, joints, arguments, path)
        else:
            about = _animate(sequence, joints, arguments, path)
    print(f"{out}: {sequence.name}, {about}")


def _check(arguments: argparse.Namespace) -> None:
    suffix = (arguments.rerun or arguments.out).suffix.lower()
    if arguments.rerun is not None and suffix != ".rrd":
        raise ValueError(f"--rerun {arguments.rerun}: its suffix should be .rrd")
    if arguments.rerun is None and suffix not in KNOWN:
        hint = "; a Rerun recording is asked for with --rerun FILE.rrd" if suffix == ".rrd" else ""
        raise ValueError(f"--out {arguments.out}: its suffix says what to write, one of {', '.join(KNOWN)}{hint}")
    one_moment = arguments.rerun is None and suffix in PICTURES
    if one_moment and arguments.frames is not None:
        raise ValueError(f"--frames {arguments.frames}: {suffix} shows one moment; choose it with --frame")
    if not one_moment and arguments.frame is not None:
        raise ValueError(f"--frame {arguments.frame}: {suffix} shows many; choose them with --frames START:STOP")
    if arguments.fps is not None and not arguments.fps > 0:
        raise ValueError(f"--fps {arguments.fps:g}: expected more than 0")


def _draw(sequence: schema.Sequence, joints: JointSet, arguments: argparse.Namespace, path: Path) -> str:
    frame, cameras, images = _view(sequence, arguments)
    visualization.scene_figure(sequence, joints, frame, cameras, images=images).savefig(path)
    return f"frame {sequence.frame[frame]}, {_views(cameras, images)}"


def _animate(sequence: schema.Sequence, joints: JointSet, arguments: argparse.Namespace, path: Path) -> str:
    fastest = visualization.PICTURES_A_SECOND[path.suffix.lower()]
    rate = visualization.frame_rate(sequence)
    frames = _frames(sequence, arguments, step=max(1, -int(-rate // fastest)))
    fps, shown = arguments.fps or rate / frames.step, visualization.pictures(sequence, frames)
    _, cameras, images = _view(sequence, arguments)
    layers = visualization.layers_of(sequence)
    stage = visualization.Stage(sequence, joints, layers, cameras, list(frames), images)
    visualization.write_animation(stage, shown, fps, path)
    return f"{len(shown)} pictures, {fps:g} a second, {_views(cameras, images)}"


def _write_page(sequence: schema.Sequence, joints: JointSet, arguments: argparse.Namespace, path: Path) -> str:
    frames = _frames(sequence, arguments, step=1)
    path.write_text(viewer.scene_page(sequence, joints, frames=frames), encoding="utf-8")
    return f"{len(frames)} frames; open it in a browser"


def _record(sequence: schema.Sequence, joints: JointSet, arguments: argparse.Namespace, path: Path) -> str:
    frames = list(_frames(sequence, arguments, step=1))
    visualization.write_recording(sequence, joints, visualization.layers_of(sequence), frames, path)
    return f"{len(frames)} frames; open it with `rerun {arguments.rerun}`"


def _views(cameras: list[str], images: visualization.Images | None) -> str:
    without = f" (no images of {', '.join(images.missing)})" if images and images.missing else ""
    return f"views of {', '.join(cameras) or 'no camera'}{without}"


def _view(
    sequence: schema.Sequence, arguments: argparse.Namespace
) -> tuple[int, list[str], visualization.Images | None]:
    """The moment to show, the cameras whose views are drawn, and their images."""
    frame = visualization.most_crowded_frame(sequence) if arguments.frame is None else arguments.frame
    cameras = arguments.cameras
    if cameras is None:
        cameras = visualization.cameras_with_most_people(sequence, frame, 4)
    visualization.check_cameras(sequence, cameras)
    images = None if arguments.images is None else visualization.Images(arguments.images, sequence, cameras)
    return frame, cameras, images


def _frames(sequence: schema.Sequence, arguments: argparse.Namespace, step: int) -> range:
    """Positions to show; `step` where none is asked for."""
    parts = (arguments.frames or "").split(":")
    try:
        start, stop, asked = (int(part) if part else None for part in [*parts, "", ""][:3])
    except ValueError:
        start = stop = asked = -1
    if len(parts) > 3 or any(value is not None and value < 0 for value in (start, stop)) or (asked or 1) < 1:
        raise ValueError(f"--frames {arguments.frames}: expected START:STOP or START:STOP:STEP, like 100:300:2")
    frames = range(len(sequence.frame))[start:stop][:: asked or step]
    if not frames:
        last = len(sequence.frame) - 1
        raise ValueError(f"{sequence.name} has frames 0 to {last}, none in --frames {arguments.frames}")
    return frames


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="HDF5 file of this toolkit: a data set or a predicted scene")
    parser.add_argument("--sequence", help="group name, for example 01_tagging/001_tagging (default: the first)")
    parser.add_argument("--out", type=Path, default=Path("scene.png"), help=f"{', '.join(KNOWN)}; default: %(default)s")
    parser.add_argument("--rerun", type=Path, metavar="FILE.rrd", help="write a recording for the Rerun viewer instead")
    parser.add_argument("--cameras", nargs="*", help="camera names (default: four that see most people)")
    parser.add_argument("--images", type=Path, metavar="DIR", help="images of these cameras, shown behind their views")
    parser.add_argument("--frame", type=int, help="position of a picture's frame (default: where most people are seen)")
    parser.add_argument("--frames", metavar="START:STOP[:STEP]", help="positions of all others' frames (default: all)")
    parser.add_argument("--fps", type=float, help="pictures a second of an animation (default: as fast as it was)")
    parser.add_argument("--overwrite", action="store_true", help="replace a file that exists")
    return parser


if __name__ == "__main__":
    sys.exit(main())
