"""One dataset repository on the Hugging Face Hub: what it holds, and its files, fetched whole.

A file grows beside its target under a name that holds its checksum, so a download that was killed
resumes where it stopped, and gets its own name only once size and checksum are those the Hub
states. Requests that fail for a passing reason are tried again after 1, 2, 4... times the
back-off; a connection that brought bytes before it broke does not count as a failure.

huggingface_hub supplies the session, the headers (with the user's token), the addresses and the
error classes. Its own downloader is not used, since it starts a killed download from nothing.
"""

import importlib
import os
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from types import ModuleType
from typing import BinaryIO, TypeVar

from ramengpt.config.dataset import DownloadConfig
from ramengpt.data.shards.checksums import file_sha256
from ramengpt.data.shards.format import inspect_shard
from ramengpt.errors import UserError, shortened
from ramengpt.progress import say

PASSING_STATUS = (408, 425, 429, 500, 502, 503, 504)
RANGE_REFUSED = 416
OFFLINE_ADVICE = "check the network and run again, or use dataset=docstrings, which runs offline"

MOST_WAIT_SECONDS = 3600.0
_OTHER_FORM = (ValueError, TypeError, KeyError, AttributeError, RecursionError)  # of an answer

_LOGIN = "run `hf auth login` or set HF_TOKEN"
_REFUSALS = {
    401: f"no such dataset, or it needs a login, or the token is invalid; check its name, {_LOGIN}",
    403: f"the token's account may not read it; ask its owner, or {_LOGIN} with another token",
    404: f"no such dataset, or one that only its owner may see; check its name, or {_LOGIN}",
}
_OTHER_REFUSAL = "the Hub refuses to answer; check the repository's name and HF_ENDPOINT"

Result = TypeVar("Result")


class HubUnreachableError(UserError):
    """The Hub gave no usable answer in any of the attempts."""


class PassingError(Exception):
    """Something that may well work at the next attempt.

    Args:
        reason: what happened.
        wait_seconds: the least time before the next attempt, if the Hub asked for it.
    """

    def __init__(self, reason: str, wait_seconds: float = 0.0) -> None:
        super().__init__(reason)
        self.wait_seconds = wait_seconds


class Stopped(Exception):  # noqa: N818 - not an error: another download failed first
    """This download was asked to stop."""


@dataclass(frozen=True)
class HubFile:
    """A file as the Hub describes it.

    Attributes:
        name: path in the repository.
        bytes: its size.
        sha256: checksum of its content; empty where the Hub states none (small files outside LFS).
    """

    name: str
    bytes: int
    sha256: str


class HubRepository:
    """A dataset repository at one revision.

    Args:
        repository: `owner/name`.
        revision: branch, tag or commit.
        settings: attempts, back-off and timeout.

    Attributes:
        stop: set it to end downloads in other threads.
    """

    def __init__(self, repository: str, revision: str, settings: DownloadConfig) -> None:
        self.repository = repository
        self.revision = revision
        self.settings = settings
        self.commit = revision
        self.stop = threading.Event()

    def files(self) -> dict[str, HubFile]:
        """List the repository's files by name, and pin the commit that `revision` names now.

        Raises:
            UserError: there is no such repository or revision, or it needs a login.
            HubUnreachableError: no answer.
        """
        from huggingface_hub import HfApi

        def ask() -> dict[str, HubFile]:
            info = HfApi().dataset_info(
                self.repository,
                revision=self.revision,
                files_metadata=True,
                timeout=self.settings.timeout_seconds,
            )
            self.commit = info.sha or self.revision
            files = [
                HubFile(entry.rfilename, entry.size or 0, entry.lfs.sha256 if entry.lfs else "")
                for entry in info.siblings or []
            ]
            checksums = all(re.fullmatch("([0-9a-f]{64})?", file.sha256) for file in files)
            if not checksums or any(file.bytes < 0 for file in files):
                raise ValueError("sizes or checksums that no file has")
            return {file.name: file for file in files}

        return self._retry(f"list of {self.repository}", lambda: self._guarded(ask))

    def fetch(self, file: HubFile, target: Path, advance: Callable[[float], None]) -> None:
        """Fetch a shard and put it in place once it is whole and right.

        Args:
            file: as :meth:`files` describes it.
            target: its final path; what is there is replaced.
            advance: called with the bytes as they arrive; negative when some must be fetched again.

        Raises:
            UserError: it cannot be had, or is not what the Hub says it is.
            Stopped: `stop` was set.
        """
        part = self.part_path(file, target)

        def attempt() -> None:
            self._guarded(lambda: self._receive(file, part, advance))
            self._check(file, part, advance)

        self._retry(file.name, attempt, lambda: part.stat().st_size if part.exists() else 0)
        part.replace(target)

    @staticmethod
    def part_path(file: HubFile, target: Path) -> Path:
        """Where the first bytes of a download lie."""
        return target.with_name(f".{target.name}.{file.sha256[:16] or file.bytes}.part")

    def _receive(self, file: HubFile, part: Path, advance: Callable[[float], None]) -> None:
        """Append what is missing to the part file."""
        from huggingface_hub import hf_hub_url
        from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

        have = part.stat().st_size if part.exists() else 0
        if have and have >= file.bytes:
            return
        url = hf_hub_url(self.repository, file.name, repo_type="dataset", revision=self.commit)
        headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
        timeout = self.settings.timeout_seconds
        with (
            get_session().stream(
                "GET", url, headers=headers, timeout=timeout, follow_redirects=True
            ) as response,
            part.open("ab") as output,
        ):
            if have and response.status_code == RANGE_REFUSED:
                output.truncate(0)
                advance(-have)
                raise PassingError("the Hub refuses to resume it (HTTP 416); it starts over")
            hf_raise_for_status(response)
            if have and response.status_code != 206:
                output.truncate(0)
                advance(-have)
            for chunk in response.iter_bytes():
                self._append(chunk, output, advance)

    def _append(self, chunk: bytes, output: BinaryIO, advance: Callable[[float], None]) -> None:
        if self.stop.is_set():
            raise Stopped
        output.write(chunk)
        advance(len(chunk))

    def _check(self, file: HubFile, part: Path, advance: Callable[[float], None]) -> None:
        """Compare a part file with what the Hub says of the whole; drop it if it is wrong."""
        found = part.stat().st_size
        if found < file.bytes:
            raise PassingError(f"ended after {found} of {file.bytes} bytes")
        if found > file.bytes:
            wrong = f"expected {file.bytes} bytes, found {found}"
        elif file.sha256 and (checksum := file_sha256(part)) != file.sha256:
            wrong = f"wrong content: expected sha256 {file.sha256}, found {checksum}"
        elif faults := inspect_shard(part)[1]:
            fault = faults[0]
            wrong = f"{fault.where}: expected {fault.expected}, found {fault.found}"
        else:
            with part.open("rb") as whole:
                os.fsync(whole.fileno())
            return
        part.unlink()
        advance(-found)
        raise PassingError(wrong)

    def _retry(
        self,
        what: str,
        action: Callable[[], Result],
        amount: Callable[[], int] = lambda: 0,
    ) -> Result:
        """Retry until it works, or until `attempts` in a row made no progress."""
        attempt, before = 0, amount()
        while True:
            try:
                return action()
            except PassingError as error:
                if self.stop.is_set():
                    raise Stopped from None
                after = amount()
                attempt, before = (1 if after > before else attempt + 1), after
                if attempt >= self.settings.attempts:
                    raise HubUnreachableError(
                        f"{what}: {error}; given up after {attempt} attempts; {OFFLINE_ADVICE}"
                    ) from None
                wait = max(self.settings.backoff_seconds * 2 ** (attempt - 1), error.wait_seconds)
                say(f"{what}: {error}; next attempt in {wait:g} s")
                self.stop.wait(wait)

    def _guarded(self, action: Callable[[], Result]) -> Result:
        """Turn what huggingface_hub raises into PassingError, or UserError with advice."""
        from huggingface_hub import errors

        where = f"{self.repository} at revision {shortened(self.revision)}"
        transport = hub_transport()
        _check_token()
        try:
            return action()
        except errors.OfflineModeIsEnabled:
            raise HubUnreachableError(
                f"{where}: HF_HUB_OFFLINE is set; unset it, or use dataset=docstrings, "
                "which runs offline"
            ) from None
        except errors.GatedRepoError:
            raise UserError(
                f"{where}: the repository is gated; accept its conditions on its page on the Hub, "
                "then run `hf auth login` or set HF_TOKEN"
            ) from None
        except errors.RevisionNotFoundError:
            raise UserError(f"{where}: no such revision; use main or a commit hash") from None
        except errors.HfHubHTTPError as error:
            status = error.response.status_code
            if status in PASSING_STATUS:
                wait = _retry_after(error.response.headers.get("Retry-After", ""))
                if wait > MOST_WAIT_SECONDS:
                    raise UserError(f"{where}: HTTP {status}; run again in {wait:g} s") from None
                asked = f" and asks to wait {wait:g} s" if wait else ""
                raise PassingError(f"the Hub answered {status}{asked}", wait) from None
            raise UserError(
                f"{where}: {_REFUSALS.get(status, _OTHER_REFUSAL)} (HTTP {status})"
            ) from None
        except transport.RequestError as error:
            reason = str(error) or type(error).__name__
            raise PassingError(f"no connection to the Hub ({reason})") from None
        except transport.InvalidURL as error:
            raise UserError(
                f"HF_ENDPOINT: {shortened(str(error))}; expected https://host"
            ) from None
        except _OTHER_FORM:
            raise PassingError("the answer is not the Hub's (HF_ENDPOINT, a proxy?)") from None


def hub_transport() -> ModuleType:
    """The library that carries the requests, with a session that honours the user's proxies.

    Raises:
        UserError: the proxies cannot be used.
    """
    from huggingface_hub.utils import get_session

    try:
        return importlib.import_module(type(get_session()).__module__.partition(".")[0])
    except ImportError:
        raise UserError(
            "ALL_PROXY or HTTPS_PROXY names a SOCKS proxy, which needs the package socksio; "
            "`pip install socksio`, or name an HTTP proxy"
        ) from None
    except ValueError as error:
        raise UserError(
            f"ALL_PROXY or HTTPS_PROXY: {error}; expected http://host:port or socks5://host:port"
        ) from None


def _check_token() -> None:
    """Refuse a token that does not fit into an HTTP header."""
    from huggingface_hub import get_token

    token = get_token() or ""
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise UserError(
            "HF_TOKEN (or the token that `hf auth login` stored): holds a blank, or a character "
            "other than letters, digits and ASCII signs; copy it again from the Hub"
        )


def _retry_after(value: str) -> float:
    """Seconds that a Retry-After header asks for, given as a number or a date; 0 for neither."""
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return 0.0
