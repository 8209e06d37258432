"""Writes the people of a sequence for other programs: CSV, NumPy, glTF, BVH, TRC. docs/EXPORT.md describes them."""

import argparse
import sys
from pathlib import Path

from finepose_mp import export


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="HDF5 file of this toolkit: a data set or a predicted scene")
    parser.add_argument("--out", type=Path, default=Path("export"), metavar="DIR", help="default: %(default)s")
    parser.add_argument("--formats", nargs="+", default=["csv", "glb"], choices=export.FORMATS, help="default: csv glb")
    parser.add_argument("--sequence", help="group name, for example 01_tagging/001_tagging (default: the only one)")
    parser.add_argument("--variable", help="3D variable (default: the prediction if there is one, else the truth)")
    parser.add_argument(
        "--select", nargs="+", default=[], metavar="DIM=ITEM", help="of variables with more dimensions: camera=cam01"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")
    arguments = parser.parse_args()
    try:
        _export(arguments)
    except (OSError, ValueError) as error:
        print(f"export: {error}", file=sys.stderr)
        return 2
    return 0


def _export(arguments: argparse.Namespace) -> None:
    choices = [item.split("=", 1) for item in arguments.select]
    if any(len(choice) != 2 for choice in choices):
        raise ValueError(f"--select wants DIM=ITEM, found {' '.join(arguments.select)}")
    poses = export.load_poses(arguments.file, arguments.sequence, arguments.variable, dict(choices))
    written = export.export_poses(poses, arguments.out, arguments.formats, arguments.overwrite)
    print(
        f"{poses.sequence}: {poses.variable}, {len(poses.present)} people, {len(poses.frame)} frames at {poses.fps:g} "
        f"a second; metres, {poses.up} up in csv and npz, +y up in glb, bvh and trc"
    )
    for path in written:
        print(f"  {path}")


if __name__ == "__main__":
    sys.exit(main())
