"""What tests build on: running servers, small models, fakes."""
