"""The webhook of a batch's end: its content, its signature, and what happens if nobody accepts it."""

import json
import threading
from collections.abc import Collection, Mapping
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import urlsplit

import openai
import pytest
from structlog.testing import capture_logs

from rlm_dist.client.options import read_batch_options
from rlm_dist.errors import InputError, NotFound, SettingsError
from rlm_dist.outbound import AddressRefused
from rlm_dist.schema import BatchRecord, BatchState, Costs, JobState
from rlm_dist.settings import load_settings
from rlm_dist.store import DueWebhook, Store
from rlm_dist.worker.webhook_sender import MOST_TRIES, WebhookSender, headers_of, post
from tests.support.canned_endpoint import Reply, canned_endpoint

SECRET = "whsec_dGhpcyBzZWNyZXQgaXMgb3Vycw=="
URL = "https://example.org/T0/secret-path"
RECORD = BatchRecord(
    id="b1",
    state=BatchState.COMPLETED,
    counts={JobState.SUCCEEDED: 2, JobState.FAILED: 1},
    total=3,
    sealed=True,
    created_ms=1,
    costs=Costs(total_cost=0.5),
)


def due(batch_id: str = "b1", url: str = URL, tries: int = 1, ended_ms: int = 1) -> DueWebhook:
    return DueWebhook(batch_id, "99", tries, url, ended_ms, urlsplit(url).hostname or "")


class OneBatch:
    """A store with one webhook that is due."""

    def __init__(self, tries: int = 1, *, gone: bool = False) -> None:
        self.due: list[DueWebhook] = [due(tries=tries, ended_ms=1234)]
        self.done: list[tuple[str, int | None]] = []
        self.webhooks = SimpleNamespace(take=self._take, done=self._note)
        self.batches = SimpleNamespace(get=self._get)
        self._gone = gone

    def _take(self, lease_ms: int, *, passing_over: Collection[str]) -> DueWebhook | None:
        found = next((each for each in reversed(self.due) if each.host not in passing_over), None)
        if found is not None:
            self.due.remove(found)
        return found

    def _get(self, batch_id: str) -> BatchRecord:
        if self._gone:
            raise NotFound("batch", batch_id)
        return RECORD

    def _note(self, due: DueWebhook, state: str, retry_ms: int | None = None) -> bool:
        self.done.append((state, retry_ms))
        return True


def sent(store: OneBatch, answer: int | Exception, secret: str | None = SECRET) -> list[tuple[Any, ...]]:
    """The requests that a sender makes in one round."""
    posts: list[tuple[Any, ...]] = []

    def post(url: str, body: bytes, headers: Mapping[str, str]) -> int:
        posts.append((url, body, dict(headers)))
        if isinstance(answer, Exception):
            raise answer
        return answer

    sender = WebhookSender(cast(Store, store), secret=secret, post=post)
    sender._round()
    sender.close()
    return posts


def test_the_openai_client_verifies_what_is_sent_and_refuses_what_was_changed() -> None:
    """The signature follows Standard Webhooks, checked with another implementation."""
    store = OneBatch()
    ((url, body, headers),) = sent(store, 204)
    assert url == URL
    client = openai.OpenAI(api_key="none", webhook_secret=SECRET)
    client.webhooks.verify_signature(body, headers)
    with pytest.raises(openai.InvalidWebhookSignatureError):
        client.webhooks.verify_signature(body + b" ", headers)
    assert store.done == [("delivered", None)]


def test_the_body_has_state_counts_and_costs_and_nothing_else() -> None:
    ((_, body, _),) = sent(OneBatch(), 200)
    document = json.loads(body)
    assert document == {
        "type": "batch.completed",
        "id": "b1",
        "state": "completed",
        "ended_ms": 1234,
        "total": 3,
        "counts": {"succeeded": 2, "failed": 1},
        "costs": Costs(total_cost=0.5).model_dump(),
        "signed": True,
    }


def test_all_tries_share_one_id_and_another_end_has_another() -> None:
    ids = set()
    for store in (OneBatch(1), OneBatch(2)):
        ((_, _, headers),) = sent(store, 500)
        ids.add(headers["webhook-id"])
    assert len(ids) == 1
    other = OneBatch()
    other.due = [other.due[0]._replace(ended_ms=1235)]
    ((_, _, headers),) = sent(other, 200)
    assert headers["webhook-id"] not in ids


def test_what_is_not_taken_is_tried_again_later_and_later_and_then_given_up() -> None:
    pauses = []
    for tries in range(1, MOST_TRIES):
        store = OneBatch(tries)
        sent(store, 503)
        ((state, pause_ms),) = store.done
        assert state == "retrying"
        assert pause_ms is not None
        pauses.append(pause_ms)
    assert 2500 <= pauses[0] <= 5000
    assert pauses[8] > pauses[0]
    assert max(pauses) <= 3_600_000
    last = OneBatch(MOST_TRIES)
    sent(last, 503)
    assert last.done == [("failed", None)]
    gone = OneBatch(1)
    sent(gone, 410)
    assert gone.done == [("failed", None)]


def test_a_redirection_is_no_delivery() -> None:
    store = OneBatch()
    sent(store, 302)
    assert store.done[0][0] == "retrying"


def test_a_connection_error_is_told_by_its_kind_and_no_log_has_the_address() -> None:
    store = OneBatch()
    with capture_logs() as logs:
        sent(store, ConnectionRefusedError(f"no way to {URL}"))
    assert store.done[0][0] == "retrying"
    assert "secret-path" not in str(logs)


def test_without_a_secret_nothing_is_signed_and_that_is_said_thrice() -> None:
    store = OneBatch()
    with capture_logs() as logs:
        ((_, body, headers),) = sent(store, 200, secret=None)
    assert "webhook-signature" not in headers
    assert json.loads(body)["signed"] is False
    assert store.done == [("delivered unsigned", None)]
    assert [entry["event"] for entry in logs] == ["webhook_not_signed"]


def test_a_private_address_is_refused_for_good_and_the_log_names_the_setting() -> None:
    store = OneBatch()
    with capture_logs() as logs:
        sent(store, AddressRefused())
    assert store.done == [("refused", None)]
    assert "RLM_WEBHOOK_PRIVATE" in str(logs)


def test_by_default_nothing_is_sent_to_a_private_address() -> None:
    with canned_endpoint(lambda _: Reply(200, "")) as server:
        with pytest.raises(AddressRefused):
            post(server.url, b"{}", {})
        assert post(server.url, b"{}", {}, private=True) == 200
    assert len(server.requests) == 1


def test_slow_receivers_do_not_hold_up_the_others() -> None:
    """Seven receivers do not answer until the eighth webhook has arrived."""
    store, arrived = OneBatch(), threading.Event()
    store.due = [due(f"b{n}", f"https://slow{n}.example/") for n in range(7)]
    store.due.insert(0, due("b8"))  # the last to be taken

    def post(url: str, body: bytes, headers: Mapping[str, str]) -> int:
        if url == URL:
            arrived.set()
        assert arrived.wait(60)
        return 200

    sender = WebhookSender(cast(Store, store), secret=SECRET, post=post)
    sender._round()
    sender.close()
    assert store.done == [("delivered", None)] * 8


def test_deliveries_are_bounded() -> None:
    store, go, under_way = OneBatch(), threading.Event(), threading.Semaphore(0)
    store.due = [due(f"b{n}", f"https://host{n}.example/") for n in range(20)]

    def post(url: str, body: bytes, headers: Mapping[str, str]) -> int:
        under_way.release()
        assert go.wait(60)
        return 200

    sender = WebhookSender(cast(Store, store), secret=SECRET, post=post)
    round_ = threading.Thread(target=sender._round)
    round_.start()
    for _ in range(8):
        assert under_way.acquire(timeout=60)
    assert len(store.due) == 12
    go.set()
    round_.join()
    sender.close()
    assert len(store.done) == 20


def test_an_error_of_the_store_does_not_take_a_place_away() -> None:
    store = OneBatch()

    def fail(*_: object, **__: object) -> None:
        raise ConnectionError

    store.webhooks.take = fail
    sender = WebhookSender(cast(Store, store), secret=SECRET, post=lambda *_: 200)
    for _ in range(9):
        with pytest.raises(ConnectionError):
            sender._round()
    sender.close()


@pytest.mark.parametrize("secret", ["whsec_c2VjcmV0IG9mIG91cnM=", "fifteen bytes..", "whsec_"])
def test_a_short_secret_is_refused_and_not_shown(monkeypatch: pytest.MonkeyPatch, secret: str) -> None:
    monkeypatch.setenv("RLM_WEBHOOK_SECRET", secret)
    with pytest.raises(SettingsError, match=r"RLM_WEBHOOK_SECRET: .*at least 16 bytes") as caught:
        load_settings()
    assert secret not in str(caught.value).replace("after whsec_", "")


def test_a_batch_whose_retention_is_over_is_let_be() -> None:
    assert sent(OneBatch(gone=True), 200) == []


def test_a_secret_without_the_prefix_is_its_own_key() -> None:
    plain = headers_of("m", 1, b"{}", "this secret is ours")
    assert plain["webhook-signature"] == headers_of("m", 1, b"{}", SECRET)["webhook-signature"]


def test_a_secret_that_is_no_base64_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLM_WEBHOOK_SECRET", "whsec_not base64")
    with pytest.raises(SettingsError, match="RLM_WEBHOOK_SECRET") as caught:
        load_settings()
    assert "not base64" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://x/y",
        "example.org",
        "http://",
        "https://me:key@x/",
        "http://x/" + "y" * 2000,
        "http://x/\nkey",
        "http://x/ü",
    ],
)
def test_an_address_that_cannot_be_used_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(InputError, match="webhook: ") as caught:
        read_batch_options({"webhook": url})
    assert "key" not in str(caught.value)
    own, of_jobs = read_batch_options({"webhook": URL, "max_tokens": 5})
    assert (own.webhook, of_jobs.max_tokens) == (URL, 5)
