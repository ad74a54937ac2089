"""Photos -> inputs of encoders: decode, find the face, align, resize, normalize."""
