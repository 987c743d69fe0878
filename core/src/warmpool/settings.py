"""Every setting of the services, in groups; each states its unit, its default and what it does.

Read from the environment: group and field joined by two underscores behind `WARMPOOL_`, as in
`WARMPOOL_QUEUE__MAX_WAIT_SECONDS=5`. Secrets are files, so that none stands in an environment
or an argument list; connection strings, which hold passwords, may be files beside them.
docs/reference/settings.md is generated from here.
"""

from pathlib import Path
from typing import Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from warmpool.errors import PlatformError
from warmpool.protocol import Limits


class Group(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RedisSettings(Group):
    """Where the registry and the audit stream live."""

    url: str = Field(
        "redis://127.0.0.1:6379/0",
        pattern=r"^(rediss?|unix)://",
        description="Redis 6.2 or newer, `redis://`, `rediss://` or `unix://`. Where the variable is not set, the file "
        "`redis.url` in `secrets.path` says it, if there.",
    )
    timeout_seconds: float = Field(2.0, gt=0, description="Of one command; past it the caller gets 503.")


class PostgresSettings(Group):
    """Where catalogue, API keys and execution records live."""

    dsn: str = Field(
        "postgresql://127.0.0.1/warmpool",
        description="PostgreSQL 16 or newer with pgvector. Where the variable is not set, the file `postgres.dsn` in "
        "`secrets.path` says it, if there.",
    )
    pool_size: int = Field(4, ge=1, description="Connections a process holds at most.")
    timeout_seconds: float = Field(5.0, gt=0, description="Of one statement.")


class SecretSettings(Group):
    """The three keys. Each is a file in one folder, at least 32 bytes, made once by `warmpool secrets create`."""

    path: Path = Field(
        Path("/etc/warmpool/secrets"),
        description="Folder with `pool.key` (gateway and supervisor), `grant.key` (gateway and tool server), "
        "`pepper.key` (API keys); and, where the model's API has one, `model.key`.",
    )

    def read(self, name: str) -> bytes:
        """The bytes of `<name>.key`. Raises ValueError, naming the file, where it is absent or under 32 bytes."""
        file = self.path / f"{name}.key"
        try:
            key = file.read_bytes().strip()
        except OSError as fault:
            raise ValueError(
                f"secrets.path: cannot read {file}: {fault.strerror}; run `warmpool secrets create`"
            ) from fault
        if len(key) < 32:
            raise ValueError(
                f"secrets.path: {file} holds {len(key)} bytes, 32 are the least; run `warmpool secrets create`"
            )
        return key


class ApiSettings(Group):
    """The gateway's HTTP API."""

    max_body_bytes: int = Field(1024 * 1024, ge=1024, description="Of a request; a larger one gets 413.")
    body_timeout_seconds: float = Field(10.0, gt=0, description="For a request's body to arrive; past it 408.")


class StopSettings(Group):
    """How a gateway or a tool server ends on SIGTERM. Allow it 10 s beyond both before it is killed."""

    linger_seconds: float = Field(
        5.0,
        ge=0,
        description="It says that it is not ready and serves on, until whoever sends it requests has heard of it.",
    )
    grace_seconds: int = Field(
        45,
        ge=1,
        description="Then it takes no new connection and ends the requests that it has; past it their programs are "
        "cancelled. A program that has to wait first takes `queue.max_wait_seconds` and `pool.limits.wall_seconds`.",
    )


class QueueSettings(Group):
    """How callers wait for a sandbox."""

    max_wait_seconds: float = Field(
        10.0, gt=0, description="How long a caller may wait for a pod; past it 503 with Retry-After."
    )
    max_waiting: int = Field(4096, ge=1, description="Callers waiting in one gateway; one more gets 503 at once.")
    tick_seconds: float = Field(0.5, gt=0, description="Fallback look for an idle pod when no wake-up came.")
    tenant_quota: int = Field(
        1000, ge=1, description="Executions a tenant may run or have waiting at once; one more gets 429."
    )


class PoolSettings(Group):
    """The pool of sandboxes."""

    name: str = Field(
        "default",
        pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
        description="Also the hash tag of its keys in Redis.",
    )
    heartbeat_seconds: float = Field(15.0, gt=0, description="A pod not seen alive for this long is not handed out.")
    lease_grace_seconds: float = Field(10.0, gt=0, description="Added to an execution's wall limit for its lease.")
    max_executions: int = Field(
        1000, ge=1, description="Executions a pod serves before it is replaced; 1 is single use."
    )
    max_age_seconds: float = Field(3600.0, gt=0, description="Age at which a pod is replaced, one after another.")
    limits: Limits = Field(default_factory=Limits, description="Of each execution; a request may lower them.")
    tcp_ports: tuple[int, ...] = Field((), description="What its sandboxes let programs connect to; the model is told.")


class ToolSettings(Group):
    """The tool server, as gateways see it."""

    url: str = Field("http://127.0.0.1:8081", description="Base URL of the tool server.")
    timeout_seconds: float = Field(10.0, gt=0, description="Of one tool call; past it the program gets a ToolError.")
    max_calls: int = Field(256, ge=1, description="Call budget of one execution's grant.")
    max_bytes: int = Field(32 * 1024 * 1024, ge=1024, description="Response-byte budget of one execution's grant.")


class ModelSettings(Group):
    """The language model behind /v1/chat: any OpenAI-compatible API."""

    base_url: str | None = Field(None, description="None is the openai package's default.")
    name: str = Field("warmpool-stand-in", description="The model to ask for.")
    timeout_seconds: float = Field(20.0, gt=0, description="Of one completion, retry included.")
    max_retries: int = Field(1, ge=0, description="On 429, 5xx and lost connections.")


class EmbeddingSettings(Group):
    """Vectors of the product search."""

    model: str = Field(
        "hashed-384",
        description="`hashed-384` computes them here, without synonyms; any other name asks /v1/embeddings.",
    )
    base_url: str | None = Field(None, description="Of the embeddings API; None is the openai package's default.")
    dimensions: int = Field(384, ge=8, le=4000, description="Must match what the catalogue was imported with.")


class AuditSettings(Group):
    """The way of execution records from Redis to Postgres."""

    batch: int = Field(500, ge=1, description="Records written to Postgres at once.")
    linger_seconds: float = Field(0.2, gt=0, description="How long a record may wait for company.")
    max_backlog: int = Field(
        200_000,
        ge=1,
        description="Records waiting in Redis at which new executions get 503: none is dropped.",
    )
    retention_days: int = Field(30, ge=1, description="Days after which a day's records are dropped.")


IN_FILES: Final = (("redis", "url"), ("postgres", "dsn"))
"""The settings that may be files in `secrets.path`: group and field, joined by a dot in the file's name."""


class _Files(PydanticBaseSettingsSource):
    """Reads `IN_FILES`, for what no source before this one has said."""

    def __call__(self) -> dict[str, Any]:
        folder = self._folder()
        found: dict[str, Any] = {}
        for group, field in IN_FILES:
            value = None if self._is_said(group, field) else _content(folder / f"{group}.{field}")
            if value is not None:
                found[group] = {field: value}
        return found

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        raise NotImplementedError  # of the base class's own `__call__`

    def _folder(self) -> Path:
        said = self.current_state.get("secrets", {})
        path = said.get("path") if isinstance(said, dict) else said.path
        return SecretSettings().path if path is None else Path(path)

    def _is_said(self, group: str, field: str) -> bool:
        said = self.current_state.get(group, {})
        return not isinstance(said, dict) or field in said


def _content(file: Path) -> str | None:
    """None where there is no such file. Raises SettingsError, naming it, where it says nothing."""
    try:
        text = file.read_text().strip()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as fault:
        raise SettingsError(f"cannot read {file}: {fault.strerror}") from fault
    except UnicodeDecodeError as fault:
        raise SettingsError(f"{file} is not text") from fault
    if not text:
        raise SettingsError(f"{file} is empty")
    return text


class OperatorSettings(Group):
    """The operator: of several one acts, whoever holds the Lease, and the others stand by."""

    namespace: str = Field("warmpool-sandboxes", description="Namespace of the SandboxPools and of their pods.")
    identity: str = Field("operator", description="This operator's name in the Lease: its pod's.")
    lease_namespace: str = Field("warmpool", description="Namespace of the Lease.")
    lease_name: str = Field("warmpool-operator", description="Name of the Lease.")
    port: int = Field(8080, ge=0, le=65535, description="Of /healthz and /metrics; 0 takes a free one.")


class Settings(BaseSettings):
    """All settings of a process."""

    model_config = SettingsConfigDict(env_prefix="WARMPOOL_", env_nested_delimiter="__", extra="forbid", frozen=True)

    redis: RedisSettings = RedisSettings()
    postgres: PostgresSettings = PostgresSettings()
    secrets: SecretSettings = SecretSettings()
    api: ApiSettings = ApiSettings()
    stop: StopSettings = StopSettings()
    pool: PoolSettings = PoolSettings()
    queue: QueueSettings = QueueSettings()
    tools: ToolSettings = ToolSettings()
    model: ModelSettings = ModelSettings()
    embedding: EmbeddingSettings = EmbeddingSettings()
    audit: AuditSettings = AuditSettings()
    operator: OperatorSettings = OperatorSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The first that says something wins."""
        return init_settings, env_settings, _Files(settings_cls)

    @classmethod
    def of_environment(cls) -> Self:
        """Raises PlatformError with a message that names every setting which makes no sense, for whoever set it."""
        try:
            return cls()
        except ValidationError as fault:  # its own text repeats the values, and one may hold a password
            errors = fault.errors(include_url=False, include_context=False, include_input=False)
            wrong = (f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in errors)
            raise PlatformError("; ".join(wrong)) from None
        except SettingsError as fault:
            raise PlatformError(f"the settings: {fault}") from None
