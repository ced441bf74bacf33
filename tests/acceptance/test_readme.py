"""What the README shows is what happens: its batch, its Python, its night. Its tables: ``test_docs.py``."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import openai
import pytest
from openai.types.chat import ChatCompletion

from rlm_dist.simulated import SimulatedEndpoint
from tests.support.environment import PROJECT, clean_environment
from tests.support.waiting import wait_until

pytestmark = pytest.mark.acceptance

README = (PROJECT / "README.md").read_text()
NEEDLE = "The magic number for copper-fox is 7654321.\n"


def block(section: str, language: str, nth: int = 0) -> str:
    """The nth code block of a language in a section."""
    body = README.split(f"\n## {section}\n")[1].split("\n## ")[0]
    return str(re.findall(rf"```{language}\n(.*?)```", body, re.S)[nth])


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """An environment with an endpoint, a home, and an ``rlm-dist`` command that runs this checkout."""
    command = tmp_path / "bin" / "rlm-dist"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m rlm_dist "$@"\n')
    command.chmod(0o755)
    prices = tmp_path / "prices.json"
    prices.write_text('{"*": {"input": 1, "output": 4}}')  # without prices a budget of money is refused
    with SimulatedEndpoint() as endpoint:
        yield {
            **clean_environment(),
            "RLM_PRICES": str(prices),
            "PATH": f"{command.parent}{os.pathsep}{os.environ['PATH']}",
            "RLM_API_URL": endpoint.url,
            "RLM_HOME": str(tmp_path / "home"),
        }


def test_the_batch_in_five_lines(environment: dict[str, str], tmp_path: Path) -> None:
    """``up``, ``submit``, ``status --watch``, ``results`` and ``cost`` run as the README shows them."""
    lines = block("A batch in five lines", "bash").splitlines()
    assert len(lines) == 5
    assert lines[0].startswith("export RLM_API_URL=")
    items = [
        {"id": f"q{n}", "query": "What is the magic number for copper-fox?", "context": f"{n}\n" + NEEDLE * n}
        for n in range(1, 6)
    ]
    (tmp_path / "questions.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    script = "\n".join(["set -e", lines[1], "up=$!", *lines[2:], "kill -TERM $up", "wait $up"])
    done = subprocess.run(
        [shutil.which("bash") or "bash", "-c", script],
        env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=170, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert [(answer["custom_id"], answer["answer"]) for answer in answers] == [
        (item["id"], "7654321") for item in items
    ]
    assert (tmp_path / "failed.jsonl").read_text() == ""
    assert "simulated-root" in done.stdout
    assert "total $0.0" in done.stdout


def test_the_python_example(environment: dict[str, str], tmp_path: Path) -> None:
    """The example runs unchanged on its own embedded cluster and leaves nothing behind."""
    (tmp_path / "book.txt").write_text("Call me Ishmael.\n")
    process = subprocess.Popen(
        [sys.executable, "-c", block("Python", "python")],
        env=environment, cwd=tmp_path, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    said, _ = process.communicate(timeout=170)
    assert process.returncode == 0
    assert float(said.split()[-1]) > 0
    wait_until(lambda: not (tmp_path / "home" / "redis" / "server.json").exists())


class _Ends(BaseHTTPRequestHandler):
    """Accepts webhooks and keeps them on its server."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.told.append((body, dict(self.headers)))  # type: ignore[attr-defined]  # ours
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def ends() -> Iterator[HTTPServer]:
    """A server that receives the webhook of a batch's end."""
    with HTTPServer(("127.0.0.1", 0), _Ends) as server:
        server.told = []  # type: ignore[attr-defined]  # ours
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_the_overnight_walk_through(environment: dict[str, str], tmp_path: Path, ends: HTTPServer) -> None:
    """In small: two ways of asking, one job that fails, and a webhook that OpenAI's client verifies."""
    lines = block("Run 10,000 queries overnight", "bash").splitlines()
    assert len(lines) == 8
    assert lines[0].startswith("export RLM_API_URL=")
    secret = "whsec_dGhpcyBzZWNyZXQgaXMgb3Vycw=="
    question = "What is the magic number for copper-fox?"
    messages = [{"role": "user", "content": NEEDLE}, {"role": "user", "content": question}]
    items: list[dict[str, object]] = [
        {
            "custom_id": f"c{n}",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"model": "auto", "messages": messages, "temperature": 0.5, "max_tokens": n + 9},
        }
        for n in range(12)
    ]
    items += [{"id": f"q{n}", "query": question, "context": f"{n}\n{NEEDLE}"} for n in range(11)]
    items.append({"id": "short", "query": question, "context": NEEDLE, "max_iterations": 1})
    (tmp_path / "questions.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    told = 'until rlm-dist status friday --json | grep -q \'"webhook": "delivered"\'; do :; done'
    up = lines[1].replace("rlm-dist up", "rlm-dist up --port 0")  # 5555 may be in use on a test machine
    script = "\n".join(["set -e", up, "up=$!", *lines[2:], told, "kill -TERM $up", "wait $up"])
    done = subprocess.run(
        [shutil.which("bash") or "bash", "-c", script],
        env={
            **environment,
            "ON_END": f"http://127.0.0.1:{ends.server_port}/done",
            "RLM_WEBHOOK_SECRET": secret,
            "RLM_WEBHOOK_PRIVATE": "true",
        },
        cwd=tmp_path, capture_output=True, text=True, timeout=170, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "nothing was enqueued" in done.stdout
    assert "pilot: " in done.stderr
    assert "friday: 0 jobs ended as stalled" in done.stdout
    assert "24 of 24 ended" in done.stderr or "batch friday: completed" in done.stdout
    answers = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    openai_ids, native_ids = {f"c{n}" for n in range(12)}, {f"q{n}" for n in range(11)}
    assert len(answers) == 23  # in order of completion
    assert {answer["custom_id"] for answer in answers} == openai_ids | native_ids
    for answer in (each for each in answers if each["custom_id"] in openai_ids):
        completion = ChatCompletion.model_validate(answer["response"]["body"], strict=True)
        assert completion.choices[0].message.content == "7654321"
        assert completion.usage is not None
        assert completion.usage.total_tokens > 0
    (failed,) = (json.loads(line) for line in (tmp_path / "failed.jsonl").read_text().splitlines())
    assert (failed["custom_id"], failed["state"]) == ("short", "exhausted")

    client = openai.OpenAI(api_key="none", webhook_secret=secret)
    received = ends.told  # type: ignore[attr-defined]  # ours
    for body, headers in received:
        client.webhooks.verify_signature(body, headers)
    last = json.loads(received[-1][0])
    assert (last["id"], last["state"], last["counts"]["succeeded"]) == ("friday", "completed", 23)
    assert "copper-fox" not in str(received)
