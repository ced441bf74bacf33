"""Settings: ``RLM_`` variables from the environment or a file; only this module reads them.

The file is ``.env`` in the current folder, or the one that ``RLM_ENV_FILE`` names. The current folder may be
anybody's: unless it is named, its file may not say where texts and keys go, or what confines model-written
code. A key of the environment never goes to an address that only a file gives.
"""

import difflib
import json
import os
import re
from base64 import b64decode
from collections.abc import Iterable, Iterator, Set
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, get_args
from urllib.parse import urlsplit

import platformdirs
from pydantic import AliasChoices, BeforeValidator, Field, SecretStr, ValidationError, field_validator
from pydantic_core import from_json
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    NoDecode,
    SettingsConfigDict,
)

from rlm_dist.errors import SettingsError
from rlm_dist.schema import MOST_DEPTH, ExtraBody, PromptFamily, Tier

SandboxLevel = Literal["namespaces", "landlock", "seccomp", "off"]


# Not settings: docker-compose.yml, the tests, and a process that ours start with one of them read these.
_NOT_SETTINGS = frozenset(
    {
        "RLM_CHAOS_DIE_AT",
        "RLM_CHAOS_SEED",
        "RLM_ENV_FILE",
        "RLM_FLOWER_PORT",
        "RLM_LIFELINE_FD",
        "RLM_READY_FD",
        "RLM_REDIS_PASSWORD",
        "RLM_SUB_GRACE",
    }
)
_OF_TESTS = "RLM_TEST_"
_ENV_FILE = "RLM_ENV_FILE"
# Where texts and keys go, and what confines model-written code: not for a file that happens to be there.
_NOT_FROM_FOLDER = frozenset(
    {
        *("RLM_API_URL", "RLM_API_KEY", "RLM_SUB_API_URL", "RLM_SUB_API_KEY", "OPENAI_API_KEY"),
        *("RLM_EXTRA_HEADERS", "RLM_SUB_EXTRA_HEADERS", "RLM_ENDPOINTS", "RLM_REDIS_URL", "RLM_BLOB_URL"),
        *("RLM_HOME", "RLM_SANDBOX", "RLM_SANDBOX_MIN", "RLM_SANDBOX_PACKAGES", "RLM_WEBHOOK_SECRET"),
        *("RLM_VALIDATORS", "RLM_TOOLS", "RLM_MCP_SERVERS", "RLM_CONTEXT_URLS", "RLM_WEBHOOK_PRIVATE"),
        *("RLM_METRICS_ADDRESS", "RLM_OTEL_CONTENT"),
    }
)
# By address: what is sent to it alone, and the keys that are sent if it has none of its own.
_SENT_TO = (
    ("RLM_API_URL", ("RLM_API_KEY", "RLM_EXTRA_HEADERS"), ("OPENAI_API_KEY",)),
    (
        "RLM_SUB_API_URL",
        ("RLM_SUB_API_KEY", "RLM_SUB_EXTRA_HEADERS"),
        ("RLM_API_KEY", "OPENAI_API_KEY"),
    ),
)
_URL_BEGINNING = re.compile(r"[a-z][a-z0-9+.-]*://")
_LEAST_SECRET_BYTES = 16
_WINDOW = re.compile(r".+=[1-9][0-9]{2,9}")
_TOOL = re.compile(r"([^\W\d]\w*=)?[\w.]+:[\w.]+")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


def _object(value: object) -> object:
    return from_json(value, allow_inf_nan=False) if isinstance(value, str) else value


Temperature = Annotated[float | None, Field(ge=0, allow_inf_nan=False)]
OutputTokens = Annotated[int | None, Field(ge=1, le=2**53)]
Effort = Annotated[str | None, Field(min_length=1)]
Body = Annotated[ExtraBody | None, NoDecode, BeforeValidator(_object)]


def _default_home() -> Path:
    return Path(platformdirs.user_data_dir("rlm-dist"))


class Settings(BaseSettings):
    """All settings of one process, frozen; units are in the names."""

    model_config = SettingsConfigDict(
        env_prefix="RLM_",
        env_file=None,  # see ``load_settings``
        extra="ignore",
        frozen=True,
        populate_by_name=True,
        env_ignore_empty=True,
    )

    api_url: str = "http://localhost:8080/v1"
    api_key: SecretStr | None = Field(
        default=None, validation_alias=AliasChoices("RLM_API_KEY", "OPENAI_API_KEY")
    )
    sub_api_url: str | None = None
    sub_api_key: SecretStr | None = None
    model: str = Field(default="auto", min_length=1)
    sub_model: str = Field(default="auto", min_length=1)
    sub_models: Annotated[tuple[str, ...], NoDecode] = ()
    validators: Annotated[tuple[str, ...], NoDecode] = ()
    temperature: Temperature = None
    sub_temperature: Temperature = None
    max_output_tokens: OutputTokens = None
    sub_max_output_tokens: OutputTokens = None
    reasoning_effort: Effort = None
    sub_reasoning_effort: Effort = None
    extra_body: Body = None
    sub_extra_body: Body = None
    tier: Tier | None = None
    sub_tier: Tier | None = None
    extra_headers: SecretStr | None = None
    sub_extra_headers: SecretStr | None = None
    keep_thoughts: bool = False
    endpoints: Path | None = None
    redis_url: str | None = None
    blob_url: str | None = None
    context_urls: Annotated[tuple[str, ...], NoDecode] = ()
    max_context_bytes: int = Field(default=4 * 1024**3, ge=1)
    home: Path = Field(default_factory=_default_home)
    sandbox: SandboxLevel | Literal["auto"] = "auto"
    sandbox_min: SandboxLevel = "seccomp"
    sandbox_packages: Annotated[tuple[str, ...], NoDecode] = ()
    tools: Annotated[tuple[str, ...], NoDecode] = ()
    tool_timeout_s: float = Field(default=60, gt=0, allow_inf_nan=False)
    mcp_servers: Path | None = None
    max_iterations: int = Field(default=20, ge=1)
    max_seconds: float = Field(default=24 * 3600, gt=0, allow_inf_nan=False)
    max_sub_calls: int = Field(default=100_000, ge=0, le=2**53)
    max_job_bytes: int = Field(default=256 * 2**20, ge=2**20)
    root_concurrency: int = Field(default=64, ge=1)
    root_depth: int = Field(default=0, ge=0, lt=MOST_DEPTH)
    max_depth: int = Field(default=1, ge=1, le=MOST_DEPTH)
    sub_concurrency: int = Field(default=256, ge=1)
    max_in_flight: int | None = Field(default=None, ge=1)
    max_requests_per_min: int | None = Field(default=None, ge=1)
    max_tokens_per_min: int | None = Field(default=None, ge=1)
    cache_ttl_s: int = Field(default=24 * 3600, ge=1)
    call_timeout_s: float = Field(default=600, gt=0)
    outage_s: float = Field(default=4 * 3600, gt=0)
    code_timeout_s: float = Field(default=120, gt=0)
    max_output_chars: int = Field(default=20_000, ge=200)
    retention_s: int = Field(default=7 * 24 * 3600, ge=60)
    prompts: PromptFamily | Path = "coder"
    model_windows: Annotated[tuple[str, ...], NoDecode] = ()
    early_final: Literal["take", "refuse"] = "take"
    ask_at_limit: bool = False
    prices: Path | None = None
    webhook_secret: SecretStr | None = None
    webhook_private: bool = False
    metrics_port: int | None = Field(default=None, ge=0, le=65535)
    metrics_address: str = Field(default="127.0.0.1", min_length=1)
    broker_prefix: str = ""
    otel_content: bool = False
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["console", "json"] = "console"

    @field_validator("api_url", "sub_api_url")
    @classmethod
    def _http(cls, value: str | None) -> str | None:
        return http_url(value) if value else value

    @field_validator("extra_headers", "sub_extra_headers")
    @classmethod
    def _sendable(cls, value: SecretStr | None) -> SecretStr | None:
        read_headers(value)
        return value

    @field_validator("redis_url")
    @classmethod
    def _redis(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("must be a redis://, rediss:// or unix:// address")
        return value

    @field_validator("webhook_secret")
    @classmethod
    def _key(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return value
        key = value.get_secret_value().encode()
        if key.startswith(b"whsec_"):
            try:
                key = b64decode(key.removeprefix(b"whsec_"), validate=True)
            except ValueError:
                raise ValueError("the part after whsec_ must be base64") from None
        if len(key) < _LEAST_SECRET_BYTES:
            raise ValueError(f"must have at least {_LEAST_SECRET_BYTES} bytes, after base64 is decoded")
        return value

    @field_validator("context_urls", mode="before")
    @classmethod
    def _beginnings(cls, value: str | Iterable[str]) -> tuple[str, ...]:
        urls = _split(value)
        if not all(_URL_BEGINNING.match(url) and "::" not in url for url in urls):
            raise ValueError("must be beginnings of URLs, such as s3://my-bucket/,https://data.example.org/")
        if any(url.startswith(("file:", "local:")) for url in urls):
            raise ValueError("must not be of files on this machine: --context-root is for these")
        return urls

    @field_validator("sub_models", mode="before")
    @classmethod
    def _models(cls, value: str | Iterable[str]) -> tuple[str, ...]:
        names = _split(value)
        if not all(names):
            raise ValueError("must be names of models, such as gpt-5-mini,gpt-5")
        return names

    @field_validator("validators", mode="before")
    @classmethod
    def _validators(cls, value: str | Iterable[str]) -> tuple[str, ...]:
        paths = _split(value)
        if not all(module and function for module, _, function in (path.partition(":") for path in paths)):
            raise ValueError("must be import paths such as package.module:function,package.module:other")
        return paths

    @field_validator("prompts", mode="before")
    @classmethod
    def _family_or_file(cls, value: object) -> object:
        if isinstance(value, str) and value not in get_args(PromptFamily):
            if Path(value).suffix not in (".json", ".toml"):
                names = ", ".join(get_args(PromptFamily))
                raise ValueError(f"must be one of {names}, or the path of a .json or .toml file")
            return Path(value).expanduser().absolute()
        return value

    @field_validator("model_windows", mode="before")
    @classmethod
    def _windows(cls, value: str | Iterable[str]) -> tuple[str, ...]:
        pairs = _split(value)
        if not all(_WINDOW.fullmatch(pair) for pair in pairs):
            raise ValueError(
                "must be models with the tokens of their windows, such as gpt-5=400000,local=8192"
            )
        return pairs

    @field_validator("sandbox_packages", mode="before")
    @classmethod
    def _names(cls, value: str | Iterable[str]) -> tuple[str, ...]:
        names = _split(value)
        if not all(name.isidentifier() for name in names):
            raise ValueError("must be names of packages as they are imported, such as numpy,pandas")
        return names

    @field_validator("tools", mode="before")
    @classmethod
    def _functions(cls, value: str | Iterable[str]) -> tuple[str, ...]:
        paths = _split(value)
        if not all(_TOOL.fullmatch(path) for path in paths):
            raise ValueError("must be functions, such as package.module:function,name=package.module:other")
        return paths

    @field_validator("blob_url")
    @classmethod
    def _absolute_folder(cls, value: str | None) -> str | None:
        is_folder = value is not None and value != "redis" and "://" not in value
        return str(Path(value or "").expanduser().absolute()) if is_folder else value

    @field_validator("home", "endpoints", "prices", "mcp_servers")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return value.expanduser().absolute() if value else value

    @property
    def prompt_family(self) -> PromptFamily:
        """The family of jobs that are submitted with these settings."""
        return "file" if isinstance(self.prompts, Path) else self.prompts

    def with_prompts(self, family: PromptFamily | None) -> "Settings":
        """These settings with another prompt family; a path stays if ``file`` is asked for."""
        same = family is None or family == self.prompt_family
        return self if same else self.model_copy(update={"prompts": family})

    @property
    def windows(self) -> dict[str, int]:
        """The tokens of models' windows, by name."""
        pairs = (pair.rpartition("=") for pair in self.model_windows)
        return {name: int(tokens) for name, _, tokens in pairs}

    @property
    def sub_url(self) -> str:
        """The endpoint of the sub model."""
        return self.sub_api_url or self.api_url

    @property
    def sub_key(self) -> SecretStr | None:
        """The key for the endpoint of the sub model."""
        return self.sub_api_key or self.api_key

    @property
    def headers(self) -> dict[str, str]:
        """Extra headers for the endpoint of the root model."""
        return read_headers(self.extra_headers)

    @property
    def sub_headers(self) -> dict[str, str]:
        """Extra headers for the sub model's endpoint: by default the root's, if the endpoint is the same."""
        same = self.sub_extra_headers is None and self.sub_url == self.api_url
        return read_headers(self.extra_headers if same else self.sub_extra_headers)

    def variables(self) -> dict[str, str]:
        """These settings as environment variables for a child process, with keys in clear text."""
        values = ((name, getattr(self, name)) for name in type(self).model_fields)
        return {f"RLM_{name.upper()}": _spelled(value) for name, value in values if value is not None}


def _split(value: str | Iterable[str]) -> tuple[str, ...]:
    return tuple(name.strip() for name in (value.split(",") if isinstance(value, str) else value))


def _spelled(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(value)
    if isinstance(value, dict):
        return json.dumps(value)
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


def http_url(value: str) -> str:
    """The address of an endpoint without a final slash; ValueError if it cannot be one."""
    if not value.startswith(("http://", "https://")):
        raise ValueError("must be an http:// or https:// address")
    if "@" in urlsplit(value).netloc:
        raise ValueError("must contain no user or password; a key has its own variable")
    return value.rstrip("/")


def read_headers(spelled: SecretStr | None) -> dict[str, str]:
    """The headers in a JSON object; ValueError, which shows none of the text, if it is anything else."""
    headers = from_json(spelled.get_secret_value()) if spelled else {}
    if not isinstance(headers, dict) or not all(_is_header(*header) for header in headers.items()):
        raise ValueError("must be a JSON object that maps header names to values")
    return headers


def _is_header(name: str, value: object) -> bool:
    fits = isinstance(value, str) and value.isascii() and value.isprintable()
    return fits and _HEADER_NAME.fullmatch(name) is not None


def load_settings(**overrides: object) -> Settings:
    """Read the environment and the file; ``overrides`` (field names) win.

    Raises:
        SettingsError: it names every variable that has a bad value, or that its file may not set. It never
            shows a key.
    """
    lines = _lines_of_file()
    given = {f"RLM_{field.upper()}" for field in overrides} | {
        name for name, value in os.environ.items() if value
    }
    problems = [*_untrusted(lines), *_sent_elsewhere(lines.keys(), given)]
    if problems:
        raise SettingsError(tuple(problems))
    if "RLM_API_KEY" in lines.keys() - given:  # or else OPENAI_API_KEY of the environment would win
        overrides = {"api_key": SecretStr(lines["RLM_API_KEY"]), **overrides}
    try:
        # pydantic checks each value itself
        return Settings(_env_file=_env_file() if lines else None, **overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        raise SettingsError(tuple(_problem(item["loc"], item["msg"]) for item in error.errors())) from None


def _env_file() -> Path:
    return Path(os.environ.get(_ENV_FILE) or ".env").expanduser()


def _lines_of_file() -> dict[str, str]:
    """The variables that the file sets, with their names in capital letters."""
    path = _env_file()
    if os.environ.get(_ENV_FILE) and not path.is_file():
        raise SettingsError((f"{_ENV_FILE}: there is no file {path}",))
    try:
        variables = DotEnvSettingsSource(Settings, env_file=path).env_vars
    except (OSError, ValueError) as error:
        raise SettingsError((f"{path}: cannot be read: {type(error).__name__}",)) from None
    return {name.upper(): value for name, value in variables.items() if value}


def _untrusted(lines: Iterable[str]) -> list[str]:
    """The settings that a file which nobody named must not make."""
    if os.environ.get(_ENV_FILE):
        return []
    names = sorted(_NOT_FROM_FOLDER.intersection(lines))
    why = (
        f"is set by .env in the current folder, which may be anybody's; if it is yours, set {_ENV_FILE}=.env"
    )
    return [f"{name}: {why}" for name in names]


def _sent_elsewhere(lines: Set[str], given: Set[str]) -> Iterator[str]:
    """The addresses of the file to which a key or a header of the environment would be sent."""
    for address, own, others in _SENT_TO:
        names = own if own[0] in lines else own + others
        for name in sorted(given & set(names)) if address in lines - given else ():
            yield (
                f"{name}: is in the environment, but {address} only in {_env_file()}: keys and headers of "
                f"the environment are never sent to an address of a file. Set {address} there too, or "
                f"{own[0]} in the file"
            )


def _problem(location: tuple[int | str, ...], message: str) -> str:
    name = str(location[0]) if location else "settings"
    variable = name if name.isupper() else f"RLM_{name.upper()}"
    return f"{variable}: {message[0].lower()}{message[1:]}"


class UnknownVariable(NamedTuple):
    """A variable with our prefix that nothing reads, and the setting that was probably meant."""

    name: str
    nearest: str | None

    def __str__(self) -> str:
        hint = f"; did you mean {self.nearest}?" if self.nearest else ""
        return f"{self.name} is not a setting{hint}"


def unknown_variables() -> list[UnknownVariable]:
    """The variables of the environment and of the file that begin with ``RLM_`` and that nothing reads."""
    variables: dict[str, str | None] = {}
    with suppress(OSError, ValueError):  # what is wrong with the file is said when the settings are read
        variables |= DotEnvSettingsSource(Settings, env_file=_env_file()).env_vars
    variables |= EnvSettingsSource(Settings).env_vars
    names = {name.upper() for name in variables if name.upper().startswith("RLM_")}
    unknown = sorted(name for name in names - _SETTINGS - _NOT_SETTINGS if not name.startswith(_OF_TESTS))
    named = _text_of(variables.get("rlm_endpoints")) if unknown else ""
    return [UnknownVariable(name, _nearest(name)) for name in unknown if name not in named]


_SETTINGS = frozenset(f"RLM_{field.upper()}" for field in Settings.model_fields)


def _nearest(name: str) -> str | None:
    fields = [setting.removeprefix("RLM_") for setting in sorted(_SETTINGS)]
    return next(
        (f"RLM_{field}" for field in difflib.get_close_matches(name.removeprefix("RLM_"), fields)), None
    )


def _text_of(endpoints: str | None) -> str:
    """The text of the endpoints file, which may name variables that hold keys."""
    with suppress(OSError, ValueError):
        return Path(endpoints).expanduser().read_text("utf-8") if endpoints else ""
    return ""
