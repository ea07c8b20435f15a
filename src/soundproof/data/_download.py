"""Fetching published corpora: resumed where a connection was cut, checked against the published SHA-256."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from soundproof.core.errors import DownloadError, InvalidInputError, did_you_mean
from soundproof.core.files import check_writable, new_folder, storage_errors
from soundproof.core.progress import SILENT, Progress
from soundproof.data._archive import extract
from soundproof.data._cache import cache_root

SPEECH_COMMANDS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "0.01": (
            "http://download.tensorflow.org/data/speech_commands_v0.01.tar.gz",
            "743935421bb51cccdb6bdd152e04c5c70274e935c82119ad7faeec31780d811d",
        ),
        "0.02": (
            "http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz",
            "af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
        ),
    }
)
"""Address and SHA-256 of the official archives, by version. What arrives is trusted because of the hash."""

_LISTS = ("validation_list.txt", "testing_list.txt")
_STEP = 1 << 18
_TIMEOUT_SECONDS = 30


def fetch_speech_commands(
    version: str = "0.02",
    into: Path | None = None,
    *,
    url: str | None = None,
    sha256: str | None = None,
    progress: Progress = SILENT,
) -> Path:
    """Google Speech Commands, downloaded and unpacked; at once if it is there already.

    Args:
        version: "0.01" or "0.02".
        into: the folder in which ``speech_commands_v<version>`` is made; by default the cache, where
            ``data/speech_commands`` looks for it.
        url: another address of the archive.
        sha256: the hash to expect, the published one by default.
        progress: told about bytes.

    Returns:
        The corpus's folder, the ``root`` of ``data/speech_commands``.

    Raises:
        InvalidInputError: if there is no such version, or the address is not one of the web.
        DownloadError: if the connection fails or is cut (call again to go on), or the archive is damaged (removed).
        UnsafeFileError: if the archive would write outside its folder (removed).
        StorageError: if the disk is full or the folder cannot be written.
    """
    if version not in SPEECH_COMMANDS:
        raise InvalidInputError(f"there is no Speech Commands {version}: {did_you_mean(version, SPEECH_COMMANDS)}")
    home, published = SPEECH_COMMANDS[version]
    base = cache_root() if into is None else into.expanduser()
    folder = base / f"speech_commands_v{version}"
    if all((folder / name).is_file() for name in _LISTS):
        return folder
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InvalidInputError(
            f"{folder} is in the way: it is no Speech Commands corpus; move it or choose another folder"
        )
    check_writable(folder)
    archive = download(
        url or home, base / f"speech_commands_v{version}.tar.gz", sha256=sha256 or published, progress=progress
    )
    try:
        with new_folder(folder) as fresh:
            extract(archive, fresh, progress=progress)
            missing = [name for name in _LISTS if not (fresh / name).is_file()]
            if missing:
                raise DownloadError(f"the archive is no Speech Commands corpus: it lacks {' and '.join(missing)}")
    except (DownloadError, InvalidInputError):
        archive.unlink(missing_ok=True)
        raise
    archive.unlink()
    return folder


def download(url: str, path: Path, *, sha256: str, progress: Progress = SILENT) -> Path:
    """Fetch a file; what came before a cut is kept beside it (``.part``) and the next call goes on from there.

    Raises:
        InvalidInputError: if the address is not http or https.
        DownloadError: if the connection fails or is cut, or the hash is another (then what came is removed).
        StorageError: if the disk is full.
    """
    if not url.startswith(("http://", "https://")):
        raise InvalidInputError(f"an address must begin with http:// or https://, got '{url}'")
    if path.is_file() and _sha256(path) == sha256:
        return path
    part = path.with_name(f"{path.name}.part")
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _receive(url, part, progress)
    found = _sha256(part)
    if found != sha256:
        part.unlink()
        raise DownloadError(
            f"what {url} sent is damaged or was changed (SHA-256 {found}, not {sha256}) and is removed; try again"
        )
    part.replace(path)
    return path


def _receive(url: str, part: Path, progress: Progress) -> None:
    """Append what is missing of ``part``."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    total: int | None = None
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:
            if have and (answer.status != 206 or _first_byte(answer.headers.get("Content-Range")) != have):
                have = 0  # the server sends all of it again
            size = answer.headers.get("Content-Length")
            total = have + int(size) if size and size.isdigit() else None
            with progress.task("downloading", float(total or 0)) as task, part.open("ab" if have else "wb") as file:
                task.advance(have)
                while block := answer.read(_STEP):
                    file.write(block)
                    have += len(block)
                    task.advance(len(block))
    except urllib.error.HTTPError as error:
        with contextlib.closing(error):
            if error.code == 416 and have:  # all of it is here already; the hash will tell
                return
            raise DownloadError(f"{url} cannot be fetched: the server answers {error.code} {error.reason}") from error
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError, ssl.SSLError) as error:
        reason = getattr(error, "reason", None) or error
        raise DownloadError(f"{url} cannot be fetched: {reason}; {_go_on(have)}") from error
    if total is not None and have < total:
        raise DownloadError(f"the connection to {url} was cut; {_go_on(have, total)}")


def _go_on(have: int, total: int | None = None) -> str:
    known = f"{have} of {total} bytes" if total else f"{have} bytes"
    return (
        f"{known} are kept, and the same command goes on from there" if have else "check the connection and try again"
    )


def _first_byte(content_range: str | None) -> int:
    match = re.match(r"bytes (\d+)-", content_range or "")
    return int(match.group(1)) if match else -1


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
