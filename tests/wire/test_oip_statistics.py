"""What is counted of the calls of the Open Inference Protocol, and what perf_analyzer makes of it."""

import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from stylewire import oip_pb, pb
from stylewire.client.inputs import seed
from support.oip import given
from support.perf_analyzer import measure
from support.scrape import Scrape, wait_for

SWEEP = ["--measurement-interval", "400", "--max-trials", "3", "--stability-percentage", "999"]
SWEEP += ["--concurrency-range", "1:4:1"]
NAMES = ["avatars", "avatars.encoder", "avatars.mapping", "avatars.synthesis", "pixels", "pixels.mapping"]
NAMES += ["pixels.synthesis"]


def statistics(client, name):
    (found,) = client.get_inference_statistics(name).model_stats
    return found


def test_statistics_add_up(triton):
    """Rows, requests and batches are counted, refused requests apart; times are parts of a sum."""
    names = ("avatars", "avatars.mapping", "avatars.synthesis")
    before = {name: statistics(triton, name) for name in names}
    for rows in (1, 3, 2):
        triton.infer("avatars", given(seed=np.arange(rows, dtype=np.uint32)))
    with pytest.raises(InferenceServerException, match="DEADLINE_EXCEEDED"):
        triton.infer("avatars", given(seed=np.zeros(1, np.uint32)), timeout=1)
    after = {name: statistics(triton, name) for name in names}

    for name in names:
        past, now = before[name], after[name]
        times = now.inference_stats
        parts = [times.queue, times.compute_input, times.compute_infer, times.compute_output]
        rows_then, rows_now = (
            sum(each.batch_size * each.compute_infer.count for each in found.batch_stats) for found in (past, now)
        )
        # A mapping network that runs on the event loop knows no deadline.
        assert now.inference_count - past.inference_count in ((6, 7) if name == "avatars.mapping" else (6,))
        # Not in all: rows of callers of other tests, who left meanwhile, ran and were answered to nobody.
        assert now.inference_count - past.inference_count == rows_now - rows_then
        assert sum(each.compute_infer.count for each in now.batch_stats) == now.execution_count
        assert {times.success.count} == {each.count for each in parts}
        assert len(parts) >= abs(times.success.ns - sum(each.ns for each in parts))
        assert now.last_inference > past.last_inference
    assert 1 == after["avatars"].inference_stats.fail.count - before["avatars"].inference_stats.fail.count


def test_statistics_of_all_models_are_listed(triton):
    """Asked about none, they are those of every model."""
    assert NAMES == [each.name for each in triton.get_inference_statistics().model_stats]


def test_graphs_count_what_other_services_ask(triton, demo):
    """A picture that Generate draws is a row of the graph that drew it, and none of the whole model."""
    names = ("avatars", "avatars.synthesis")
    before = [statistics(triton, name).inference_count for name in names]
    demo.Generate(pb.GenerateRequest(latents=[seed(1), seed(2)]))

    assert [0, 2] == [statistics(triton, name).inference_count - n for name, n in zip(names, before, strict=True)]


def test_calls_are_in_the_metrics_and_in_the_log(demo_server, triton, caplog):
    """Each method is there from the start; a call has a line with its model and its times."""
    labels = {"grpc_service": oip_pb.SERVICE, "grpc_method": "ModelInfer"}
    unseen = Scrape(demo_server.metrics_url).value("grpc_server_handled_total", **labels, grpc_code="DATA_LOSS")
    before = Scrape(demo_server.metrics_url).count("grpc_server_handled_total", **labels, grpc_code="OK")
    with caplog.at_level("INFO", "stylewire.server.front.transport.interceptor"):
        triton.infer("avatars", given(seed=np.array([1], np.uint32)))
        wait_for(
            demo_server.metrics_url,
            lambda scrape: scrape.count("grpc_server_handled_total", **labels, grpc_code="OK") > before,
        )
    line = next(record.msg for record in caplog.records if record.msg.get("method") == "ModelInfer")

    assert 0 == unseen
    assert ("avatars", "OK", 1) == (line["model"], line["code"], line["batch"])
    assert 0 < line["inference_ms"]


def test_perf_analyzer_sweeps_and_its_numbers_are_ours(demo_server, triton):
    """perf_analyzer runs a sweep as it is; what it says the server did is what it asked for."""
    before = statistics(triton, "avatars")
    steps = measure(demo_server.address, "avatars", *SWEEP)
    after = statistics(triton, "avatars")

    assert [1, 2, 3, 4] == [step.concurrency for step in steps]
    for step in steps:
        parts = step.overhead + step.queue + step.input + step.infer + step.output
        assert step.rows == step.answered == step.batches
        # Those that began or ended beside one of its three windows.
        assert 4 * step.concurrency >= abs(step.requests - step.rows)
        assert 5 >= abs(step.latency - parts)
    assert sum(step.rows for step in steps) <= after.inference_count - before.inference_count
