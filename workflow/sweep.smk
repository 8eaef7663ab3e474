# Which point of a sweep needs what. `make sweep` runs it in build/sweep/<name>. It writes only there, except for cached results (OUT)
# and the table (FOLDER). Points share everything with the same hash: the data, and the teachers of a seed.
import os
import sys

sys.path.insert(0, workflow.basedir)
from tree import ROOT, state_of, under_root

from medddist.base.errors import InputError
from medddist.study.sweep import load_sweep, name_of_data, points

SWEEP = os.environ["SWEEP"]
OUT, FOLDER = (str(ROOT / (os.environ.get(name) or default)) for name, default in (("OUT", "build/artifacts"), ("FOLDER", "results")))
try:
    sweep = load_sweep(SWEEP, os.environ.get("DATA", "phantom"))
except InputError as mistake:
    print(f"sweep: error: {mistake}", file=sys.stderr)
    os._exit(2)  # snakemake would exit with 1 and a long message

POINTS = {point.name: point for point in points(sweep)}
SOURCES = {name_of_data(source): source for source in sweep.data}
TABLE = f"{FOLDER}/sweep-{os.path.splitext(os.path.basename(SWEEP))[0]}-{'-'.join(SOURCES)}.csv"
# Locally, one point after another with all cores, or JOBS at a time; on a cluster, the threads that its profile sets.
THREADS = max(1, workflow.cores // int(os.environ.get("JOBS") or 1)) if workflow.cores else 4
LIBRARY = under_root("medddist/**/*.py", "medddist/profiles/*.yaml", "requirements.lock")


def needs(wanted):
    """Distillation waits for its teachers, and initial images for the distillation that chose them."""
    point = POINTS[wanted.point]
    data = name_of_data(point.data)
    if point.method == "initial":
        return f"points/{data}-distilled-{point.images_per_class}-{point.seed}.ipynb"
    return f"shared/teachers-{data}-{point.seed}" if point.method == "distilled" else f"shared/data-{data}"


def parameters(wanted):
    point = POINTS[wanted.point]
    given = {"profile": sweep.profile, "data": point.data, "out": OUT, "overrides": sweep.overrides}
    given |= {"method": point.method, "images_per_class": point.images_per_class, "seed": point.seed}
    return set_each(f"{name}={value}" for name, value in given.items())


def set_each(pairs):
    return [word for pair in pairs for word in ("--set", pair)]


rule table:
    input:
        points=expand("points/{point}.ipynb", point=POINTS),
        script=str(ROOT / "workflow/sweep_table.py"),
    threads: THREADS
    output:
        TABLE,
    params:
        sweep=SWEEP,
        data=sweep.data[0],
        out=OUT,
    resources:
        mem_mb=4000,
        runtime=30,
    shell:
        "cd {ROOT:q} && {sys.executable:q} {input.script:q} {params.sweep:q} {params.data:q} {params.out:q} {output:q}"


rule point:
    input:
        needs=needs,
        script=str(ROOT / "workflow/point.py"),
        runner=str(ROOT / "workflow/notebook.py"),
        library=LIBRARY,
    params:
        given=parameters,
    threads: THREADS
    output:
        "points/{point}.ipynb",
    resources:
        mem_mb=8000,
        runtime=240,
        gpu=1,
    shell:
        "{sys.executable:q} {input.runner:q} execute {input.script:q} {output:q} {params.given:q}"


rule teachers:
    input:
        "shared/data-{data}",
        library=LIBRARY,
    params:
        given=lambda wanted: set_each([f"seeds=[{wanted.seed}]", *sweep.overrides.split()]),
        source=lambda wanted: SOURCES[wanted.data],
    threads: THREADS
    output:
        touch("shared/teachers-{data}-{seed}"),
    wildcard_constraints:
        seed=r"\d+",
    resources:
        mem_mb=8000,
        runtime=240,
        gpu=1,
    shell:
        "cd {ROOT:q} && {sys.executable:q} -m medddist teachers --profile {sweep.profile:q} --data {params.source:q}"
        " --out {OUT:q} {params.given:q} >&2"


rule data:
    params:
        source=lambda wanted: SOURCES[wanted.data],
        state=lambda wanted: state_of(SOURCES[wanted.data]),
        given=set_each(sweep.overrides.split()),
    output:
        touch("shared/data-{data}"),
    resources:
        mem_mb=4000,
        runtime=30,
    shell:
        "cd {ROOT:q} && {sys.executable:q} -m medddist prepare --profile {sweep.profile:q} --data {params.source:q}"
        " --out {OUT:q} {params.given:q} >&2"
