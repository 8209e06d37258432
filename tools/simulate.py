"""Writes simulated takes in the raw layout of EgoHumans: `python tools/simulate.py --out data/raw/egohumans`.

Everything written says that it is simulated. Exit status: 0 all written, 2 nothing or not everything was.
"""

import argparse
import sys
from collections import Counter
from pathlib import Path

from tqdm import tqdm

from finepose_mp.preprocessing.simulation import clips, dataset, stages


def main() -> int:
    arguments = _parse_arguments()
    try:
        return _simulate(arguments)
    except (ValueError, OSError) as error:
        print(f"simulate: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"simulate: interrupted, {arguments.out} is incomplete; remove it", file=sys.stderr)
        return 2


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="absent or empty folder to write into")
    parser.add_argument(
        "--motion",
        type=Path,
        metavar="FILE.npz",
        help="real motion to animate people with (default: built-in motion); its train, val and test clips go to takes "
        "of the same side of the within-scene split, so train with data.split_scheme=within_scene",
    )
    parser.add_argument(
        "--scenes",
        nargs="+",
        default=["tagging", "legoassemble", "fencing"],
        metavar="SCENE",
        help=f"of {', '.join(stages.STAGES)} (default: the three test scenes)",
    )
    parser.add_argument(
        "--takes", type=int, default=5, metavar="N", help="of each scene, if it has as many (default: %(default)s)"
    )
    parser.add_argument(
        "--frames", type=int, default=120, metavar="T", help="of each take, 20 a second (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="default: %(default)s")
    parser.add_argument(
        "--benchmark", action="store_true", help="also write files like the published benchmark's, into DIR/benchmark"
    )
    return parser.parse_args()


def _simulate(arguments: argparse.Namespace) -> int:
    takes = dataset.plan_takes(arguments.scenes, arguments.takes)
    motion_file = clips.MotionFile(arguments.motion) if arguments.motion else None
    counts = Counter(take.scene.suffix for take in takes)
    planned = ", ".join(f"{count} of {scene}" for scene, count in counts.items())
    source = f"{len(motion_file.clips)} usable clips of {arguments.motion}" if motion_file else "built-in motion"
    print(f"Simulating {len(takes)} takes ({planned}) of {arguments.frames} frames with {source} into {arguments.out}")
    with tqdm(total=len(takes), unit="take", desc="simulate", dynamic_ncols=True) as progress:

        def show(take: dataset.catalogue.Take) -> None:
            progress.set_postfix_str(take.name, refresh=False)
            progress.update()

        dataset.simulate(
            arguments.out,
            takes,
            arguments.frames,
            arguments.seed,
            motion_file,
            on_take=show,
            benchmark=arguments.benchmark,
        )
    print(f"Next: python tools/convert.py egohumans --raw {arguments.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
