"""An interpreter of pickles that runs nothing of the file, and the names that it knows."""
