"""When a failed call is retried: by gRPC's service config, and by ``Attempts`` where gRPC cannot be configured to."""

import random
import time
from typing import Any

import grpc

from stylewire import pb
from stylewire.status import pushback_seconds

_ATTEMPTS = 4
_PAUSES_SECONDS = (0.2, 0.4, 0.8)

SERVICE_CONFIG: dict[str, Any] = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [
        {
            # No streams: with a policy, one whose server is killed before its first message hangs, beyond its deadline
            # too (https://github.com/grpc/grpc/issues/41036; seen with 1.76 and 1.85). The clients retry them.
            "name": [
                *({"service": pb.STYLEGAN_SERVICE, "method": name} for name in ("Generate", "Invert", "MixStyles")),
                {"service": pb.MODEL_SERVICE},
            ],
            "retryPolicy": {
                "maxAttempts": _ATTEMPTS,
                "initialBackoff": "0.2s",
                "maxBackoff": "2s",
                "backoffMultiplier": 2,
                # RESOURCE_EXHAUSTED is no such code: gRPC would also repeat what has no retry time, such as a
                # request that is too large, and wait for one that lies beyond the deadline. ``Attempts`` does it.
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
    # A failed attempt costs 1, a success returns 0.1; below half nothing is retried. Room for a server that dies
    # under hundreds of calls, and an end to retries where all servers are away.
    "retryThrottling": {"maxTokens": 1000, "tokenRatio": 0.1},
}


class Attempts:
    """The retries of one call that gRPC does not do.

    A full server returns the time of the next attempt: the call is retried then, if that is before the deadline.
    Without a time it is not retried, since nothing is known but that it is too much.

    Args:
        timeout: of all attempts together, in seconds.
        stream: whether this is a stream, which gRPC does not retry when servers are away.
    """

    def __init__(self, timeout: float, *, stream: bool = False) -> None:
        self._until = time.monotonic() + timeout
        self._pauses = iter(_PAUSES_SECONDS)
        self._stream = stream

    @property
    def timeout(self) -> float:
        """Seconds left for the next attempt."""
        return max(0.0, self._until - time.monotonic())

    def pause(self, error: grpc.RpcError) -> float:
        """Return the seconds to wait before the next attempt.

        Raises:
            grpc.RpcError: the error itself, if there is no next attempt.
        """
        usual, wanted = next(self._pauses, None), pushback_seconds(error)
        if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
            pause = wanted
        elif error.code() is grpc.StatusCode.UNAVAILABLE and self._stream:
            pause = usual if wanted is None else wanted
        else:
            raise error
        if usual is None or pause is None or not 0 <= pause <= self.timeout:
            raise error
        return spread(pause)


def spread(pause: float) -> float:
    """Lengthen a pause by up to a fifth, so that clients do not retry all at once, and none too early."""
    return pause * random.uniform(1.0, 1.2)  # noqa: S311 - no secret
