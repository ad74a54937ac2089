"""The wing that speaks to callers: transport, access, parsing, preprocessing of photos, encoding of images."""
