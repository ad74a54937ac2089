"""Servers for tests of programs that use the SDK: one without networks here, a real one in ``launcher``."""

from stylewire.testing.fake_server import DIGEST, W_DIM, FakeServer, model

__all__ = ["DIGEST", "W_DIM", "FakeServer", "model"]
