"""The comparison's tables: which methods take part, what each is scored by, what origins give away."""
