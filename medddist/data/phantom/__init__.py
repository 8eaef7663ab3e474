"""A phantom: simulated chest radiographs (no patient data), calculated from anatomy and lesions."""
