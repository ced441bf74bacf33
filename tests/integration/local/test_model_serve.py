"""A local model's process, with a stand-in for the library that runs the weights."""

import json
import os
import urllib.request
from pathlib import Path

import openai
import pytest

from rlm_dist.errors import InputError, Unreachable
from rlm_dist.local.model import local_endpoint
from tests.support.scripts import alive, line, script
from tests.support.waiting import wait_until

STAND_IN = """
import http.server, json, sys, threading
from types import SimpleNamespace
class CommonParams(SimpleNamespace):
    def __init__(self):
        super().__init__(model=SimpleNamespace(path=""), cpuparams=SimpleNamespace(),
                         cpuparams_batch=SimpleNamespace(), sampling=SimpleNamespace())
class Server:
    def __init__(self, p):
        if open(p.model.path).read() != "weights":
            sys.exit("error loading model")
        body = {"data": [{"id": min(p.model_alias), "n_ctx": p.n_ctx, "n_parallel": p.n_parallel,
                          "hostnames": p.hostnames, "threads": p.cpuparams.n_threads}]}
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.end_headers()
                self.wfile.write(json.dumps(body).encode())
        server = http.server.HTTPServer((p.hostnames[0], p.port), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.listening_address = f"http://{p.hostnames[0]}:{server.server_port}"
"""
USER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from rlm_dist.local.model import local_endpoint
with local_endpoint(Path(sys.argv[2]), "own.gguf") as endpoint:
    print(endpoint.pid)
    sys.stdin.read()
"""


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the stand-in, on the import path of child processes too."""
    folder = tmp_path / "library"
    folder.mkdir()
    (folder / "xllamacpp.py").write_text(STAND_IN)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return folder


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with the weights of the model ``own``."""
    home = tmp_path / "home"
    (home / "models").mkdir(parents=True)
    (home / "models" / "own.gguf").write_text("weights")
    return home


def test_an_endpoint_lists_its_model_and_ends_with_its_context(library: Path, home: Path) -> None:
    with local_endpoint(home, "own.gguf") as endpoint:
        with urllib.request.urlopen(f"{endpoint.url}/models") as answer:
            [served] = json.load(answer)["data"]
        assert served["id"] == endpoint.model == "own"
        assert served["hostnames"] == ["127.0.0.1"]
        assert served["n_ctx"] / served["n_parallel"] >= 8192
        assert served["threads"] == len(os.sched_getaffinity(0))
    assert not alive(endpoint.pid)


def test_a_model_that_does_not_load_is_an_error_with_its_last_words(library: Path, home: Path) -> None:
    (home / "models" / "own.gguf").write_text("garbage")
    words = pytest.raises(Unreachable, match=r"(?s)own\.gguf.*error loading model")
    with words, local_endpoint(home, "own.gguf"):
        pass


def test_the_process_vanishes_when_its_user_is_killed(library: Path, home: Path) -> None:
    with script(USER, str(library), str(home)) as user:
        pid = int(line(user))
        assert alive(pid)
        user.kill()
        wait_until(lambda: not alive(pid))


def test_missing_weights_name_the_command_that_gets_them(library: Path, home: Path) -> None:
    with pytest.raises(InputError, match=r"rlm-dist model pull qwen2\.5-coder-1\.5b"), local_endpoint(home):
        pass


def test_a_missing_extra_names_the_command_that_installs_it(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'rlm-dist\[local\]'"), local_endpoint(home):
        pass


REAL_HOME = os.environ.get("RLM_TEST_MODEL_HOME", "")


@pytest.mark.skipif(not REAL_HOME, reason="opt-in: RLM_TEST_MODEL_HOME names a home with pulled weights")
def test_the_real_model_answers_from_its_prompt() -> None:
    [path, *_] = sorted(Path(REAL_HOME).glob("models/*0.5b*.gguf"))
    question = "The harbour log says: the magic number is 48213.\nWhat is the magic number? Only the number."
    with local_endpoint(Path(REAL_HOME), path.name) as endpoint:
        client = openai.OpenAI(base_url=endpoint.url, api_key="none", timeout=300)
        with client:
            reply = client.chat.completions.create(
                model=endpoint.model,
                messages=[{"role": "user", "content": question}],
                temperature=0,
                max_tokens=16,
            )
    assert "48213" in (reply.choices[0].message.content or "")
    assert reply.usage is not None
    assert reply.usage.prompt_tokens > 20
