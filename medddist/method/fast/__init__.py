"""The ConvNet's derivatives, written out over compiled kernels."""
