"""The files under deploy/ and docker-compose.yml are valid, safe by default, and match the code."""

import re
import runpy
import subprocess
import sys
import tomllib
from importlib.metadata import distribution
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from ruamel.yaml import YAML
from typer.main import get_group

from rlm_dist.cli.app import make_cli
from rlm_dist.operations.flower import serve as flower_app
from rlm_dist.sandbox import fork_server_process
from tests.support.environment import PROJECT

COMPOSE = PROJECT / "docker-compose.yml"
OURS = ("root", "root-depth1", "sub", "flower", "cli")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = YAML(typ="safe").load(COMPOSE)
    return loaded


def default_of(value: str) -> str:
    """The value of a compose variable if the environment does not set it."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value)


def seconds(duration: str) -> int:
    """A compose duration such as 90s."""
    found = re.fullmatch(r"(\d+)s", default_of(duration))
    assert found, duration
    return int(found[1])


def test_compose_file_matches_the_compose_specification() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*command, str(COMPOSE)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_roots_and_subs_can_be_scaled(compose: dict[str, Any]) -> None:
    for name in ("root", "sub"):
        service = compose["services"][name]
        assert not {"hostname", "container_name", "ports"} & set(service), name


def test_all_wait_for_a_healthy_redis(compose: dict[str, Any]) -> None:
    for name in OURS:
        assert compose["services"][name]["depends_on"] == {"redis": {"condition": "service_healthy"}}
    assert "redis-cli ping" in compose["services"]["redis"]["healthcheck"]["test"][1]


def test_only_flower_is_published_and_only_on_this_host(compose: dict[str, Any]) -> None:
    published = {
        name: service["ports"] for name, service in compose["services"].items() if "ports" in service
    }
    assert list(published) == ["flower"]
    assert [default_of(port) for port in published["flower"]] == ["127.0.0.1:5555:5555"]


def test_secrets_have_no_default_and_are_required(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert services["redis"]["environment"]["RLM_REDIS_PASSWORD"].startswith("${RLM_REDIS_PASSWORD:?")
    assert services["flower"]["environment"]["FLOWER_BASIC_AUTH"].startswith("${FLOWER_BASIC_AUTH:?")
    for name in OURS:
        assert "${RLM_REDIS_PASSWORD:?" in services[name]["environment"]["RLM_REDIS_URL"]
    secrets = re.findall(r"\$\{(\w*(?:PASSWORD|KEY|AUTH)\w*):?([-?])([^}]*)\}", COMPOSE.read_text())
    assert {name for name, _, _ in secrets} >= {"RLM_REDIS_PASSWORD", "FLOWER_BASIC_AUTH", "RLM_API_KEY"}
    assert [name for name, operator, text in secrets if operator == "-" and text] == []


def test_each_container_is_confined(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["read_only"] is True, name
        assert re.fullmatch(r"\d+", default_of(str(service["pids_limit"]))), name
        assert re.fullmatch(r"\d+g", default_of(service["mem_limit"])), name
        assert not {"privileged", "cap_add", "pid", "ipc", "network_mode"} & set(service), name


def test_what_a_container_of_ours_writes_has_a_place_on_disk(compose: dict[str, Any]) -> None:
    for name in OURS:
        assert {"/tmp", "/var/lib/rlm"} <= set(compose["services"][name]["volumes"]), name
        assert "tmpfs" not in compose["services"][name], name


def test_redis_is_reached_only_from_inside(compose: dict[str, Any]) -> None:
    assert compose["networks"]["store"] == {"internal": True}
    assert compose["services"]["redis"]["networks"] == ["store"]
    for name in OURS:
        assert compose["services"][name]["networks"] == ["default", "store"], name


def test_redis_refuses_writes_before_its_container_is_full(compose: dict[str, Any]) -> None:
    service = compose["services"]["redis"]
    bound = re.fullmatch(r"(\d+)gb", default_of(service["environment"]["RLM_REDIS_MAXMEMORY"]))
    limit = re.fullmatch(r"(\d+)g", default_of(service["mem_limit"]))
    assert bound is not None
    assert limit is not None
    assert int(bound[1]) < int(limit[1])


def test_images_can_be_named_by_digest(compose: dict[str, Any]) -> None:
    assert compose["services"]["redis"]["image"].startswith("${RLM_REDIS_IMAGE:-redis:")
    image = default_of(compose["services"]["root"]["build"]["args"]["PYTHON_IMAGE"])
    lines = (PROJECT / "deploy/Dockerfile").read_text().splitlines()
    assert lines.index(f"ARG PYTHON_IMAGE={image}") + 1 == lines.index("FROM ${PYTHON_IMAGE}")


def test_flower_does_not_get_the_model_key(compose: dict[str, Any]) -> None:
    assert not [name for name in compose["services"]["flower"]["environment"] if "API" in name]


def test_a_sub_worker_may_finish_its_calls_before_it_is_killed(compose: dict[str, Any]) -> None:
    sub = compose["services"]["sub"]
    deadline_s = float(default_of(sub["environment"]["RLM_CALL_TIMEOUT_S"]))
    assert seconds(sub["stop_grace_period"]) > deadline_s


def test_roots_and_subs_share_the_blob_volume(compose: dict[str, Any]) -> None:
    for name in OURS:
        service = compose["services"][name]
        assert f"blobs:{service['environment']['RLM_BLOB_URL']}" in service["volumes"]


def test_the_commands_are_ones_that_we_have(compose: dict[str, Any]) -> None:
    group = get_group(make_cli())
    for name in OURS:
        command, *arguments = compose["services"][name]["command"]
        group.commands[command].make_context(command, arguments)  # parses without running anything


def test_redis_keeps_everything_and_has_no_password_in_its_file() -> None:
    lines = (PROJECT / "deploy/redis.conf").read_text().splitlines()
    options = dict(line.split(" ", 1) for line in lines if line and not line.startswith("#"))
    assert options["appendonly"] == "yes"
    assert options["maxmemory-policy"] == "noeviction"
    assert not {"requirepass", "user"} & set(options)


def test_the_image_runs_as_nobody_special_and_takes_its_role_from_the_command() -> None:
    lines = (PROJECT / "deploy/Dockerfile").read_text().splitlines()
    assert lines.index("USER rlm") < lines.index('ENTRYPOINT ["rlm-dist"]')
    assert any(line.startswith("RUN pip install --no-deps --no-build-isolation .") for line in lines)


def test_the_image_copies_only_what_the_ignore_file_lets_through() -> None:
    allowed = {
        line[1:] for line in (PROJECT / ".dockerignore").read_text().splitlines() if line.startswith("!")
    }
    copied = re.findall(r"^COPY (.+) \S+$", (PROJECT / "deploy/Dockerfile").read_text(), re.MULTILINE)
    assert {source for line in copied for source in line.split()} == allowed


def test_each_dependency_is_pinned_within_the_range_that_is_asked_for() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    lines = (PROJECT / "deploy/constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    for requirement in map(Requirement, project["dependencies"]):
        assert requirement.specifier.contains(pins[requirement.name]), requirement


def test_what_confines_the_sandbox_is_installed_by_its_hash_and_first() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    exact = {f"{item.name}{item.specifier}" for item in map(Requirement, project["dependencies"])}
    lines = (PROJECT / "deploy/sandbox-hashes.txt").read_text().splitlines()
    pins = dict(re.findall(r"^(\S+) --hash=sha256:([0-9a-f]{64})$", "\n".join(lines), re.MULTILINE))
    assert {pin.partition("==")[0] for pin in pins} == set(fork_server_process._LOCKDOWN)
    assert pins.keys() <= exact
    assert pins.keys() <= set((PROJECT / "deploy/constraints.txt").read_text().splitlines())
    image = (PROJECT / "deploy/Dockerfile").read_text()
    assert 0 < image.index("--require-hashes -r sandbox-hashes.txt") < image.index("-r requirements.txt")
    assert pins.items() <= {(name, digest) for name, digests in locked().items() for digest in digests}


def locked() -> dict[str, list[str]]:
    """The SHA-256 digests of the files of each pin of ``deploy/requirements.txt`` that counts here."""
    lines = (PROJECT / "deploy/requirements.txt").read_text().replace("\\\n", "").splitlines()
    found = {}
    for line in lines:
        if not line.startswith("#"):
            text, *hashes = line.split(" --hash=sha256:")
            pin = Requirement(text.strip())
            assert next(iter(pin.specifier)).operator == "==", line
            assert len(pin.specifier) == 1, line
            if pin.marker is None or pin.marker.evaluate():
                found[f"{canonicalize_name(pin.name)}{pin.specifier}"] = [item.strip() for item in hashes]
    return found


def needed(name: str) -> set[str]:
    """The names of all that a package needs here."""
    known: set[str] = set()
    to_read = [name]
    while to_read:
        for requirement in map(Requirement, distribution(to_read.pop()).requires or ()):
            other = canonicalize_name(requirement.name)
            if other not in known and (
                requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            ):
                known.add(other)
                to_read.append(other)
    return known


def test_the_image_installs_all_by_hash_at_the_versions_that_were_tested() -> None:
    pins = locked()
    assert all(
        digests and all(re.fullmatch("[0-9a-f]{64}", each) for each in digests) for digests in pins.values()
    )
    lines = (PROJECT / "deploy/constraints.txt").read_text().splitlines()
    tested = (line.split("==") for line in lines if not line.startswith("#"))
    assert pins.keys() <= {f"{canonicalize_name(name)}=={version}" for name, version in tested}
    image = (PROJECT / "deploy/Dockerfile").read_text()
    assert "RUN pip install --only-binary :all: --require-hashes -r requirements.txt\n" in image
    installs = [line for line in image.splitlines() if "pip install" in line]
    assert all("--require-hashes" in line or "--no-deps --no-build-isolation ." in line for line in installs)
    assert "://" not in (PROJECT / "deploy/requirements.txt").read_text()


def test_the_image_installs_all_that_we_import() -> None:
    """A dependency that is new in pyproject.toml is in ``deploy/requirements.txt`` too."""
    names = {pin.partition("==")[0] for pin in locked()}
    assert needed("rlm-dist") <= names
    assert {"setuptools", "opentelemetry-sdk"} <= names


def test_the_flower_config_file_says_what_our_command_does() -> None:
    config = runpy.run_path(str(PROJECT / "deploy/flowerconfig.py"))
    assert {name: config[name] for name in flower_app.DEFAULTS} == flower_app.DEFAULTS
