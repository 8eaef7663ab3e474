"""What the distilled images are held against: one file a method, and `pretraining`, the one loop of
those that learn features.
"""
