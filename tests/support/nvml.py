"""NVIDIA's management library without NVIDIA: a GPU with 3 of 16 GB in use and a quarter of its time busy."""

from types import SimpleNamespace


class FakeNvml:
    """Stands where the module ``pynvml`` would.

    Attributes:
        used: bytes in use.
        opened: whether it was opened.
        asked: the numbers and names of the GPUs that were asked for.
    """

    class NVMLError(Exception):
        """What the module raises."""

    def __init__(self, *, refuses=()) -> None:
        self.used, self.opened, self._refuses = 3e9, False, refuses
        self.asked: list[int | str] = []

    def nvmlInit(self) -> None:  # noqa: N802 - NVIDIA's names
        self._refuse("nvmlInit")
        self.opened = True

    def nvmlDeviceGetHandleByIndex(self, index):  # noqa: N802
        self.asked.append(index)
        return index

    def nvmlDeviceGetHandleByUUID(self, uuid):  # noqa: N802
        self.asked.append(uuid)
        return uuid

    def nvmlDeviceGetMemoryInfo(self, handle):  # noqa: N802
        self._refuse("nvmlDeviceGetMemoryInfo")
        return SimpleNamespace(used=self.used, total=16e9)

    def nvmlDeviceGetUtilizationRates(self, handle):  # noqa: N802
        self._refuse("nvmlDeviceGetUtilizationRates")
        return SimpleNamespace(gpu=25)

    def _refuse(self, name) -> None:
        if name in self._refuses:
            raise self.NVMLError(f"{name} is refused")
