"""A distilled set as a package that can be sent, and several hospitals that share packages."""
