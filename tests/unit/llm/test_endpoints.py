"""The file of endpoints: what it may hold, and what is reported of an unusable one."""

from pathlib import Path

import pytest

from rlm_dist.errors import SettingsError
from rlm_dist.llm.endpoints import endpoints_of
from rlm_dist.schema import Role
from rlm_dist.settings import Settings, load_settings

TWO = """
[[endpoint]]
url = "https://one.example/v1/"
key_env = "ONE_KEY"
weight = 3

[[endpoint]]
url = "http://127.0.0.1:8080/v1"
roles = ["sub"]
model = "local"
headers_env = "LOCAL_HEADERS"
models = { big = "provider/big" }
"""


def settings_with(path: Path, text: str) -> Settings:
    """Settings that name a file of endpoints."""
    path.write_text(text, "utf-8")
    return load_settings(endpoints=path, model="asked", sub_api_url="http://127.0.0.1:9/v1")


def test_each_role_has_the_endpoints_that_are_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONE_KEY", "secret-1")
    monkeypatch.setenv("LOCAL_HEADERS", '{"X-Team": "secret-2"}')
    settings = settings_with(tmp_path / "e.toml", TWO)
    (root,), (first, second) = (endpoints_of(settings, role) for role in (Role.ROOT, Role.SUB))
    assert (root.url, root.model, root.weight) == ("https://one.example/v1", "asked", 3)
    assert root.key is not None
    assert root.key.get_secret_value() == "secret-1"
    assert (first.url, first.model) == (root.url, "auto")
    assert (second.key, second.headers, second.weight) == (None, {"X-Team": "secret-2"}, 1)
    assert [second.named(name) for name in ("auto", "big", "small")] == ["local", "provider/big", "small"]
    assert "secret" not in repr((root, first, second))


def test_a_role_without_a_table_has_the_endpoint_of_the_settings(tmp_path: Path) -> None:
    settings = settings_with(tmp_path / "e.toml", '[[endpoint]]\nurl = "http://a/v1"\nroles = ["root"]\n')
    assert [each.url for each in endpoints_of(settings, Role.ROOT)] == ["http://a/v1"]
    assert [each.url for each in endpoints_of(settings, Role.SUB)] == ["http://127.0.0.1:9/v1"]


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    settings = settings_with(tmp_path / "e.toml", "")
    assert [each.url for each in endpoints_of(settings, Role.ROOT)] == [settings.api_url]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[[endpoint]]\nweight = 2\n", "endpoint 1: url: Field required"),
        ('[[endpoint]]\nurl = "a.example/v1"\n', "endpoint 1: url: .*must be an http"),
        ('[[endpoint]]\nurl = "http://me:pw@a/v1"\n', "endpoint 1: url: .*no user or password"),
        ('[[endpoint]]\nurl = "http://a/v1"\nweight = 0\n', "endpoint 1: weight: .*greater than 0"),
        ('[[endpoint]]\nurl = "http://a/v1"\nkey = "sk-1"\n', "endpoint 1: key: Extra inputs"),
        ('[[endpoint]]\nurl = "http://a/v1"\nroles = ["boss"]\n', "endpoint 1: roles: must be root or sub"),
        ('[[endpoint]]\nurl = "http://a/v1"\nkey_env = "NO_SUCH"\n', "endpoint 1: .*NO_SUCH is not set"),
        ('[[endpoint]]\nurl = "http://a/v1"\nheaders_env = "HOME"\n', "endpoint 1: headers_env: HOME "),
        ('[[endpoints]]\nurl = "http://a/v1"\n', "endpoints: Extra inputs"),
        ("[[endpoint]\n", "e.toml: .*line 1"),
    ],
)
def test_a_bad_file_is_told_by_table_and_field(tmp_path: Path, text: str, problem: str) -> None:
    settings = settings_with(tmp_path / "e.toml", text)
    with pytest.raises(SettingsError, match="RLM_ENDPOINTS: .*" + problem) as raised:
        endpoints_of(settings, Role.ROOT)
    assert "pw@" not in str(raised.value)
    assert "sk-1" not in str(raised.value)


def test_a_missing_file_is_told() -> None:
    with pytest.raises(SettingsError, match="RLM_ENDPOINTS: /no/such/file: No such file"):
        endpoints_of(Settings(endpoints=Path("/no/such/file")), Role.ROOT)
