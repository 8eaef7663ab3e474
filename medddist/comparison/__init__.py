"""Compare the distilled images with other methods, and classes with the origins of images."""
