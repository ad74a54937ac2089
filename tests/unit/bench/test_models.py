"""What `make bench-models` compares is the same function, and its figures mean what the table says."""

from pathlib import Path

import numpy as np
import pytest
import torch

from models import table
from models.candidate import Candidate
from models.memory import Footprint, choose_fitting
from models.official import official_graph
from models.rounds import Result
from models.upsampling.variants import VARIANTS
from stylewire_export.graphs import synthesis_graph
from support.models import random_generator


def test_published_form_is_the_same_network(tmp_path):
    """Weights of every sample's own, in one grouped convolution, draw what the scaled form draws."""
    generator = random_generator(seed=5)
    torch.save({"g_ema": generator.state_dict()}, tmp_path / "generator.pt")
    graph = synthesis_graph(generator)
    values = graph.examples(5)
    expected, found = graph.run(values)["image"], official_graph(tmp_path / "generator.pt", "synthesis").run(values)
    worst = np.abs(found["image"] - expected).max() / np.ptp(expected)
    print(f"largest difference {worst:.1e} of the range")

    assert worst < 1e-5


@pytest.mark.parametrize("name", [name for name in VARIANTS if name != "direct"])
def test_variants_of_an_up_sampling_layer_are_the_same_function(name):
    """All give what the transposed convolution and the filter give."""
    torch.manual_seed(1)
    weight, x = torch.randn(6, 5, 3, 3), torch.randn(2, 5, 7, 9)
    with torch.inference_mode():
        expected, found = VARIANTS["direct"](weight)(x), VARIANTS[name](weight)(x)

    assert (2, 6, 14, 18) == expected.shape
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def candidate(name, batch=0):
    return Candidate(name=name, backend="onnxruntime", path=Path(), graph="synthesis", batch=batch)


def result(name, seconds, value=0.0):
    return Result(candidate=candidate(name), batch=1, output=np.full((2, 2), value, np.uint8), seconds=seconds)


def test_ratios_are_of_rounds():
    """The median of the ratios, not the ratio of the medians: a slow phase of the machine touches both."""
    spread = table._over(result("a", [4.0, 40.0, 6.0]), result("b", [2.0, 10.0, 6.0]))

    assert (2.0, 1.0, 4.0) == (spread.median, spread.least, spread.most)
    assert table._over(result("a", [1.0]), result("b", [])) is None


def test_difference_of_pixels_and_codes():
    """Pixels have a PSNR and levels, codes a relative error; equal ones have none."""
    pixels, codes = np.zeros((1, 2, 2, 1), np.uint8), np.array([[3.0, -1.0]], np.float32)

    assert (None, 0.0) == table._difference(pixels, pixels)
    assert pytest.approx((20 * np.log10(255 / 3), 3)) == table._difference(pixels + 3, pixels)
    error_db, worst = table._difference(codes + 0.5, codes)
    assert pytest.approx(20 * np.log10(0.5 / np.sqrt(5))) == error_db
    assert 0.5 / 4 == worst


def test_what_does_not_fit_into_memory_is_left_out_with_its_reason():
    """The first ones stay; files for one batch size share their memory, since only one of them is open."""

    def taken(gigabytes):
        return Footprint(start_seconds=1, runtime_bytes=0, bytes_by_batch={1: int(gigabytes * 1e9)})

    first, second, one, four = (candidate("a"), candidate("b"), candidate("n", batch=1), candidate("n", batch=4))
    footprints = {first: taken(5), one: taken(2), four: taken(3), second: taken(2)}

    assert {} == choose_fitting(footprints, int(12e9))
    assert {second: "needs 2.0 GB beside the others, 1.0 GB are left"} == choose_fitting(footprints, int(10e9))
