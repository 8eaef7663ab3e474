"""The methods that the distilled images are compared with: one file a method.

`pretraining` is the one loop of those that learn features, `condensing` of those that learn images.
"""
