"""The model endpoints of each role: the one in the settings, or those in the file ``RLM_ENDPOINTS``.

The file is TOML with one table ``[[endpoint]]`` per endpoint. It names the environment variables that hold
keys and headers, never their values. A role without a table uses the endpoint in the settings.
"""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError

from rlm_dist.errors import SettingsError
from rlm_dist.schema import Role
from rlm_dist.settings import Settings, http_url, read_headers


@dataclass(frozen=True)
class Endpoint:
    """Where a role's model is served; ``model`` is a name, or ``auto`` for the first model listed.

    ``models`` maps the name in a request to the model's name here. ``weight`` is this endpoint's share of
    the calls, relative to the weights of the role's other endpoints.
    """

    url: str
    key: SecretStr | None = None
    model: str = "auto"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)  # they may be secret
    weight: float = 1.0
    models: Mapping[str, str] = field(default_factory=dict)

    def named(self, model: str) -> str:
        """The name here of the model in a request; may be ``auto``, as may ``model``."""
        name = self.model if model == "auto" else model
        return self.models.get(name, name)


class _EndpointTable(BaseModel):
    """One table of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    url: Annotated[str, AfterValidator(http_url)]
    roles: list[str] = Field(default_factory=lambda: [role.value for role in Role], min_length=1)
    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    model: str | None = Field(default=None, min_length=1)
    models: dict[str, str] = Field(default_factory=dict)
    key_env: str | None = None
    headers_env: str | None = None


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    endpoint: list[_EndpointTable] = Field(default_factory=list)


def endpoints_of(settings: Settings, role: Role) -> tuple[Endpoint, ...]:
    """The endpoints of a role, at least one.

    Raises:
        SettingsError: if the file cannot be read, naming the table and the field, or if an environment
            variable that it names is not set.
    """
    rows = _read(settings.endpoints) if settings.endpoints else []
    endpoints = tuple(
        _endpoint(row, f"endpoint {number}", settings, role)
        for number, row in enumerate(rows, start=1)
        if role.value in row.roles
    )
    return endpoints or (_of_settings(settings, role),)


def _of_settings(settings: Settings, role: Role) -> Endpoint:
    if role is Role.ROOT:
        return Endpoint(settings.api_url, settings.api_key, settings.model, settings.headers)
    return Endpoint(settings.sub_url, settings.sub_key, settings.sub_model, settings.sub_headers)


def _endpoint(row: _EndpointTable, name: str, settings: Settings, role: Role) -> Endpoint:
    model = row.model or (settings.model if role is Role.ROOT else settings.sub_model)
    key, headers = _variable(row.key_env, name), _variable(row.headers_env, name)
    try:
        values = read_headers(headers)
    except ValueError as error:
        raise _problem(f"{name}: headers_env: {row.headers_env} {error}") from None
    return Endpoint(row.url, key, model, values, row.weight, row.models)


def _variable(variable: str | None, name: str) -> SecretStr | None:
    if variable is None:
        return None
    value = os.environ.get(variable)
    if not value:
        raise _problem(f"{name}: the environment variable {variable} is not set")
    return SecretStr(value)


def _read(path: Path) -> list[_EndpointTable]:
    try:
        rows = _File.model_validate(tomllib.loads(path.read_text("utf-8"))).endpoint
    except ValidationError as error:
        raise SettingsError(
            tuple(f"RLM_ENDPOINTS: {_location_text(item['loc'])}: {item['msg']}" for item in error.errors())
        ) from None
    except OSError as error:
        raise _problem(f"{path}: {error.strerror}") from None
    except ValueError as error:  # bad UTF-8 or TOML; each error names the place
        raise _problem(f"{path}: {error}") from None
    roles = {role.value for role in Role}
    for number, row in enumerate(rows, start=1):
        if not roles.issuperset(row.roles):
            raise _problem(f"endpoint {number}: roles: must be {' or '.join(sorted(roles))}")
    return rows


def _location_text(location: tuple[int | str, ...]) -> str:
    """``("endpoint", 0, "url")`` in words that count from 1: ``endpoint 1: url``."""
    if len(location) < 2 or not isinstance(location[1], int):
        return ": ".join(map(str, location)) or "the file"
    return ": ".join([f"{location[0]} {location[1] + 1}", *map(str, location[2:])])


def _problem(text: str) -> SettingsError:
    return SettingsError((f"RLM_ENDPOINTS: {text}",))
