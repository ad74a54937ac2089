"""The schema of the settings, declared once: name, type, range, default, and how to choose.

Flags, variables, keys of the configuration file, the help and docs/settings.md are all made from it by ``settings.py``.
A class is a group of the help.
"""

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, Field, SecretStr, field_validator

from stylewire.server.host import usable_cores

Port = Annotated[int, Field(ge=0, le=65535)]
Positive = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(ge=0)]
Precision: TypeAlias = Literal["parity", "fast"]
_ADDRESS = r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}"


class Listening(BaseModel):
    """Listening."""

    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 or [::] in a container.")
    port: Port = Field(8500, description="Port of gRPC; 0 takes a free one.")
    metrics_port: Port = Field(8501, description="Port of /metrics; 0 takes a free one. Never has TLS or tokens.")
    reflection: bool = Field(
        True, description="Answer gRPC reflection, as grpcurl and gateways ask; --no-reflection hides what is here."
    )
    admin_address: str = Field(
        "",
        description="Where models are loaded and unloaded: unix:/run/stylewire/admin.sock (for its own user alone) or "
        "a port of this machine, 127.0.0.1:8502. Never where callers reach it. Unset: nowhere.",
    )
    tls_certificate: Path | None = Field(
        None, description="PEM file, the server's certificate and its chain. Changes count without a restart."
    )
    tls_key: Path | None = Field(None, description="PEM file, the certificate's private key.")
    tls_client_ca: Path | None = Field(
        None, description="PEM file, authorities that must have signed a client's certificate (mutual TLS)."
    )


class Models(BaseModel):
    """Models."""

    models: Path | None = Field(None, description="Folder of model directories. Unset: the demo models.")
    default_model: str = Field("", description="Model of requests that name none. Unset: the only or the first one.")
    model_versions: Positive = Field(1, description="Newest versions of a model that are served at once.")
    watch_seconds: Seconds = Field(
        0, description="Scans the models folder so often and follows its changes; 0 does not scan."
    )


class Running(BaseModel):
    """Running graphs."""

    backend: Literal["auto", "ncnn", "onnxruntime", "openvino", "tensorrt", "torchscript", "triton"] = Field(
        "auto",
        description="What runs the graphs; auto measures the installed ones and takes the fastest, but never triton.",
    )
    triton_url: str = Field(
        "",
        pattern=rf"^({_ADDRESS}(,{_ADDRESS})*)?$",
        description="HOST:PORT of a Triton's gRPC, or several with commas, for --backend triton. A name with several "
        "addresses stands for as many servers.",
    )
    triton_tls_ca: Path | None = Field(
        None, description="PEM file, authorities that signed Triton's certificate. Unset: no TLS on the way to it."
    )
    triton_shared_memory: Literal["auto", "off"] = Field(
        "auto", description="auto hands tensors to a Triton on this machine over in /dev/shm, if both see the same."
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

    @field_validator("threads", mode="after")
    @classmethod
    def _count_cores(cls, threads: int) -> int:
        return threads or usable_cores()


class RequestLimits(BaseModel):
    """Limits of a request."""

    max_message_bytes: Positive = Field(64 << 20, description="Largest message received or sent.")
    max_image_bytes: Positive = Field(16 << 20, description="Largest image file in a request.")
    max_image_pixels: Positive = Field(32_000_000, description="Largest image in a request, width times height.")
    max_latents: Positive = Field(64, description="Latents, styles or keyframes in a request.")
    max_frames: Positive = Field(3600, description="Frames of an interpolation.")
    look_ahead_frames: Positive = Field(8, description="Frames made before the reader of a stream has taken them.")
    max_videos: Positive = Field(
        16, description="Videos being made at once; more are refused. One of 1024 px takes about 100 MB."
    )


class Projections(BaseModel):
    """Projections: codes that are optimized (Project, refine_step_count)."""

    max_projections: int = Field(
        1, ge=0, description="Projections that run at once, each in a process of its own; 0 refuses them all."
    )
    max_waiting_projections: int = Field(4, ge=0, description="Projections that may wait for that.")
    max_projection_steps: Positive = Field(1000, description="Steps of a projection.")
    projection_threads: Positive = Field(
        1, description="Threads that a projection computes with. More is faster, and takes from the other calls."
    )
    projection_niceness: int = Field(
        10, ge=0, le=19, description="How much less urgent projections are than other calls. 19: what is left over."
    )
    projection_device: str = Field(
        "cpu", pattern=r"^(cpu|cuda(:\d+)?)$", description="cpu, cuda or cuda:N; better not the GPU of the other calls."
    )


class Images(BaseModel):
    """Images."""

    provenance: bool = Field(
        True,
        description="Write into every image file that it is synthetic, with the model and the seed or code digest; "
        "--no-provenance where files must be small or nobody may learn the seed.",
    )


class FaceSearch(BaseModel):
    """Search for faces."""

    landmark_model: Path | None = Field(
        None,
        description="dlib's model of 68 landmarks, for alignment FACE without landmarks. Unset: that of the package "
        "face-recognition-models. Read its licence first: docs/alignment.md.",
    )
    face_search_px: Annotated[int, Field(ge=128, le=8192)] = Field(
        1600,
        description="Longest side at which images are searched. Faces under a twentieth of it are missed in larger "
        "images; time grows with its square.",
    )
    face_searches: Positive = Field(
        1, description="Images that are searched at once, each by a process of its own with a core and 200 MB."
    )


class Clients(BaseModel):
    """Clients and their connections."""

    tokens_file: Path | None = Field(
        None,
        description="File of clients, a line each: NAME TOKEN, or NAME sha256:HEX. Calls then need 'authorization: "
        "Bearer TOKEN'; health does not. Changes count within a second.",
    )
    max_calls_per_second: float = Field(
        0,
        ge=0,
        description="Rate of a client's calls, with bursts of a second; 0: no limit. Each of --workers counts its own.",
    )
    max_calls_per_client: int = Field(0, ge=0, description="Calls of one client in flight at once; 0: no limit.")
    max_open_calls: Positive = Field(
        10_000, description="Calls of all clients in flight at once; more are refused. An open call takes about 20 kB."
    )
    max_concurrent_streams: int = Field(
        0,
        ge=0,
        description="Calls in flight at once on a connection; 0: no limit. gRPC's clients wait or get UNAVAILABLE; "
        "--max-open-calls says more.",
    )
    max_connection_idle_seconds: Seconds = Field(0, description="Closes connections without calls; 0: never.")
    max_connection_age_seconds: Seconds = Field(
        0, description="Asks clients to connect anew; 0: never. 300 behind a balancer of connections, to spread load."
    )
    max_connection_age_grace_seconds: Seconds = Field(
        600, description="Time that calls of a connection of that age have to finish; 0: no limit."
    )
    keepalive_seconds: Annotated[float, Field(ge=1)] = Field(
        60, description="Silence after which a client is asked whether it is there."
    )
    keepalive_timeout_seconds: Annotated[float, Field(ge=0.1)] = Field(
        20, description="Time for the answer; without it the connection is closed and its calls are cancelled."
    )
    min_ping_seconds: Seconds = Field(
        30, description="Clients that ask more often whether the server is there are cut off."
    )


class Stopping(BaseModel):
    """Stopping."""

    drain_seconds: Seconds = Field(
        5.0, description="Keeps serving so long after SIGTERM, while load balancers notice. 0 on a desk."
    )
    grace_seconds: Seconds = Field(30.0, description="Time that calls in flight have to finish after that.")


class Logs(BaseModel):
    """Logs."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Least severity logged.")
    log_format: Literal["text", "json"] = Field("text", description="json: one object a line, for collectors of logs.")


class Traces(BaseModel):
    """Traces."""

    otlp_endpoint: str = Field(
        "",
        pattern=r"^(https?://[^/@\s]+/?)?$",
        description="Collector that gets spans by OTLP over gRPC, such as http://collector:4317. Unset: no tracing.",
    )
    otlp_headers: SecretStr = Field(
        SecretStr(""),
        description="Metadata for the collector: api-key=SECRET,name=value, percent-encoded. Others of the machine see "
        "flags: better a variable.",
    )
    trace_sample_ratio: float = Field(
        1.0, ge=0, le=1, description="Share of calls that are traced, of those whose caller has not decided it."
    )


SCHEMA: tuple[type[BaseModel], ...] = (
    Listening,
    Models,
    Running,
    RequestLimits,
    Projections,
    Images,
    FaceSearch,
    Clients,
    Stopping,
    Logs,
    Traces,
)
