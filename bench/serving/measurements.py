"""The measurements: each function starts what it needs, measures in turns, and returns lines of one table."""

import os
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from interleave import Spread, ratios, take_turns
from serving import calls, h2load, models
from serving.bare import BackendLoop, BareLoop
from serving.collector import collecting
from serving.flood import flood
from serving.process import Server, serving

CLIENTS = 16
BACKENDS = ("ncnn", "openvino")
BATCHES = {64: (1, 2, 4, 8), 256: (1, 2, 4)}
DEADLINE_SECONDS = 1.0
PAUSE_SECONDS = 1e-3
"""About what a client and the network take between two calls: a core that has slept computes slower at first."""
WITHOUT_METRICS = (str(Path(__file__).with_name("without_metrics.py")),)
Row = tuple[str, ...]


def loaded(
    server: Server, clients: int, seconds: float, image_format: str = "jpeg", least_bytes: int = 400
) -> h2load.Result:
    """Load a server with h2load, which takes next to no processor time itself."""
    body = calls.generate_body(image_format=image_format)
    result = h2load.run(
        server.port,
        protocol="grpc",
        path=calls.GENERATE,
        headers={},
        body=body,
        clients=clients,
        seconds=seconds,
        warm_up_seconds=0.5,
    )
    if result.failed or result.bytes_per_request < least_bytes:  # an error has status 200 and no picture
        raise h2load.LoadError(f"{result.failed} failed, {result.bytes_per_request:.0f} bytes a reply")
    return result


def efficiency(resolution_px: int, pairs: int, seconds: float) -> list[Row]:
    """Images/s through gRPC over images/s of the bare loop at its best batch size; and the latency of one client."""
    directory = models.demo() if resolution_px == 64 else models.seeded(resolution_px)
    bare = BareLoop(directory)
    best = bare.best_batch_size(BATCHES[resolution_px], seconds / 3)
    speeds, same = list[float](), list[float]()
    over: dict[str, list[float]] = {"jpeg": [], "png": [], "SDK": [], "workers": []}
    added_p50, added_to_paused, added_p99 = list[float](), list[float](), list[float]()
    cores = len(os.sched_getaffinity(0))
    with serving(directory) as server, serving(directory, "--workers", str(cores)) as workers:
        for _ in range(pairs):
            reference, _ = bare.run(best, seconds)
            speeds.append(reference)
            same.append(bare.run(best, seconds)[0] / reference)
            for name, one, image_format in (
                ("jpeg", server, "jpeg"),
                ("png", server, "png"),
                ("workers", workers, "jpeg"),
            ):
                before, _ = bare.run(best, seconds / 2)
                speed = loaded(one, CLIENTS, seconds, image_format).requests_per_second
                after, _ = bare.run(best, seconds / 2)
                over[name].append(2 * speed / (before + after))
            before, _ = bare.run(best, seconds / 2)
            started = time.perf_counter()
            done = calls.in_turn(server.port, seconds, [1] * CLIENTS)
            took = time.perf_counter() - started  # until the last has its answer
            after, _ = bare.run(best, seconds / 2)
            over["SDK"].append(2 * len(done) / took / (before + after))
            _, times = bare.run(1, seconds / 2)
            _, paused = bare.run(1, seconds / 2, pause_seconds=PAUSE_SECONDS)
            alone = loaded(server, 1, seconds)
            added_p50.append((alone.percentile(50) - statistics.median(times)) * 1e3)
            added_to_paused.append((alone.percentile(50) - statistics.median(paused)) * 1e3)
            added_p99.append((alone.percentile(99) - h2load.percentile(times, 99)) * 1e3)
    name = f"{resolution_px} px"
    return [
        (f"{name}: bare loop, batch {best}", f"{Spread.of(speeds):.1f} images/s"),
        (f"{name}: A/A, bare over bare", str(Spread.of(same))),
        *(
            (f"{name}: {CLIENTS} clients, {form.upper()}, over bare", str(Spread.of(over[form])))
            for form in ("jpeg", "png")
        ),
        (f"{name}: {CLIENTS} clients, JPEG, --workers {cores}", str(Spread.of(over["workers"]))),
        (f"{name}: {CLIENTS} clients in Python, JPEG", str(Spread.of(over["SDK"]))),
        (f"{name}: one client, p50 minus bare p50", f"{Spread.of(added_p50)} ms"),
        (f"{name}: the same, bare with pauses of 1 ms", f"{Spread.of(added_to_paused)} ms"),
        (f"{name}: one client, p99 minus bare p99", f"{Spread.of(added_p99)} ms"),
    ]


def backends(resolution_px: int, rounds: int, seconds: float) -> list[Row]:
    """Images/s through gRPC over images/s of the same backend alone, and over the server with onnxruntime."""
    directory, rows = models.seeded(resolution_px), list[Row]()
    with serving(directory, "--backend", "onnxruntime") as usual:
        for backend in BACKENDS:
            bare, over, gains = BackendLoop(directory, backend), list[float](), list[float]()
            with serving(directory, "--backend", backend) as server:
                for _ in range(rounds):
                    before = bare.run(seconds / 2)
                    speed = loaded(server, CLIENTS, seconds).requests_per_second
                    over.append(2 * speed / (before + bare.run(seconds / 2)))
                    gains.append(speed / loaded(usual, CLIENTS, seconds).requests_per_second)
            name = f"{resolution_px} px, {backend}, {CLIENTS} clients, JPEG"
            rows += [
                (f"{name}, over it alone", str(Spread.of(over))),
                (f"{name}, over onnxruntime", str(Spread.of(gains))),
            ]
    return rows


def overload(resolution_px: int, rounds: int, seconds: float, factors: Sequence[float]) -> list[Row]:
    """More than the server can do, with deadlines of a second: what it still does, and how it says no."""
    directory = models.demo() if resolution_px == 64 else models.seeded(resolution_px)
    figures: dict[float, list[tuple[float, ...]]] = {factor: [] for factor in factors}
    with serving(directory) as server:
        for _ in range(rounds):
            for factor in factors:
                capacity = loaded(server, CLIENTS, seconds).requests_per_second
                figures[factor].append(_overload_once(server, factor, capacity, seconds))
    rows = []
    for factor, columns in figures.items():
        sent, goodput, p99, refused, p50, refusal_p99, late, lost = map(statistics.median, zip(*columns, strict=True))
        rows.append(
            (
                f"{resolution_px} px: offered {factor:g}x (sent {sent:.1f}x)",
                (
                    f"goodput {goodput:.2f} of capacity, p99 {p99 * 1e3:.0f} ms; "
                    f"refused {refused:.0%} in {p50 * 1e3:.1f} ms (p99 {refusal_p99 * 1e3:.0f}); "
                    f"ended by the deadline {lost:.1%}; ran for nobody {late:.1%}"
                ),
            )
        )
    return rows


def _overload_once(server: Server, factor: float, capacity: float, seconds: float) -> tuple[float, ...]:
    rows_before = server.metric("stylewire_batch_size_sum", graph="synthesis")
    done = flood(
        server.port,
        calls.GENERATE,
        calls.generate_body(),
        rate=factor * capacity,
        seconds=seconds,
        deadline_seconds=DEADLINE_SECONDS,
    )
    rows = server.metric("stylewire_batch_size_sum", graph="synthesis") - rows_before
    good = [call.seconds for call in done if call and call.ok]
    refused = [call.seconds for call in done if call and not call.ok and call.seconds < 0.9 * DEADLINE_SECONDS]
    return (
        len(done) / seconds / capacity,
        len(good) / seconds / capacity,
        h2load.percentile(good, 99) if good else float("nan"),
        len(refused) / len(done),
        h2load.percentile(refused, 50) if refused else 0.0,
        h2load.percentile(refused, 99) if refused else 0.0,
        max(0.0, rows - len(good)) / max(rows, 1.0),
        (len(done) - len(good) - len(refused)) / len(done),
    )


def fairness(resolution_px: int, rounds: int, seconds: float) -> list[Row]:
    """Single requests alone and beside a client that sends 64-item requests without pause."""
    directory = models.demo() if resolution_px == 64 else models.seeded(resolution_px)
    alone, beside, batch = list[float](), list[float](), list[float]()
    with serving(directory) as server:
        for _ in range(rounds):
            alone.append(h2load.percentile([c.seconds for c in calls.in_turn(server.port, seconds, [1])], 99))
            count, total = (
                server.metric(f"stylewire_batch_run_seconds_{each}", graph="synthesis") for each in ("count", "sum")
            )
            done = calls.in_turn(server.port, seconds, [1, 64])
            count, total = (
                server.metric(f"stylewire_batch_run_seconds_{each}", graph="synthesis") - before
                for each, before in (("count", count), ("sum", total))
            )
            batch.append(total / count)
            beside.append(h2load.percentile([call.seconds for call in done if call.asked == 1], 99))
    return [
        (f"{resolution_px} px: p99 of single requests, alone", f"{Spread.of([s * 1e3 for s in alone]):.1f} ms"),
        (f"{resolution_px} px: the same beside 64-item requests", f"{Spread.of([s * 1e3 for s in beside]):.1f} ms"),
        (f"{resolution_px} px: mean batch meanwhile", f"{Spread.of([s * 1e3 for s in batch]):.1f} ms"),
    ]


def tiny(rounds: int, seconds: float, workers: Sequence[int]) -> list[Row]:
    """RPCs/s with a model that costs nothing: the server's own ceiling."""
    directory = models.tiny()

    def measure(count: int) -> float:
        with serving(directory, "--workers", str(count)) as server:
            return loaded(server, 2 * CLIENTS, seconds, "pixels", least_bytes=3 * 8 * 8).requests_per_second

    speeds = take_turns({count: partial(measure, count) for count in workers}, range(rounds))
    return [(f"tiny model, {count} process(es)", f"{Spread.of(speeds[count]):.0f} RPCs/s") for count in workers]


def metrics_cost(pairs: int, seconds: float) -> list[Row]:
    """Throughput with all metrics over throughput with metrics that do nothing."""
    over, same = list[float](), list[float]()
    with serving(models.demo()) as counted, serving(models.demo(), launcher=WITHOUT_METRICS) as uncounted:
        measure: Callable[[Server], float] = lambda server: loaded(server, CLIENTS, seconds).requests_per_second  # noqa: E731
        for _ in range(pairs):
            first, second, third, fourth = (measure(each) for each in (uncounted, counted, counted, uncounted))
            over.append((second + third) / (first + fourth))
            same.append(fourth / first)
    return [
        ("64 px: throughput with metrics over without", f"{Spread.of(over):.3f}"),
        ("64 px: A/A, without over without", f"{Spread.of(same):.3f}"),
    ]


def tracing_cost(rounds: int, seconds: float, base: Path | None) -> list[Row]:
    """Processor time of a call with and without tracing; beside it, throughput would drown in the machine's noise.

    Args:
        rounds: interleaved rounds.
        seconds: length of one measurement.
        base: the ``service`` folder of a checkout from before tracing; None leaves that row out.
    """
    with collecting() as collector, ExitStack() as started:
        start: Callable[..., Server] = lambda *given, **more: started.enter_context(  # noqa: E731
            serving(models.demo(), *given, **more)
        )
        to = ("--otlp-endpoint", collector.endpoint)
        servers = {
            "off": start(),
            "off, the same again": start(),
            "a tenth of the calls": start(*to, "--trace-sample-ratio", "0.1"),
            "all calls": start(*to),
        }
        if base:
            servers["a server that cannot trace"] = start(service=base)
        measures = {name: partial(_processor_ms, server, seconds) for name, server in servers.items()}
        costs = take_turns(measures, range(rounds))
        if not collector.byte_count:
            raise h2load.LoadError("no spans came")
    over = {name: Spread.of(ratios(values, costs["off"])) for name, values in costs.items()}
    return [(f"64 px, tracing: {name}", f"{Spread.of(costs[name])} ms, {over[name]}") for name in servers]


def _processor_ms(server: Server, seconds: float) -> float:
    """Measure the processor time of one call under full load, graphs included."""
    counted: Callable[[], tuple[float, float]] = lambda: (  # noqa: E731
        server.processor_seconds(),
        server.metric("grpc_server_handled_total", grpc_method="Generate"),
    )
    used, calls_before = counted()
    loaded(server, CLIENTS, seconds)
    used_after, calls_after = counted()
    return (used_after - used) / (calls_after - calls_before) * 1e3
