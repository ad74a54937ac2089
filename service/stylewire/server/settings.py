"""The server's settings, each declared once: flag > environment ``STYLEWIRE_*`` > default."""

import difflib
import os
import re
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, CliSettingsSource, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError

from stylewire.server.backends import Precision
from stylewire.server.machine import usable_cores

ENV_PREFIX = "STYLEWIRE_"
CLIENT_VARIABLES = frozenset({"STYLEWIRE_ADDRESS"})
"""Variables of the SDK and the command line, which may be set beside the server's."""
_SERVICE_LINK = re.compile(r"STYLEWIRE_(\w+_)?(SERVICE_(HOST|PORT\w*)|PORT_\d+_\w+)")
"""What Kubernetes sets in every pod of a namespace that has a Service named stylewire."""

Port = Annotated[int, Field(ge=0, le=65535)]
Positive = Annotated[int, Field(ge=1)]


class SettingError(ValueError):
    """A setting is wrong or unknown; the message names it and the nearest known one."""


def port_taken(address: str) -> SettingError:
    """Make the error of a gRPC port that somebody else has."""
    return SettingError(f"cannot listen on {address}; is another server there? choose another --port")


def metrics_port_taken(port: int, err: OSError) -> SettingError:
    """Make the error of a metrics port that cannot be had."""
    return SettingError(f"cannot listen on --metrics-port {port}: {err.strerror}")


class Settings(BaseSettings):
    """What a server is told when it starts."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        env_prefix=ENV_PREFIX, frozen=True, extra="forbid", env_ignore_empty=True, cli_kebab_case=True
    )

    models: Path | None = Field(None, description="Folder of model directories. Unset: the demo models.")
    default_model: str = Field("", description="Model of requests that name none. Unset: the only or the first one.")
    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 or [::] in a container.")
    port: Port = Field(8500, description="Port of gRPC; 0 takes a free one.")
    metrics_port: Port = Field(8501, description="Port of /metrics; 0 takes a free one.")

    backend: Literal["auto", "ncnn", "onnxruntime", "openvino", "tensorrt", "torchscript"] = Field(
        "auto", description="What runs the graphs; auto measures the installed ones and takes the fastest."
    )
    precision: Precision = Field(
        "parity",
        description="parity: float32, as the original. fast: bf16 on CPUs, fp16 on GPUs, if the self-check has 50 dB.",
    )
    device: str = Field("cpu", pattern=r"^(cpu|cuda(:\d+)?)$", description="cpu, cuda or cuda:N.")
    threads: int = Field(
        0,
        ge=0,
        description="Threads a graph computes with; 0 takes the cores this process may use, within its cgroup's quota.",
    )
    workers: Positive = Field(
        1, description="Processes on the port, each with its own models and its share of the threads. For tiny models."
    )
    instances: int = Field(
        0, ge=0, description="Batches of a graph that run at once, each with its share of the threads; 0 chooses."
    )
    max_batch_size: Positive = Field(
        8, description="Rows that run together at most. More raises throughput on a GPU and latency everywhere."
    )
    max_batch_seconds: float = Field(
        0.25, gt=0, description="Predicted run time of a batch at most; a row always runs. Bounds what others wait for."
    )
    max_batch_bytes: int = Field(
        0, ge=0, description="Memory that the batches of a graph may take; 0 takes half of what is free at the start."
    )
    max_queue_seconds: float = Field(
        10.0, gt=0, description="Predicted wait at which requests are refused. Below your clients' deadlines."
    )
    hang_seconds: float = Field(
        60.0, gt=0, description="Run time after which a batch counts as hung and health becomes NOT_SERVING."
    )

    max_message_bytes: Positive = Field(64 << 20, description="Largest message received or sent.")
    max_image_bytes: Positive = Field(16 << 20, description="Largest picture file in a request.")
    max_image_pixels: Positive = Field(32_000_000, description="Largest picture in a request, width times height.")
    max_latents: Positive = Field(64, description="Latents, styles or keyframes in a request.")
    max_frames: Positive = Field(3600, description="Frames of an interpolation.")
    look_ahead_frames: Positive = Field(8, description="Frames made before the reader of a stream has taken them.")

    drain_seconds: float = Field(
        5.0, ge=0, description="Keeps serving so long after SIGTERM, while load balancers notice. 0 on a desk."
    )
    grace_seconds: float = Field(30.0, ge=0, description="Time that calls in flight have to finish after that.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Least severity logged.")

    provenance: bool = Field(
        True,
        description="Write into every picture file that it is synthetic, with the model and the seed or code digest. "
        "false: where files must be small or nobody may learn the seed.",
    )

    @field_validator("threads", mode="after")
    @classmethod
    def _count_cores(cls, threads: int) -> int:
        return threads or usable_cores()

    @classmethod
    def load(cls, arguments: list[str]) -> Self:
        """Read flags and environment.

        Raises:
            SettingError: a setting is unknown or has a wrong value.
            SystemExit: help was asked for.
        """
        _refuse_unknown_variables(cls)
        _refuse_unknown_flags(cls, arguments)
        try:
            source = CliSettingsSource[Any](
                cls, cli_prog_name="stylewire serve", cli_parse_args=arguments, cli_exit_on_error=False
            )
            return cls(_cli_settings_source=source)
        except (ValidationError, SettingsError) as err:
            raise SettingError(_explain(err)) from err


def _refuse_unknown_variables(cls: type[BaseSettings]) -> None:
    known = {ENV_PREFIX + name.upper() for name in cls.model_fields}
    for variable in os.environ:
        if _SERVICE_LINK.fullmatch(variable):
            continue
        if variable.startswith(ENV_PREFIX) and variable not in known | CLIENT_VARIABLES:
            raise SettingError(f"{variable} is no setting{_nearest(variable, known)}")


def _refuse_unknown_flags(cls: type[BaseSettings], arguments: list[str]) -> None:
    known = {"--" + name.replace("_", "-") for name in cls.model_fields} | {"--help"}
    for argument in arguments:
        flag = argument.partition("=")[0]
        if flag.startswith("--") and flag not in known:
            raise SettingError(f"{flag} is no setting{_nearest(flag, known)}; see stylewire serve --help")


def _nearest(name: str, known: set[str]) -> str:
    match = difflib.get_close_matches(name, sorted(known), 1)
    return f"; did you mean {match[0]}?" if match else ""


def _explain(err: ValidationError | SettingsError) -> str:
    if isinstance(err, SettingsError):
        return str(err)
    return "; ".join(
        f"--{'.'.join(map(str, e['loc'])).replace('_', '-')} {e['input']!r}: {e['msg']}" for e in err.errors()
    )
