"""What bounds the batches of one graph."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLimits:
    """What bounds batches, the queue, and the threads that run them.

    Attributes:
        max_batch_size: rows in the largest batch.
        max_batch_seconds: predicted run time of the largest batch; one row always runs.
        max_queue_seconds: predicted wait at which requests are refused.
        instances: batches that run at once.
        exclusive: whether a batch can have the whole device for itself, to be through sooner.
        yields: whether the threads give way to the event loop; where both share one core, a flood of refusals must not
            keep them from working.
    """

    max_batch_size: int
    max_batch_seconds: float
    max_queue_seconds: float
    instances: int = 1
    exclusive: bool = False
    yields: bool = False
