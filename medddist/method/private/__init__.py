"""Teachers with a differential-privacy guarantee, and its account."""
