"""Export every golden checkpoint, run it, print the table; exit code 1 if a bound is broken: ``make fidelity``."""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from models.fidelity import neighbors, networks, pictures
from models.fidelity.exports import Exported, export_case
from models.fidelity.report import TABLE, Meter, Row, cells, markdown_table
from stylewire.server.engine.backends import BackendOptions
from stylewire.server.engine.models.autotune import ON_CPU
from stylewire.server.host import usable_cores
from stylewire_export.blend import BlendRule
from stylewire_export.bundle import Blending, ExportJob
from support.golden import Case, materialize, read_case

GOLDEN = Path(__file__).parents[4] / "shared" / "golden" / "public"
STYLEGAN1_SIDES_PX = (32, 128)  # what the golden data hold of the one file
LARGE_RECIPES = ("ada1024_full_recipe", "psp64_full_recipe")  # minutes and gigabytes: only with --full
BLENDS = {
    "16_level0": BlendRule(resolution_px=16),
    "16_level1": BlendRule(resolution_px=16, level=1),
    "16_level0_fade": BlendRule(resolution_px=16, fade_width=1.0),
    "ge16": BlendRule(resolution_px=16, whole_blocks=True),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to compare, and how to run it."""

    golden: Path
    backends: tuple[str, ...]
    options: BackendOptions
    full: bool


def main() -> None:
    """Read the command line, compare, print."""
    parser = argparse.ArgumentParser(prog="models.fidelity", description=__doc__)
    parser.add_argument("--golden", type=Path, default=GOLDEN, help="folder of golden cases")
    parser.add_argument("--backends", default=",".join(ON_CPU), help="comma-separated backends of the server")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--full", action="store_true", help="also the 1024 px generator and the full-width pSp")
    parser.add_argument("--markdown", type=Path, help="also write the table of docs/fidelity.md to this file")
    arguments = parser.parse_args()
    if not arguments.golden.is_dir():
        sys.exit(f"fidelity: no golden data at {arguments.golden}; set --golden")
    options = BackendOptions(device=arguments.device, threads=usable_cores(), instances=1)
    plan = Plan(
        golden=arguments.golden, backends=tuple(arguments.backends.split(",")), options=options, full=arguments.full
    )
    rows = []
    TABLE.print_headings()
    for row in all_rows(plan):
        rows.append(row)
        TABLE.print_row(*cells(row))
    if arguments.markdown:
        arguments.markdown.write_text(markdown_table(rows) + "\n")
    broken = sum(not row.kept for row in rows)
    print(f"{len(rows)} comparisons, {broken} broken; errors relative to the range of the original's values")
    sys.exit(1 if broken else 0)


def all_rows(plan: Plan) -> Iterator[Row]:
    """Compare all cases that have arrays; a case that must be refused has none."""
    for folder in sorted(path.parent for path in plan.golden.glob("*/io.npz")):
        if (folder / "structure.json").exists():
            if plan.full or folder.name not in LARGE_RECIPES:
                yield from _recipe_rows(plan, folder)
            continue
        checkpoint = folder / read_case(folder)[1]["checkpoint"]
        yield from _model_rows(plan, _job(checkpoint, folder), folder)
        if folder.name == "blend64":
            yield from _blend_rows(plan, folder)
    if (plan.golden / "preprocess").is_dir():
        yield from pictures.input_rows(plan.golden / "preprocess")
    if (plan.golden / "align").is_dir():
        yield from pictures.alignment_rows(plan.golden / "align")


def _job(checkpoint: Path, folder: Path) -> ExportJob:
    is_encoder = "encoder_type" in read_case(folder)[1]
    return ExportJob(
        generator=checkpoint,
        encoders=(checkpoint,) if is_encoder else (),
        name=folder.name.replace("_", "-"),
        out=Path(),
    )


def _recipe_rows(plan: Plan, folder: Path) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as scratch:
        checkpoint = materialize(folder, Path(scratch) / "network")
        job = _job(checkpoint, folder)
        sides = STYLEGAN1_SIDES_PX if "noise_4" in read_case(folder)[0] else (None,)
        for side in sides:
            yield from _model_rows(plan, replace(job, resolution_px=side), folder)


def _model_rows(plan: Plan, job: ExportJob, folder: Path) -> Iterator[Row]:
    for model, case, meter in _opened(plan, job, folder):
        if job.encoders:
            yield from networks.encoder_rows(case, meter)
        elif "w" not in case.arrays:
            yield from neighbors.plain_rows(case, meter)
        elif "noise_4" in case.arrays:
            yield from neighbors.stylegan1_rows(case, meter)
        elif "img_const" in case.arrays:
            yield from networks.generator_rows(model, case, meter)
        else:
            yield from networks.full_size_rows(model, case, meter)


def _blend_rows(plan: Plan, folder: Path) -> Iterator[Row]:
    files = {"a": folder / "network.pkl", "b": folder / "network_b.pkl"}
    for order in ("ab", "ba"):
        for name, rule in BLENDS.items():
            if f"img_{order}_{name}" in read_case(folder)[0]:
                blending = Blending(finetuned=files[order[1]], rule=rule)
                job = replace(_job(files[order[0]], folder), blending=blending)
                for _, case, meter in _opened(plan, job, folder):
                    yield networks.blend_row(case, meter, f"{order}_{name}")


def _opened(plan: Plan, job: ExportJob, folder: Path) -> Iterator[tuple[Exported, Case, Meter]]:
    """Export into a folder that vanishes, and open with one backend after the other."""
    with tempfile.TemporaryDirectory() as scratch:
        model = export_case(replace(job, out=Path(scratch)), folder)
        for backend in plan.backends:
            with model.open(backend, plan.options) as case:
                yield model, case, Meter(folder.name, backend)


if __name__ == "__main__":
    main()
