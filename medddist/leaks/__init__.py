"""What a released set gives away: the audit, and accuracy against leakage."""
