"""The key file: what is refused, what is kept, what is added."""

from __future__ import annotations

import base64
import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from postwake.errors import CannotCreateError, ConfigError
from postwake.keyfile import add_key, read_keys
from postwake.tokens import Purpose, Token

AT = "2026-11-22T05:30:00Z"
SECRET = base64.b64encode(bytes(32)).decode()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the keys are."""
    return tmp_path / "keys"


def test_a_new_file(path: Path) -> None:
    """A new file has mode 0640, one random key of 32 bytes, and a comment that says what it is."""
    assert add_key(path, AT) == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    comment, line = path.read_text().splitlines()
    assert comment.startswith("# Postwake")
    assert line.split()[:2] == ["1", AT]
    assert len(base64.b64decode(line.split()[2])) == 32
    assert [other.name for other in path.parent.iterdir()] == ["keys"]


def test_rotation(path: Path) -> None:
    """The added key signs; what the older ones signed still verifies."""
    add_key(path, AT)
    old = read_keys(path)
    text = old.sign(Purpose.OPEN, Token(bytes(16)))
    assert add_key(path, AT) == 2
    ring = read_keys(path)
    assert (old.newest, ring.newest) == (1, 2)
    assert ring.verify(Purpose.OPEN, text) is not None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_owner_and_mode_are_kept(path: Path) -> None:
    """Adding to a file leaves its owner, group and mode."""
    add_key(path, AT)
    os.chown(path, 12345, 23456)
    path.chmod(0o600)
    add_key(path, AT)
    info = path.stat()
    assert (info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode)) == (12345, 23456, 0o600)


def test_what_a_person_wrote_is_kept(path: Path) -> None:
    """Comments stay byte for byte, in whatever charset, and a missing last newline is supplied."""
    before = f"# Schlüssel von Jörg\n1 {AT} {SECRET}".encode("latin-1")
    path.write_bytes(before)
    path.chmod(0o640)
    assert add_key(path, AT) == 2
    assert path.read_bytes().startswith(before + b"\n2 ")
    assert read_keys(path).newest == 2


@pytest.mark.parametrize(
    "line", [f"  7 {AT} {SECRET}", "7", "7 half a line", f"7\t{AT}\t{SECRET}"], ids=["indented", "id", "half", "tab"]
)
def test_ids_in_use(path: Path, line: str) -> None:
    """An ID that any line begins with is not given out again, even if the line is wrong or indented."""
    path.write_text(f"255 {AT} {SECRET}\n{line}\n0x7 oops\n")
    assert add_key(path, AT) == 0
    path.write_text("".join(f"{n} {AT} {SECRET}\n" for n in range(256) if n != 7) + line + "\n")
    with pytest.raises(ConfigError, match="all 256 key IDs are in use"):
        add_key(path, AT)


def test_256_ids(path: Path) -> None:
    """After 255 the free lower IDs are used; the ring still takes the last line for the newest."""
    path.write_text("".join(f"{n} {AT} {SECRET}\n" for n in range(1, 256)))
    path.chmod(0o640)
    assert add_key(path, AT) == 0
    assert read_keys(path).newest == 0
    with pytest.raises(ConfigError) as caught:
        add_key(path, AT)
    assert caught.value.exit_status == 78


def test_a_symbolic_link_stays(path: Path, tmp_path: Path) -> None:
    """Where the file is a symbolic link, the file it leads to gets the key."""
    target = tmp_path / "elsewhere"
    add_key(target, AT)
    path.symlink_to(target)
    add_key(path, AT)
    assert path.is_symlink()
    assert read_keys(target).newest == 2


def test_every_bad_line_is_named(path: Path) -> None:
    """All lines that are no keys are reported at once with file and number, without their secrets."""
    bad = {
        2: f"1 {AT}",
        3: f"1 {AT} {SECRET} more",
        4: f"256 {AT} {SECRET}",
        5: f"-1 {AT} {SECRET}",
        6: f"one {AT} {SECRET}",
        7: f"2 {AT} not*base64*but*secret",
        8: f"3 {AT} c2hvcnQ=",
        10: f"9 {AT} {SECRET}",
        11: f"\u0664 {AT} {SECRET}",
        12: f"1_0 {AT} {SECRET}",
    }
    lines = ["# comment", *(bad.get(n, f"9 {AT} {SECRET}") for n in range(2, 13)), "", "  # indented comment"]
    path.write_text("\n".join(lines), encoding="utf-8")
    path.chmod(0o640)
    with pytest.raises(ConfigError) as caught:
        read_keys(path)
    assert [problem.split(" ")[0] for problem in caught.value.problems] == [f"{path}:{n}:" for n in bad]
    assert "secret" not in str(caught.value)
    assert caught.value.exit_status == 78


@pytest.mark.parametrize(("mode", "refused"), [(0o644, True), (0o642, True), (0o640, False), (0o400, False)])
def test_modes(path: Path, mode: int, refused: bool) -> None:
    """A file that everyone may read or write is refused."""
    add_key(path, AT)
    path.chmod(mode)
    if refused:
        with pytest.raises(ConfigError, match=f"mode {mode:04o}.*expected 0640"):
            read_keys(path)
    else:
        assert read_keys(path).newest == 1


@pytest.mark.parametrize("content", ["", "# only a comment\n"])
def test_no_key(path: Path, content: str) -> None:
    """A file without a key says how to get one."""
    path.write_text(content)
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="postwake key new"):
        read_keys(path)


def test_missing(path: Path) -> None:
    """A missing file, and a directory in its place, are configuration errors that name it."""
    with pytest.raises(ConfigError, match=f"{path}: cannot read the signing keys: No such file"):
        read_keys(path)
    with pytest.raises(ConfigError, match="Is a directory"):
        read_keys(path.parent)


def test_no_directory(tmp_path: Path) -> None:
    """A directory that is not there cannot be written to: CannotCreateError, exit 73."""
    with pytest.raises(CannotCreateError, match="No such file or directory") as caught:
        add_key(tmp_path / "none" / "keys", AT)
    assert caught.value.exit_status == 73


def test_what_is_no_file_stays_what_it_is(path: Path) -> None:
    """A device or a pipe is not replaced by a file of that name."""
    os.mkfifo(path)
    with pytest.raises(CannotCreateError, match="not a regular file: expected the signing keys, or a new name"):
        add_key(path, "2026-11-22T05:30:00Z")
    assert path.is_fifo()


def test_full_disk_keeps_the_old_file(path: Path) -> None:
    """When the disk is full the old keys are still there, and no half-written file beside them."""
    add_key(path, AT)
    before = path.read_bytes()
    script = (
        "import resource, signal, sys\nfrom pathlib import Path\nfrom postwake.keyfile import add_key\n"
        "from postwake.errors import CannotCreateError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\nresource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "try:\n    add_key(Path(sys.argv[1]), 'x')\nexcept CannotCreateError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True)
    assert os.strerror(errno.EFBIG) in done.stdout
    assert path.read_bytes() == before
    assert [other.name for other in path.parent.iterdir()] == ["keys"]
