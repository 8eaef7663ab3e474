"""The book's figures: every function takes results and draws them, and computes nothing else."""

from medddist.figures.course import (
    brightness,
    class_counts,
    distillation_course,
    teacher_curves,
    teacher_moves,
)
from medddist.figures.leaks import guarantee, leakage, leakage_name, membership, sharing
from medddist.figures.pictures import animation, mosaic, overlays, sheet
from medddist.figures.scores import (
    compared,
    confusions,
    images_per_class,
    intervals,
    leads,
    probed,
    score_table,
    unnamed_bars,
)
from medddist.figures.style import COLOURS, DISTILLED, REFERENCE, Shown, plt, set_style, show
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
