"""Compressed input: what the tools accept is accepted, what is cut or damaged is an error that names the place."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import random
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from olmo_core.documents.streams import HashedFile, decompressed
from olmo_core.errors import InputError

random.seed(7)
TEXT = b"".join(b"line %d %d\n" % (i, random.getrandbits(60)) for i in range(120_000))
PACK: dict[str, Callable[[bytes], bytes]] = {
    ".gz": lambda data: gzip.compress(data, 1),
    ".zst": lambda data: zstandard.ZstdCompressor(level=1, write_checksum=True).compress(data),
    ".bz2": lambda data: bz2.compress(data, 1),
    ".xz": lambda data: lzma.compress(data, preset=0),
}
PACKED = {suffix: pack(TEXT) for suffix, pack in PACK.items()}
SUFFIXES = list(PACK)


def unpack(path: Path) -> bytes:
    with HashedFile(str(path)) as stream:
        data = b"".join(decompressed(stream, path.name))
        assert stream.finish() == (
            path.stat().st_size,
            hashlib.sha256(path.read_bytes()).hexdigest(),
        )
    return data


def write(folder: Path, name: str, data: bytes) -> Path:
    (folder / name).write_bytes(data)
    return folder / name


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_whole_files_and_several_members_behind_one_another(tmp_path: Path, suffix: str) -> None:
    assert unpack(write(tmp_path, f"a{suffix}", PACKED[suffix])) == TEXT
    empty = PACK[suffix](b"")
    assert unpack(write(tmp_path, f"b{suffix}", empty)) == b""
    assert unpack(write(tmp_path, f"c{suffix}", PACKED[suffix] + empty + PACK[suffix](b"x"))) == TEXT + b"x"


def test_plain_and_empty_plain_files(tmp_path: Path) -> None:
    assert unpack(write(tmp_path, "a.jsonl", TEXT)) == TEXT
    assert unpack(write(tmp_path, "b.jsonl", b"")) == b""


def test_what_zstd_writes_with_a_long_window_and_skippable_frames(
    tmp_path: Path,
) -> None:
    parameters = zstandard.ZstdCompressionParameters.from_level(1, window_log=28, enable_ldm=True)
    skippable = b"\x50\x2a\x4d\x18" + (3).to_bytes(4, "little") + b"abc"
    # Without the content size in its header a frame really needs the window that it declares.
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    long = packer.compress(TEXT) + packer.flush()
    assert unpack(write(tmp_path, "a.zst", skippable + long + skippable)) == TEXT


def test_padding_with_zero_bytes_behind_gzip(tmp_path: Path) -> None:
    assert unpack(write(tmp_path, "a.gz", PACKED[".gz"] + bytes(512))) == TEXT


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("part", [0.0001, 0.5, 0.999999])
def test_a_truncated_file_is_an_error_with_a_position(tmp_path: Path, suffix: str, part: float) -> None:
    packed = PACKED[suffix]
    cut = max(7, min(len(packed) - 1, int(len(packed) * part)))
    path = write(tmp_path, f"a{suffix}", packed[:cut])
    # The codecs' own objects say how much the part that is there gives.
    unpacker: Any = {
        ".gz": lambda: zlib.decompressobj(31),
        ".bz2": bz2.BZ2Decompressor,
        ".xz": lzma.LZMADecompressor,
        ".zst": lambda: zstandard.ZstdDecompressor().decompressobj(),
    }[suffix]()
    given = len(unpacker.decompress(packed[:cut]))
    assert given <= len(TEXT) and (given > 0 or part < 0.4)
    expected = rf"a\{suffix}: .* truncated: it ends after {cut} compressed bytes"
    if suffix != ".gz":  # whose decoder does not say
        expected += rf", which give {given} decompressed bytes"
    with pytest.raises(InputError, match=expected):
        unpack(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_second_member_cut_short_is_an_error(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path, f"a{suffix}", PACKED[suffix] + PACKED[suffix][:-3])
    with pytest.raises(InputError, match=rf"it ends after {2 * len(PACKED[suffix]) - 3} compressed bytes"):
        unpack(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_flipped_bit_is_an_error(tmp_path: Path, suffix: str) -> None:
    damaged = bytearray(PACKED[suffix])
    damaged[len(damaged) // 2] ^= 0x10
    with pytest.raises(InputError, match=rf"a\{suffix}.* (damaged|truncated)"):
        unpack(write(tmp_path, f"a{suffix}", bytes(damaged)))


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_something_else_behind_the_data_is_an_error(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(InputError, match="damaged"):
        unpack(
            write(
                tmp_path,
                f"a{suffix}",
                PACKED[suffix] + b"<html>504 Gateway Timeout</html>",
            )
        )


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_no_bytes_at_all_is_no_empty_archive(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(InputError, match="0 bytes is not even an empty"):
        unpack(write(tmp_path, f"a{suffix}", b""))


def test_name_and_content_that_disagree(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds gzip data but its name does not say so"):
        unpack(write(tmp_path, "a.jsonl", PACKED[".gz"]))
    with pytest.raises(InputError, match=r"is not gzip data"):
        unpack(write(tmp_path, "a.jsonl.gz", TEXT))
    with pytest.raises(InputError, match=r"is not zstd data"):
        unpack(write(tmp_path, "a.jsonl.zst", PACKED[".gz"]))


def test_a_file_written_to_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", TEXT)
    with HashedFile(str(path)) as stream:
        stream.read(100)
        with path.open("ab") as other:
            other.write(b"more")
        with pytest.raises(InputError, match="changed while it was being read"):
            stream.finish()


def test_random_access_gives_the_hashed_bytes(tmp_path: Path) -> None:
    path = write(tmp_path, "a.bin", TEXT)
    with HashedFile(str(path)) as stream, stream.random_access() as handle:
        handle.seek(1000)
        assert handle.read(50) == TEXT[1000:1050]
        assert stream.finish() == (len(TEXT), hashlib.sha256(TEXT).hexdigest())
