"""Settings of the model calls: bad ones stop the start, and secret ones are never shown."""

import pytest

from rlm_dist.errors import SettingsError
from rlm_dist.llm.endpoints import endpoints_of
from rlm_dist.schema import Role
from rlm_dist.settings import load_settings


@pytest.mark.parametrize("url", ["localhost:8080", "http://me:sk-1@host/v1", "http://[bad/v1"])
def test_an_address_that_no_call_can_use_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="RLM_API_URL") as caught:
        load_settings(api_url=url)
    assert "sk-1" not in str(caught.value)


def test_parameters_and_headers_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {
        "RLM_TEMPERATURE": "0.5", "RLM_SUB_MAX_OUTPUT_TOKENS": "300", "RLM_SUB_REASONING_EFFORT": "low",
        "RLM_EXTRA_BODY": '{"top_p": 0.9, "provider": {"order": ["a"]}}',
        "RLM_EXTRA_HEADERS": '{"X-Team": "secret-1"}',
    }  # fmt: skip
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    read = load_settings()
    assert (read.temperature, read.sub_temperature) == (0.5, None)
    assert (read.sub_max_output_tokens, read.sub_reasoning_effort) == (300, "low")
    assert read.extra_body == {"top_p": 0.9, "provider": {"order": ["a"]}}
    assert read.sub_extra_body is None
    assert endpoints_of(read, Role.ROOT)[0].headers == {"X-Team": "secret-1"}
    assert "secret-1" not in repr(read) + repr(endpoints_of(read, Role.ROOT)[0])
    for name in given:
        monkeypatch.delenv(name)
    for name, value in read.variables().items():
        monkeypatch.setenv(name, value)
    assert load_settings() == read


def test_tiers_and_the_models_that_code_may_name_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (load_settings().tier, load_settings().sub_tier, load_settings().sub_models) == (None, None, ())
    monkeypatch.setenv("RLM_TIER", "priority")
    monkeypatch.setenv("RLM_SUB_TIER", "flex")
    monkeypatch.setenv("RLM_SUB_MODELS", "gpt-5, qwen:7b")
    read = load_settings()
    assert (read.tier, read.sub_tier, read.sub_models) == ("priority", "flex", ("gpt-5", "qwen:7b"))
    assert read.variables()["RLM_SUB_MODELS"] == "gpt-5,qwen:7b"


@pytest.mark.parametrize(
    ("name", "value"), [("RLM_TIER", "scale"), ("RLM_SUB_TIER", "x"), ("RLM_SUB_MODELS", "a,,b")]
)
def test_a_bad_tier_or_list_of_models_names_its_setting(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=name):
        load_settings()


@pytest.mark.parametrize(
    ("sub_url", "sub_headers", "sent"),
    [
        (None, None, {"X-Team": "root"}),
        ("http://root/v1", None, {"X-Team": "root"}),
        ("http://other/v1", None, {}),
        (None, "{}", {}),
        ("http://other/v1", '{"X-Team": "sub"}', {"X-Team": "sub"}),
    ],
)
def test_headers_of_the_root_go_to_the_sub_model_at_the_same_endpoint_alone(
    sub_url: str | None, sub_headers: str | None, sent: dict[str, str]
) -> None:
    settings = load_settings(
        api_url="http://root/v1", extra_headers='{"X-Team": "root"}',
        sub_api_url=sub_url, sub_extra_headers=sub_headers,
    )  # fmt: skip
    assert endpoints_of(settings, Role.SUB)[0].headers == sent


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RLM_EXTRA_HEADERS", "secret-1"),
        ("RLM_EXTRA_HEADERS", '["secret-1"]'),
        ("RLM_SUB_EXTRA_HEADERS", '{"a b": "secret-1"}'),
        ("RLM_SUB_EXTRA_HEADERS", '{"a": "secret-1\\nb"}'),
        ("RLM_EXTRA_HEADERS", '{"secret-1": 1}'),
        ("RLM_EXTRA_BODY", "secret-1"),
        ("RLM_SUB_EXTRA_BODY", '{"model": "secret-1"}'),
        ("RLM_EXTRA_BODY", '{"top_p": NaN}'),
        ("RLM_TEMPERATURE", "-1"),
        ("RLM_SUB_TEMPERATURE", "inf"),
        ("RLM_MAX_OUTPUT_TOKENS", "0"),
    ],
)
def test_what_no_request_can_hold_is_refused_and_not_shown(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=f"{name}: ") as caught:
        load_settings()
    assert "secret-1" not in str(caught.value)
