"""Arrays in, numbers out: scores with intervals, membership, nearest neighbours, saliency."""
