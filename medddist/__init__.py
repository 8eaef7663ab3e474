"""Dataset distillation for medical dataset sharing: a study that can be re-run, and the small library under it."""

__version__ = "0.1.0"
