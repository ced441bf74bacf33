"""What the lines of a batch may name as a context: attacks by whoever wrote the batch, and honest names."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import fsspec  # type: ignore[import-untyped]  # it ships no types
import pytest

from rlm_dist.contexts.encoding import Encoded, encode, encode_named
from rlm_dist.contexts.named_files import ContextFile, FileRules
from rlm_dist.errors import InputError
from tests.support.canned_endpoint import CannedEndpoint, Reply, canned_endpoint

SECRET = "the key of another user"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a batch file, with one text; a secret lies beside the folder."""
    (tmp_path / "secret.txt").write_text(SECRET)
    folder = tmp_path / "batch"
    (folder / "docs").mkdir(parents=True)
    (folder / "docs" / "a.txt").write_text("a text")
    return folder


def read(name: str | Path, *folders: Path, urls: tuple[str, ...] = (), max_bytes: int = 1000) -> Encoded:
    return encode_named(ContextFile(str(name), FileRules(folders, urls, max_bytes)))


def refusal(name: str | Path, *folders: Path, urls: tuple[str, ...] = (), max_bytes: int = 1000) -> str:
    with pytest.raises(InputError) as caught:
        read(name, *folders, urls=urls, max_bytes=max_bytes)
    assert SECRET not in str(caught.value)
    (problem,) = caught.value.problems
    assert problem.startswith("context_file: ")
    return problem.removeprefix("context_file: ")


@pytest.mark.parametrize("name", ["docs/a.txt", "docs/../docs/./a.txt"])
def test_a_file_below_the_folder_is_read(folder: Path, name: str) -> None:
    assert read(folder / name, folder).ref == encode("a text").ref


def test_a_folder_is_read_too(folder: Path) -> None:
    (folder / "docs" / "empty.txt").touch()
    info = read(folder / "docs", folder).ref.info
    assert (info.kind, info.items, info.named) == ("list", 2, True)


def test_a_second_folder_may_be_allowed(folder: Path) -> None:
    secret = folder.parent / "secret.txt"
    assert read(secret, folder, folder.parent).ref == encode(SECRET).ref
    assert read(folder / "docs" / "a.txt", folder.parent).ref == encode("a text").ref


@pytest.mark.parametrize(
    "name",
    [
        *("../secret.txt", "docs/../../secret.txt", "../batch2/x", "/etc/shadow", "/etc/passwd", "/dev/zero"),
        *("/proc/self/environ", "/proc/self/fd/0", "/dev/stdin", "/nowhere/at all", "..", "/"),
    ],
)
def test_a_name_outside_is_refused_whether_or_not_it_exists(folder: Path, name: str) -> None:
    problem = refusal(folder / name, folder)
    assert "--context-root" in problem
    assert problem.startswith(f"{folder / name}: ")


@pytest.mark.parametrize("target", ["../secret.txt", "/proc/self/environ", "/dev/zero", "/etc"])
def test_a_symbolic_link_that_leads_outside_is_refused(folder: Path, target: str) -> None:
    (folder / "docs" / "link").symlink_to(target if target.startswith("/") else f"../{target}")
    assert "--context-root" in refusal(folder / "docs" / "link", folder)


def test_a_folder_with_a_link_that_leads_outside_is_refused(folder: Path) -> None:
    (folder / "docs" / "link").symlink_to("../../secret.txt")
    assert "--context-root" in refusal(folder / "docs", folder)


def test_a_folder_that_is_a_link_to_outside_is_refused(folder: Path) -> None:
    (folder / "up").symlink_to("..")
    assert "--context-root" in refusal(folder / "up" / "secret.txt", folder)


def test_a_link_that_stays_inside_is_followed(folder: Path) -> None:
    (folder / "link").symlink_to("docs/a.txt")
    assert read(folder / "link", folder).ref == encode("a text").ref


def test_a_folder_that_becomes_a_link_after_it_was_checked_is_not_followed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The race: the folder is replaced after each check of the path, and put back before the next."""
    (folder.parent / "a.txt").write_text(SECRET)
    docs, real_path = folder / "docs", os.path.realpath

    def checked(path: str | Path) -> str:
        if not str(path).endswith("a.txt"):
            return real_path(path)
        if docs.is_symlink():
            docs.unlink()
            (folder / "before").rename(docs)
        found = real_path(path)
        docs.rename(folder / "before")
        docs.symlink_to(folder.parent)
        return found

    monkeypatch.setattr(os.path, "realpath", checked)
    assert "Not a directory" in refusal(docs / "a.txt", folder)


@pytest.mark.parametrize("name", [".env", "docs/.git/config", ".ssh/id"])
def test_a_hidden_file_is_read_only_below_a_folder_that_is_named(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(SECRET)
    (folder / "link").symlink_to(name)
    assert "hidden" in refusal(folder / name, folder)
    assert "hidden" in refusal(folder / "link", folder)
    if not (folder / name).name.startswith("."):
        assert read(folder / name, folder, (folder / name).parent).ref == encode(SECRET).ref


@pytest.fixture
def fifo(folder: Path) -> Path:
    os.mkfifo(folder / "fifo")
    return folder / "fifo"


@pytest.fixture
def unix_socket(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(folder)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("sock")
        yield folder / "sock"


def test_a_pipe_is_refused_and_never_waited_for(folder: Path, fifo: Path) -> None:
    assert refusal(fifo, folder) == f"{fifo}: is not a regular file"


def test_a_socket_is_refused(folder: Path, unix_socket: Path) -> None:
    assert refusal(unix_socket, folder) == f"{unix_socket}: is not a regular file"


@pytest.mark.parametrize("name", ["/dev/zero", "/dev/null", "/proc/self/environ", "/proc/self/status"])
def test_devices_and_files_of_the_kernel_are_refused_even_where_all_folders_are_allowed(name: str) -> None:
    assert "not a regular file" in refusal(name, Path("/"))


def test_an_empty_file_and_a_missing_one_are_named(folder: Path) -> None:
    (folder / "empty").touch()
    assert "is empty" in refusal(folder / "empty", folder)
    assert refusal(folder / "none.txt", folder) == f"{folder}/none.txt: no such file"
    assert "cannot be read" in refusal(f"{folder}/a\0b", folder)


def test_a_file_over_the_limit_is_refused_before_it_is_read(folder: Path) -> None:
    with (folder / "sparse").open("wb") as file:
        file.truncate(2**40)
    assert "RLM_MAX_CONTEXT_BYTES" in refusal(folder / "sparse", folder)
    (folder / "docs" / "b.txt").write_text("b" * 995)
    assert read(folder / "docs" / "b.txt", folder).ref.info.chars == 995
    assert "RLM_MAX_CONTEXT_BYTES" in refusal(folder / "docs", folder)  # together they have over 1000


def test_a_name_with_control_characters_is_shown_escaped(folder: Path) -> None:
    problem = refusal(folder / "a\n\x1b[2Jline 9: fine", folder)
    assert problem == f"{folder}/a\\n\\x1b[2Jline 9: fine: no such file"


@pytest.mark.parametrize(
    "url",
    [
        *("http://169.254.169.254/latest/meta-data/", "http://127.0.0.1:6379/", "file:///etc/passwd"),
        *("memory://a/b", "s3://bucket/key", "local:///etc/passwd", "simplecache::file:///etc/passwd"),
    ],
)
def test_urls_are_refused_by_default_and_the_setting_is_named(url: str) -> None:
    assert "RLM_CONTEXT_URLS" in refusal(url, Path("/"))


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://data.example.org.evil.example/x", "https://data.example.org"),
        ("https://data.example.org@evil.example/x", "https://data.example.org/"),
        ("https://me:key@evil.example/x", "https://"),
        ("https://data.example.org:8443/x", "https://data.example.org/"),
        ("http://data.example.org/x", "https://data.example.org/"),
        ("https://data.example.org/public/../private", "https://data.example.org/public/"),
        ("https://data.example.org/public/%2e%2E/private", "https://data.example.org/public/"),
        ("https://data.example.org/publicity", "https://data.example.org/public"),
        ("https://data.example.org\\@evil.example/", "https://"),
        ("https://data.example.org/a\r\nHost: evil", "https://data.example.org/"),
        ("memory://bucket2/x", "memory://bucket/"),
        ("memory://bucket/x::file:///etc/passwd", "memory://bucket/"),
    ],
)
def test_a_url_that_only_looks_like_an_allowed_one_is_refused(url: str, allowed: str) -> None:
    assert "RLM_CONTEXT_URLS" in refusal(url, urls=(allowed,))


def test_what_is_stored_at_an_allowed_url_is_read_up_to_the_limit() -> None:
    with fsspec.open("memory://bucket/dir/a.txt", "wb") as file:
        file.write(b"from a bucket")
    for allowed in ("memory://bucket/", "memory://bucket/dir", "memory://"):
        assert read("memory://bucket/dir/a.txt", urls=(allowed,)).ref == encode("from a bucket").ref
    problem = refusal("memory://bucket/dir/a.txt", urls=("memory://bucket/",), max_bytes=12)
    assert "RLM_MAX_CONTEXT_BYTES" in problem


@pytest.fixture
def server() -> Iterator[CannedEndpoint]:
    def reply(request: object) -> Reply:
        match getattr(request, "path", ""):
            case "/text":
                return Reply(200, "from a server")
            case "/away":
                return Reply(302, "", {"Location": "/text"})
            case "/short":
                return Reply(200, "cut", {"Content-Length": "99", "Connection": "close"})
        return Reply(404, "none")

    with canned_endpoint(reply) as endpoint:
        yield endpoint


def test_a_private_host_is_read_only_if_the_setting_names_it(server: CannedEndpoint) -> None:
    assert read(f"{server.url}/text", urls=(server.url,)).ref == encode("from a server").ref
    assert len(server.requests) == 1
    for url in (server.url, server.url.replace("http", "HTTP"), server.url.replace("127.0.0.1", "localhost")):
        assert "private" in refusal(f"{url}/text", urls=("http://",))
    assert len(server.requests) == 1


@pytest.mark.parametrize(("path", "why"), [("away", "redirects"), ("none", "404"), ("short", "ended")])
def test_a_redirect_an_error_and_half_a_text_are_no_context(
    server: CannedEndpoint, path: str, why: str
) -> None:
    assert why in refusal(f"{server.url}/{path}", urls=(server.url,))
    assert [request.path for request in server.requests] == [f"/{path}"]


def test_a_text_from_a_server_is_bounded_too(server: CannedEndpoint) -> None:
    assert "RLM_MAX_CONTEXT_BYTES" in refusal(f"{server.url}/text", urls=(server.url,), max_bytes=5)
