"""The settings that bound a request."""

from typing import Protocol

from stylewire.server.front.preprocessing import photos


class Limits(photos.ImageLimits, Protocol):
    """The settings that bound a request."""

    @property
    def max_latents(self) -> int:
        """Latents, styles or keyframes."""
        ...

    @property
    def max_frames(self) -> int:
        """Frames of an interpolation."""
        ...

    @property
    def max_projection_steps(self) -> int:
        """Steps of a projection."""
        ...

    @property
    def max_message_bytes(self) -> int:
        """Size of a request or reply."""
        ...
