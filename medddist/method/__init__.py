"""The paper:

distillation by matching training trajectories. README.md says in which order to read.
"""
