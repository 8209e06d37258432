"""Measures what things cost: python tools/benchmark.py {convert,human36m,load,evaluate,train,infer,all}.

convert     EgoHumans takes (--raw), beside reading their files
human36m    a made-up Human3.6M of the true size, written to --folder: time, memory, and whether --jobs change the data
load        windows of a converted file (--data), in the first epoch and in later ones
evaluate    MPI-INF-3DHP's evaluation of as many frames as its test set has, beside its transcription with loops
train       steps of training, by arms that differ in one thing
infer       passes of inference, likewise

Costs of train and infer are ratios to a yardstick that runs between the repeats, so that they can be compared between
machines and do not move when somebody else uses this one.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

import torch

from finepose_mp import benchmark
from finepose_mp.benchmark.arms import hungriest_arm, preset_arms
from finepose_mp.benchmark.measuring import BenchmarkError, has_compiler
from finepose_mp.config import DataConfig
from finepose_mp.evaluation.mpi_inf_3dhp.reference import speed_ratio
from finepose_mp.preprocessing.human36m import full_size
from finepose_mp.schema import CAMERA_KINDS, open_file


def main() -> int:
    arguments, found = _parser().parse_args(), {}
    try:
        run(arguments, found)
    except (OSError, ValueError, BenchmarkError) as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 2
    finally:  # also what was measured before something failed: it may have taken hours
        if arguments.json:
            arguments.json.write_text(json.dumps(found, indent=2))
    return 0


def run(arguments: argparse.Namespace, found: dict) -> None:
    """Measures what was asked for and notes it in `found`, part by part."""
    around, everything = benchmark.surroundings(arguments.device, arguments.threads), arguments.what == "all"
    print(", ".join(f"{key} {value}" for key, value in around.items() if value is not None))
    found |= around
    if arguments.what == "convert" or (everything and arguments.raw):
        _note(found, "convert", (_conversion(arguments, jobs) for jobs in arguments.jobs))
    if arguments.what == "human36m" or (everything and arguments.folder):
        _note(found, "human36m", _human36m(arguments))
    if arguments.what == "load" or (everything and arguments.data):
        _note(found, "load", _loads(arguments))
    if arguments.what in ("evaluate", "all"):
        _note(found, "evaluate", [speed_ratio()])
    if arguments.what in ("train", "infer", "all"):
        _measure(arguments, found.setdefault("arms", []))


def _measure(arguments: argparse.Namespace, noted: list[dict]) -> None:
    measurements = []
    for arm in _arms(arguments):
        measurements.append(benchmark.measure(arm, arguments.device, arguments.threads, arguments.repeats))
        noted.append(benchmark.as_json(measurements[-1]))
        lines = benchmark.table(measurements).splitlines()
        print("\n".join(lines if len(measurements) == 1 else lines[-1:]), flush=True)


def _sizes(arguments: argparse.Namespace) -> benchmark.Sizes:
    return benchmark.Sizes(
        *(arguments.width, arguments.depth, arguments.heads),
        *(arguments.text_width, arguments.text_depth, arguments.text_heads),
    )


def _arms(arguments: argparse.Namespace) -> list[benchmark.Arm]:
    sizes, compiler, arms = _sizes(arguments), has_compiler(), []
    if arguments.what in ("train", "all"):
        arms += benchmark.training_arms(sizes, arguments.windows, arguments.batches, compiler)
    if arguments.what in ("infer", "all"):
        arms += benchmark.inference_arms(
            sizes, arguments.windows, arguments.batches, arguments.hypotheses, arguments.steps, compiler
        )
        arms += preset_arms(sizes, arguments.windows[0]) if arguments.presets else []
    wanted = [arm for arm in arms if not arguments.only or any(part in arm.name for part in arguments.only)]
    if not wanted:
        raise ValueError(f"no arm is called like {arguments.only}; there are: {', '.join(arm.name for arm in arms)}")
    return wanted


def _conversion(arguments: argparse.Namespace, jobs: int) -> dict:
    if arguments.raw is None:
        raise ValueError("convert needs --raw DIR, EgoHumans takes")
    return asdict(benchmark.measure_conversion(arguments.raw, jobs))


def _human36m(arguments: argparse.Namespace) -> Iterator[dict]:
    """Costs of the command that a user would give, in a process of its own."""
    if arguments.folder is None:
        raise ValueError("human36m needs --folder DIR for raw data and output: 2 GB, kept and used again")
    raw, detections, frames = full_size.write_full_size(arguments.folder, arguments.kind, arguments.clips)
    for jobs in arguments.jobs:
        out = arguments.folder / f"{arguments.kind}_{jobs}_jobs.h5"
        command = [sys.executable, str(Path(__file__).with_name("convert.py")), "human36m", "--raw", str(raw)]
        command += ["--detections", str(detections), "--out", str(out), "--jobs", str(jobs), "--overwrite"]
        cost = full_size.run_and_watch(command)
        yield {"kind": arguments.kind, "jobs": jobs, "frames": frames, **asdict(cost)} | {
            "frames_per_second": frames / cost.seconds,
            "file_mb": out.stat().st_size / 2**20,
            "data": full_size.data_digest(out)[:16],
        }


def _loads(arguments: argparse.Namespace) -> Iterator[dict]:
    """Loading with several numbers of workers, beside the windows that training takes in: a step in bfloat16."""
    rows = [_loading(arguments, workers) for workers in arguments.workers]
    arm = hungriest_arm(_sizes(arguments), arguments.windows[0], rows[0]["batch_size"])
    taken = benchmark.measure(arm, arguments.device, arguments.threads, arguments.repeats).windows_per_second
    for row in rows:
        first, following = row["first_epoch_per_second"] / taken, row["next_epoch_per_second"] / taken
        yield row | {"training_per_second": taken, "first_epoch_ratio": first, "next_epoch_ratio": following}


def _loading(arguments: argparse.Namespace, workers: int) -> dict:
    """Loading of all cameras in the file's own joints."""
    if arguments.data is None:
        raise ValueError("load needs --data FILE.h5, a converted file")
    with open_file(arguments.data) as file:
        joints = str(file.attrs["joint_set"])
    data = DataConfig(
        files=[arguments.data],
        joint_set=joints,
        window=arguments.windows[0],
        split_scheme=arguments.split_scheme,
        camera_kinds=list(CAMERA_KINDS),
        input_2d=arguments.input_2d,
    )
    return asdict(benchmark.measure_loading(data, max(arguments.batches), workers))


def _note(found: dict, title: str, rows: Iterable[dict]) -> None:
    """Prints and keeps the rows, each as it comes."""
    kept = found.setdefault(title, [])
    for row in rows:
        texts = (f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items())
        print(f"{title}: {', '.join(texts)}", flush=True)
        kept.append(row)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("convert", "human36m", "load", "evaluate", "train", "infer", "all"))
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every number, and where it is from")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU (default: 1, measured in CPU time)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="+", metavar="PART", help="only arms with one of these in their names")
    parser.add_argument("--presets", action="store_true", help="also measure the presets (the papers' is slow)")

    work = parser.add_argument_group("work; the first of several is what other arms are varied from")
    work.add_argument("--windows", type=int, nargs="+", default=[27, 81, 243], metavar="N", help="frames")
    work.add_argument("--batches", type=int, nargs="+", default=[1, 4], metavar="B", help="windows at once")
    work.add_argument("--hypotheses", type=int, nargs="+", default=[5, 1, 20], metavar="H")
    work.add_argument("--steps", type=int, nargs="+", default=[5, 1], metavar="S")

    sizes, defaults = parser.add_argument_group("sizes of the network (default: the papers')"), benchmark.Sizes()
    for name, value in asdict(defaults).items():
        sizes.add_argument(f"--{name.replace('_', '-')}", type=int, default=value, help="default: %(default)s")

    data = parser.add_argument_group("data")
    data.add_argument("--raw", type=Path, metavar="DIR", help="EgoHumans takes, for convert")
    data.add_argument("--folder", type=Path, metavar="DIR", help="for raw data and output of human36m, kept: 2 GB")
    data.add_argument("--kind", choices=("official", "community"), default="official", help="of archive, for human36m")
    data.add_argument("--clips", type=int, metavar="N", help="only the first N of Human3.6M's 210 clips")
    data.add_argument("--jobs", type=int, nargs="+", default=[1, 2], metavar="N", help="of conversions (default: 1 2)")
    data.add_argument("--data", type=Path, metavar="FILE.h5", help="converted file, for load")
    data.add_argument("--workers", type=int, nargs="+", default=[0, 2], help="of the loader (default: 0 2)")
    data.add_argument("--input-2d", choices=("detected", "projected"), default="detected")
    data.add_argument("--split-scheme", choices=("official", "within_scene"), default="official")
    return parser


if __name__ == "__main__":
    sys.exit(main())
