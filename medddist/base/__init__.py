"""What everything else stands on: errors, files, seeds, settings; it knows nothing of images."""
