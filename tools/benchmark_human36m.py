"""Measures the conversion of a made-up Human3.6M of the true size: python tools/benchmark_human36m.py --folder DIR.

Prints time, memory of all processes together and a digest of the data, which is the same whatever --jobs.
"""

import argparse
import sys
from pathlib import Path

from finepose_mp.preprocessing.human36m import full_size


def main() -> int:
    arguments = _parser().parse_args()
    raw, detections, frames = full_size.write_full_size(arguments.folder, arguments.kind, arguments.clips)
    for jobs in arguments.jobs:
        out = arguments.folder / f"{arguments.kind}_{jobs}_jobs.h5"
        command = [sys.executable, str(Path(__file__).with_name("convert.py")), "human36m", "--raw", str(raw)]
        command += ["--detections", str(detections), "--out", str(out), "--jobs", str(jobs), "--overwrite"]
        cost = full_size.run_and_watch(command)
        memory = "unknown" if cost.peak_bytes is None else f"{cost.peak_bytes / 2**20:.0f} MiB"
        print(
            f"{arguments.kind}, jobs {jobs}: {frames} frames in {cost.seconds:.1f} s "
            f"({frames / cost.seconds:.0f} frames/s), peak memory {memory}, file {out.stat().st_size / 2**20:.0f} MiB, "
            f"data {full_size.data_digest(out)[:16]}"
        )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="for raw data and output, kept and used again: 2 GB")
    parser.add_argument("--kind", choices=("official", "community"), default="official")
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 2], metavar="N", help="default: 1 2")
    parser.add_argument("--clips", type=int, metavar="N", help="only the first N of the 210 clips")
    return parser


if __name__ == "__main__":
    sys.exit(main())
