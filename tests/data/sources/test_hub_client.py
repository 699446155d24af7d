"""The client against a Hub on loopback: what passes is tried again, what is wrong is refused."""

import json
import time
from email.utils import formatdate

import pytest

from ramengpt.data.sources.hub_client import HubRepository, _retry_after
from ramengpt.errors import UserError
from tests.data.sources.tiny_hub import FILES, FIRST, REPOSITORY, hub_settings
from tests.loopback_hub import Fault


def fetch(store, attempts=3):
    """Fetch one shard from a new client."""
    repository = HubRepository(REPOSITORY, "main", hub_settings(attempts=attempts))
    repository.fetch(repository.files()[FIRST], store / FIRST, lambda num_bytes: None)


def assert_whole(store):
    assert [path.name for path in store.iterdir()] == [FIRST]
    assert (store / FIRST).read_bytes() == FILES[FIRST]


@pytest.mark.parametrize(
    "faults",
    [
        [Fault(status=500), Fault(status=503)],
        [Fault(drop_after=0), Fault(drop_after=70_000)],
        [Fault(content=FILES[FIRST][:-1000])],
        [Fault(content=FILES[FIRST] + b"more")],
        [Fault(content=FILES[FIRST][:-4] + b"evil")],
        [Fault(content=b"<html>" + FILES[FIRST][6:])],
    ],
    ids=["500", "dropped", "truncated", "grown", "wrong content", "wrong header"],
)
def test_what_passes_is_tried_again(hub, store, faults):
    hub.faults[FIRST] = list(faults)
    fetch(store)
    assert_whole(store)
    assert not hub.faults[FIRST]


def test_a_dropped_connection_resumes_where_it_broke(hub, store):
    hub.faults[FIRST] = [Fault(drop_after=131_072)] + [Fault(drop_after=65_536)] * 2
    fetch(store, attempts=2)
    assert hub.gets(FIRST) == ["", "bytes=131072-", "bytes=196608-", "bytes=262144-"]
    assert_whole(store)


def test_content_that_stays_wrong_is_refused_with_both_checksums(hub, store):
    hub.faults[FIRST] = [Fault(content=FILES[FIRST][:-4] + b"evil")] * 3
    with pytest.raises(UserError, match=rf"^{FIRST}: wrong content: expected sha256 \w+, found"):
        fetch(store)
    assert list(store.iterdir()) == []


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Fault(status=401), r"needs a login.*hf auth login.*HTTP 401"),
        (Fault(status=403), r"account may not read it.*HTTP 403"),
        (Fault(status=404), r"no such dataset.*HTTP 404"),
        (Fault(status=418), r"refuses to answer.*HTTP 418"),
        (Fault(status=403, error_code="GatedRepo"), "gated.*accept its conditions"),
    ],
)
def test_repositories_that_need_a_login(hub, store, fault, message):
    hub.faults["api/revision"] = [fault]
    with pytest.raises(UserError, match=message) as caught:
        fetch(store)
    assert "\n" not in str(caught.value)


def test_the_hub_is_asked_again_when_it_says_so(hub, store, monkeypatch, capsys):
    waited = []
    monkeypatch.setattr("threading.Event.wait", lambda event, seconds=None: waited.append(seconds))
    hub.faults["api/revision"] = [Fault(status=429, retry_after="7")]
    fetch(store)
    assert 7.0 in waited
    assert "answered 429 and asks to wait 7 s" in capsys.readouterr().out


@pytest.mark.parametrize("wait", ["99999999999999", "9" * 400, "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_a_wait_that_nobody_waits_is_said(hub, store, wait):
    hub.faults["api/revision"] = [Fault(status=429, retry_after=wait)]
    with pytest.raises(UserError, match=r"main: HTTP 429; run again in"):
        fetch(store)


def listing(**changes) -> bytes:
    file = {"rfilename": FIRST, "size": 1, "blobId": "0", "lfs": None} | changes
    return json.dumps({"id": REPOSITORY, "siblings": [file]}).encode()


@pytest.mark.parametrize(
    "answer",
    [
        *(b"[]", b"{}", b"null", b"<html>", b"\xff", b"[" * 10**5, b"[" + b"9" * 5000 + b"]"),
        *(b'{"id": "a/b", "siblings": ["x"]}', b'{"id": "a/b", "siblings": [{}]}'),
        *(listing(size="1"), listing(size=-1), listing(lfs="x")),
        *(listing(lfs={"sha256": sha, "size": 1, "pointerSize": 1}) for sha in (None, "../x", "Z")),
    ],
    ids=lambda answer: repr(answer[:40]),
)
def test_an_answer_of_another_form_is_not_the_hubs(hub, store, answer):
    hub.faults["api/revision"] = [Fault(content=answer)] * 3
    with pytest.raises(UserError, match=r"the answer is not the Hub's.*given up after 3 attempts"):
        fetch(store)


def test_a_size_that_the_hub_does_not_state(hub, store):
    hub.faults["api/revision"] = [Fault(content=listing(size=None))]
    with pytest.raises(UserError, match="expected 0 bytes, found"):
        fetch(store)


@pytest.mark.parametrize("address", ["http://[::1", "http://127.0.0.1\n"])
def test_an_endpoint_that_is_no_address(hub, store, monkeypatch, address):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    with pytest.raises(UserError, match=r"HF_ENDPOINT: .*expected https://host"):
        fetch(store)


def test_dates_in_retry_after(monkeypatch):
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    assert _retry_after("12") == 12
    assert 3599 <= _retry_after(formatdate(now + 3600, usegmt=True)) <= 3600
    assert _retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert _retry_after("soon") == _retry_after("") == 0


def test_a_part_that_the_hub_does_not_resume_starts_over(hub, store):
    hub.faults[FIRST] = [Fault(drop_after=70_000), Fault(status=416)]
    fetch(store)
    assert hub.gets(FIRST)[-1] == ""
    assert_whole(store)


@pytest.mark.parametrize("token", ["hf_é", "hf a", "hf_\x01"], ids=["accent", "blank", "control"])
def test_tokens_that_no_request_can_carry(hub, store, monkeypatch, token):
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(UserError, match="copy it again from the Hub"):
        fetch(store)


def test_proxies_that_cannot_be_used(hub, store, monkeypatch):
    for error, message in ((ImportError("socksio"), "socksio"), (ValueError("x"), "http://host")):

        def session(error=error):
            raise error

        monkeypatch.setattr("huggingface_hub.utils.get_session", session)
        with pytest.raises(UserError, match=message):
            fetch(store)


def test_a_gated_file_is_not_tried_again(hub, store):
    hub.faults[FIRST] = [Fault(status=403, error_code="GatedRepo")]
    with pytest.raises(UserError, match="gated"):
        fetch(store)
    assert len(hub.gets(FIRST)) == 1


def test_the_list_is_asked_for_again_after_a_500(hub, store):
    hub.faults["api/revision"] = [Fault(status=500)] * 2
    fetch(store)
    assert_whole(store)
