"""Show a sequence: a picture of one moment, everybody in 3D beside what chosen cameras see, or, where --out ends in
.html, a page to open in a browser that plays the whole sequence in 3D."""

import argparse
import sys
from pathlib import Path

from finepose_mp import schema, viewer, visualization
from finepose_mp.skeletons import joint_set


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="HDF5 file of this toolkit")
    parser.add_argument("--sequence", help="group name, for example 01_tagging/001_tagging (default: the first)")
    parser.add_argument("--frame", type=int, help="position in the sequence (default: where most people are seen)")
    parser.add_argument("--cameras", nargs="*", help="camera names (default: four that see most people)")
    parser.add_argument("--out", type=Path, default=Path("scene.png"), help="file to write: png, pdf or svg, or html")
    arguments = parser.parse_args()
    try:
        draw(arguments)
    except (FileNotFoundError, ValueError, KeyError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def draw(arguments: argparse.Namespace) -> None:
    with schema.open_file(arguments.file) as file:
        names = schema.sequence_names(file)
        if not names:
            raise ValueError(f"{arguments.file} holds no sequence")
        sequence = schema.read_sequence(file, arguments.sequence or names[0])
        joints = joint_set(file.attrs["joint_set"])
    if arguments.out.suffix == ".html":
        page = viewer.scene_page(sequence, joints, {"ground truth": sequence.joints_3d_world})
        arguments.out.write_text(page, encoding="utf-8")
        print(f"{arguments.out}: {sequence.name}, {len(sequence.frame)} frames; open it in a browser")
        return
    frame = visualization.most_crowded_frame(sequence) if arguments.frame is None else arguments.frame
    cameras = arguments.cameras
    if cameras is None:
        cameras = visualization.cameras_with_most_people(sequence, frame, 4)
    visualization.scene_figure(sequence, joints, frame, cameras).savefig(arguments.out)
    print(
        f"{arguments.out}: {sequence.name}, frame {sequence.frame[frame]}, views of {', '.join(cameras) or 'no camera'}"
    )


if __name__ == "__main__":
    sys.exit(main())
