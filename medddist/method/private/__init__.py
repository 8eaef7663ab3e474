"""Distillation with a differential-privacy guarantee, each way with its account."""
