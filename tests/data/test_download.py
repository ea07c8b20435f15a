"""Fetching a corpus from a server on this machine: resumed, checked, and unpacked safely."""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import soundfile

from soundproof.core.errors import DownloadError, InvalidInputError, UnsafeFileError
from soundproof.data import _download
from soundproof.data._archive import extract
from soundproof.data._download import SPEECH_COMMANDS, fetch_speech_commands
from soundproof.data.speech_commands import SpeechCommands


@dataclass
class Server:
    """Serves one file, as badly as a test wants it."""

    content: bytes = b""
    ranges: bool = True
    cut_after: int | None = None
    asked: list[str] = field(default_factory=list[str])
    url: str = ""

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range", "")
            state.asked.append(wanted)
            if self.path != "/corpus.tar.gz":
                self.send_error(404)
                return
            begin = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and state.ranges else 0
            if begin >= len(state.content):
                self.send_error(416)
                return
            self.send_response(206 if begin else 200)
            if begin:
                self.send_header("Content-Range", f"bytes {begin}-{len(state.content) - 1}/{len(state.content)}")
            self.send_header("Content-Length", str(len(state.content) - begin))
            self.end_headers()
            self.wfile.write(state.content[begin : state.cut_after])

        def log_message(self, format: str, *args: object) -> None:
            del format, args

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listener.serve_forever, args=(0.02,))
    thread.start()
    state.url = f"http://127.0.0.1:{listener.server_address[1]}/corpus.tar.gz"
    yield state
    listener.shutdown()
    thread.join()
    listener.server_close()


def member(name: str, content: bytes = b"") -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    return info, content


def packed(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def official() -> bytes:
    """A small archive with the layout of the published ones."""
    members: list[tuple[tarfile.TarInfo, bytes]] = []
    top = tarfile.TarInfo("./")
    top.type = tarfile.DIRTYPE
    members.append((top, b""))
    lists = {"validation_list.txt": 1, "testing_list.txt": 2}
    draw = np.random.default_rng(0)
    for word in ("yes", "no", "_background_noise_"):
        for speaker in range(4):
            buffer = io.BytesIO()
            soundfile.write(buffer, draw.uniform(-0.5, 0.5, 16000), 16000, format="WAV")
            members.append(member(f"./{word}/s{speaker}_nohash_0.wav", buffer.getvalue()))
    for name, speaker in lists.items():
        lines = "".join(f"{word}/s{speaker}_nohash_0.wav\n" for word in ("yes", "no"))
        members.append(member(f"./{name}", lines.encode()))
    return packed(*members)


def fetch(server: Server, into: Path) -> Path:
    return fetch_speech_commands("0.02", into, url=server.url, sha256=server.sha256)


def test_a_fetched_corpus_loads(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOUNDPROOF_CACHE", str(tmp_path / "cache"))
    server.content = official()
    monkeypatch.setattr(_download, "SPEECH_COMMANDS", {"0.02": (server.url, server.sha256)})
    root = fetch_speech_commands("0.02")
    corpus = SpeechCommands(words=("yes", "no")).load(16000)  # the default root is where it was put
    assert root == SpeechCommands().folder
    assert (len(corpus.train), len(corpus.validation), len(corpus.test)) == (4, 2, 2)
    assert [path.name for path in root.parent.iterdir() if "speech" in path.name] == [root.name]
    assert fetch_speech_commands("0.02") == root
    assert len(server.asked) == 1


@pytest.mark.parametrize("ranges", [True, False])
def test_a_cut_connection_is_resumed(server: Server, tmp_path: Path, ranges: bool) -> None:
    server.content, server.ranges = official(), ranges
    server.cut_after = len(server.content) // 2
    with pytest.raises(DownloadError, match=f"was cut; {server.cut_after} of {len(server.content)} bytes are kept"):
        fetch(server, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["speech_commands_v0.02.tar.gz.part"]
    half, server.cut_after = server.cut_after, None
    assert (fetch(server, tmp_path) / "testing_list.txt").exists()
    assert server.asked == ["", f"bytes={half}-"]


def test_everything_was_here_already(server: Server, tmp_path: Path) -> None:
    server.content = official()
    (tmp_path / "speech_commands_v0.02.tar.gz.part").write_bytes(server.content)
    assert fetch(server, tmp_path).is_dir()


def test_a_damaged_archive_is_removed(server: Server, tmp_path: Path) -> None:
    server.content = official()
    with pytest.raises(DownloadError, match="damaged or was changed") as caught:
        fetch_speech_commands("0.02", tmp_path, url=server.url)  # not the published hash
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [official()[:-3000], b"no archive at all" * 100, packed(member("a.txt", b"x"))])
def test_what_is_no_corpus_is_removed(server: Server, tmp_path: Path, content: bytes) -> None:
    server.content = content
    with pytest.raises(DownloadError, match=r"damaged|no Speech Commands corpus"):
        fetch(server, tmp_path)
    assert not list(tmp_path.iterdir())


def test_servers_that_do_not_answer(server: Server, tmp_path: Path) -> None:
    server.content = official()
    with pytest.raises(DownloadError, match="404"):
        fetch_speech_commands("0.02", tmp_path, url=server.url + "x", sha256=server.sha256)
    with pytest.raises(DownloadError, match="cannot be fetched"):
        fetch_speech_commands("0.02", tmp_path, url="http://127.0.0.1:1/corpus.tar.gz", sha256=server.sha256)
    with pytest.raises(InvalidInputError, match="http"):
        fetch_speech_commands("0.02", tmp_path, url="file:///etc/passwd")
    with pytest.raises(InvalidInputError, match=r"no Speech Commands 0\.03"):
        fetch_speech_commands("0.03", tmp_path)


def test_a_users_folder_is_not_replaced(server: Server, tmp_path: Path) -> None:
    server.content = official()
    own = tmp_path / "speech_commands_v0.02" / "thesis.tex"
    own.parent.mkdir()
    own.touch()
    with pytest.raises(InvalidInputError, match="in the way"):
        fetch(server, tmp_path)
    assert own.exists()
    assert not server.asked


def link(name: str, target: str, kind: bytes) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info, b""


@pytest.mark.parametrize(
    "bad",
    [
        member("../outside.txt", b"x"),
        member("./yes/../../outside.txt", b"x"),
        member("..\\outside.txt", b"x"),
        member("/tmp/soundproof-outside.txt", b"x"),
        member("C:\\outside.txt", b"x"),
        link("yes/link", "/etc/passwd", tarfile.SYMTYPE),
        link("yes/link", "../outside.txt", tarfile.LNKTYPE),
        link("yes/device", "", tarfile.CHRTYPE),
        link("yes/pipe", "", tarfile.FIFOTYPE),
    ],
    ids=lambda bad: bad[0].name,
)
def test_malicious_archives_write_nothing(server: Server, tmp_path: Path, bad: tuple[tarfile.TarInfo, bytes]) -> None:
    server.content = packed(member("./yes/good.wav", b"x"), bad, member("after.txt", b"x"))
    into = tmp_path / "data"
    with pytest.raises(UnsafeFileError, match="is refused"):
        fetch(server, into)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    assert not list(into.iterdir())
    assert not Path("/tmp/soundproof-outside.txt").exists()


def test_bombs_are_refused_before_they_are_unpacked(tmp_path: Path) -> None:
    archive, into = tmp_path / "bomb.tar.gz", tmp_path / "into"
    into.mkdir()
    archive.write_bytes(packed(member("zeros", bytes(100_000))))
    with pytest.raises(UnsafeFileError, match="more than 99999 bytes"):
        extract(archive, into, max_bytes=99_999)
    assert not list(into.iterdir())
    archive.write_bytes(packed(*(member(f"{number}") for number in range(11))))
    with pytest.raises(UnsafeFileError, match="or 10 files"):
        extract(archive, into, max_files=10)


def test_unpacked_files_carry_no_special_permissions(tmp_path: Path) -> None:
    info, content = member("tool", b"x")
    info.mode = 0o4777
    (tmp_path / "a.tar.gz").write_bytes(packed((info, content)))
    extract(tmp_path / "a.tar.gz", tmp_path)
    assert (tmp_path / "tool").stat().st_mode & 0o7111 == 0


def test_the_published_hashes() -> None:
    assert SPEECH_COMMANDS["0.02"][1].startswith("af14739ee7dc3114")
    assert SPEECH_COMMANDS["0.01"][1].startswith("743935421bb51ccc")
    assert all(len(digest) == 64 for _, digest in SPEECH_COMMANDS.values())
