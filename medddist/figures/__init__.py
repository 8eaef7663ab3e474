"""The book's figures: every function takes results and draws them, and computes nothing else."""

from medddist.figures.course import (
    brightness,
    class_counts,
    distillation_course,
    losses_by_start,
    teacher_curves,
    teacher_moves,
)
from medddist.figures.leaks import (
    by_hospital,
    guarantee,
    leakage,
    leakage_name,
    membership,
    sharing,
)
from medddist.figures.pictures import (
    embedding,
    labelled_sheet,
    mosaic,
    overlays,
    sheet,
    slider,
)
from medddist.figures.scores import (
    compared,
    confusions,
    images_per_class,
    intervals,
    leads,
    probed,
    roc_and_calibration,
    score_table,
)
from medddist.figures.style import COLOURS, DISTILLED, REFERENCE, Html, Shown, plt, set_style, show
from medddist.figures.tables import (
    Table,
    Text,
    conclusion,
    difference_text,
    interval_text,
    table,
    verdict,
    words,
)
