"""Model directories: found, loaded, warmed up, replaced, freed."""
