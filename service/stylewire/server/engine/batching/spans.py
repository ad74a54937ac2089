"""The spans of one graph: what its batches were, and what each call waited for and got from them."""

from collections.abc import Sequence

from stylewire.server.engine.batching.batch import Batch, QueuedRequest, SliceResult, Span
from stylewire.server.engine_api.graphs import BatchError
from stylewire.server.tracing import Attributes, CallTrace, Link, Phase


class BatchSpans:
    """Traces what a graph does for the calls that are traced.

    Args:
        model: its model.
        graph: its name.
        backend: what runs it.
    """

    def __init__(self, model: str, graph: str, backend: str) -> None:
        self._batch, self._run = f"batch {model}.{graph}", f"run {graph}"
        self._graph: Attributes = {"stylewire.model": model, "stylewire.graph": graph, "stylewire.backend": backend}

    def wait(self, request: QueuedRequest, now: float) -> None:
        """Trace how long a request waited; its rows are there, or will never be."""
        if request.trace:
            stop = now if request.started is None else request.started
            request.trace.phase(Phase(name="queue", start=request.submitted, stop=stop, attributes=self._graph))

    def run(self, call: CallTrace, times: Span, size: int, error: str = "", link: Link | None = None) -> None:
        """Add the span of a batch with rows of it; ``link``: the batch's span, if others may have been in it."""
        start, stop = times
        attributes: Attributes = {**self._graph, "stylewire.batch.size": size}
        links = () if link is None else (link,)
        call.phase(Phase(name=self._run, start=start, stop=stop, attributes=attributes, links=links, error=error))

    def batch(self, batch: Batch, results: Sequence[SliceResult]) -> None:
        """Make the span of a batch, with a link to each traced call in it, and the spans of those calls."""
        calls = list(dict.fromkeys(part.request.trace for part, _, _ in results if part.request.trace))
        if not calls or batch.started is None:
            return
        times, size, error = (batch.started, batch.started + batch.run_seconds), batch.size, _error(results)
        link = calls[0].batch(
            Phase(
                name=self._batch,
                start=times[0],
                stop=times[1],
                attributes={
                    **self._graph,
                    "stylewire.batch.size": size,
                    "stylewire.batch.requests": len(results),
                    "stylewire.batch.dispatch": batch.dispatch.value,
                    "stylewire.batch.wide": batch.exclusive,
                },
                links=[call.link for call in calls],
                error=error,
            )
        )
        for (request, _, _), rows, converted in results:
            if request.trace and not request.future.done():
                self.run(request.trace, times, size, error, link)
                if converted:
                    start, stop = converted
                    failed = _name(rows) if isinstance(rows, Exception) else ""
                    request.trace.phase(Phase(name="encode", start=start, stop=stop, attributes={}, error=failed))


def _error(results: Sequence[SliceResult]) -> str:
    """Name what made the batch fail; an error of a conversion is of its request only."""
    for _, rows, converted in results:
        if isinstance(rows, Exception) and not converted:
            return _name(rows)
    return ""


def _name(err: Exception) -> str:
    return type(err.__cause__ if isinstance(err, BatchError) and err.__cause__ else err).__name__
