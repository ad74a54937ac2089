"""The examples in the docstrings of the SDK."""

import doctest
import importlib

import pytest


@pytest.mark.parametrize("name", ["client.inputs", "codes", "security", "terminal", "testing.fake_server"])
def test_examples_give_what_they_show(name):
    """Every example of a module runs and prints what stands below it."""
    done = doctest.testmod(importlib.import_module(f"stylewire.{name}"), report=True)

    assert 0 == done.failed < done.attempted
