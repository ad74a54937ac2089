"""Files to the objects inside: zip archives and streams of torch, and plain pickles."""
