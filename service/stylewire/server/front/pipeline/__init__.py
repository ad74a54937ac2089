"""Jobs -> images: the recipe that every call follows."""
