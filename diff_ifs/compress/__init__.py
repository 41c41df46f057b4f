"""Maps rounded to a lattice and fitted once more."""
