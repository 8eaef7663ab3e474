"""The paper's method: distillation by matching training trajectories; read README.md first."""
