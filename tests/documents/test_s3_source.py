"""Sources in an object store: the same files under another address, and what a store's failures become."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from olmo_core.documents import streams
from olmo_core.documents.dolma_jsonl import DolmaJsonlSource
from olmo_core.documents.files import hash_file
from olmo_core.documents.parquet import ParquetSource
from olmo_core.documents.reader import read_documents, scan
from olmo_core.errors import InputError, TransientStorageError
from tests.documents.s3_standin import Bucket, serve

LINES = b"".join(b'{"id":"%d","text":"text number %d"}\n' % (i, i) for i in range(20_000))


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    import s3fs  # type: ignore[import-untyped]

    with serve(made := Bucket()) as endpoint:
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
        streams._s3_client.cache_clear()
        s3fs.S3FileSystem.clear_instance_cache()
        yield made
        streams._s3_client.cache_clear()
        s3fs.S3FileSystem.clear_instance_cache()


def jsonl(*paths: str, root: str | None = None) -> DolmaJsonlSource:
    return DolmaJsonlSource(name="s", paths=paths, root=root)


def test_the_same_files_are_the_same_under_another_prefix(bucket: Bucket, tmp_path: Path) -> None:
    for name, body in (
        ("a/1.jsonl.gz", gzip.compress(LINES)),
        ("b/2.jsonl", b'{"id":"x","text":"y"}\n'),
    ):
        bucket.objects[f"deep/data/{name}"] = body
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(body)
    bucket.objects["deep/data/"] = b""  # what consoles make for a folder
    bucket.objects["deep/data-other/3.jsonl"] = b"not ours"
    remote, local = jsonl("s3://bucket/deep/data/**"), jsonl(f"{tmp_path}/**")
    there, here = scan(remote), scan(local)
    assert [(f.name, f.size) for f in there] == [(f.name, f.size) for f in here]
    assert [f.name for f in there] == ["a/1.jsonl.gz", "b/2.jsonl"]
    assert [hash_file(f) for f in there] == [hash_file(f) for f in here]
    for one, other in zip(read_documents(remote, there), read_documents(local, here), strict=True):
        assert one.documents.equals(other.documents)
        assert one.finished == other.finished


def test_a_version_changes_with_the_content(bucket: Bucket) -> None:
    bucket.objects["a.jsonl"] = b'{"id":"1","text":"x"}\n'
    before = scan(jsonl("s3://bucket/*.jsonl"))
    bucket.objects["a.jsonl"] = b'{"id":"1","text":"y"}\n'
    after = scan(jsonl("s3://bucket/*.jsonl"))
    assert before[0].version != after[0].version
    expected = {before[0].name: (before[0].size, hash_file(before[0]))}
    bucket.objects["a.jsonl"] = b'{"id":"1","text":"z"}\n'
    with pytest.raises(InputError, match=r"a\.jsonl changed: the inventory says"):
        list(read_documents(jsonl(), after, expected))


def test_parquet_is_read_by_one_request(bucket: Bucket) -> None:
    handle = io.BytesIO()
    pq.write_table(pa.table({"id": ["1", "2"], "text": ["one", "two"]}), handle)
    bucket.objects["p/x.parquet"] = handle.getvalue()
    source = ParquetSource(name="p", paths=("s3://bucket/p/*.parquet",))
    (batch,) = read_documents(source, scan(source))
    assert batch.documents["text"].to_pylist() == ["one", "two"]
    assert bucket.asked["p/x.parquet"] == 1


@pytest.mark.parametrize("path", ["s3://bucket/data/*.gz", "s3://bucket/data/x.jsonl"])
def test_no_match_names_the_pattern_and_what_is_there(bucket: Bucket, path: str) -> None:
    bucket.objects["data/y.jsonl"] = b""
    with pytest.raises(
        InputError,
        match=r"(?s)'s'.*s3://bucket/data/(\*\.gz|x\.jsonl) matches no file.*y\.jsonl",
    ):
        scan(jsonl(path))


def test_a_bucket_that_does_not_exist_is_an_input_error(bucket: Bucket) -> None:
    with pytest.raises(InputError, match=r"s3://none/x/\*\.gz \(source 's'\).*not there"):
        scan(jsonl("s3://none/x/*.gz"))


def test_refused_credentials_are_an_input_error_that_says_what_to_check(
    bucket: Bucket,
) -> None:
    bucket.objects["a.jsonl"] = LINES
    bucket.status["a.jsonl"] = 403
    files = scan(jsonl("s3://bucket/a.jsonl"))
    with pytest.raises(InputError, match=r"refuses the credentials.*AWS_ACCESS_KEY_ID"):
        hash_file(files[0])


def test_an_overloaded_store_is_worth_another_try(bucket: Bucket) -> None:
    bucket.objects["a.jsonl"] = LINES
    bucket.status["a.jsonl"] = 503
    with pytest.raises(TransientStorageError, match=r"a\.jsonl"):
        hash_file(scan(jsonl("s3://bucket/a.jsonl"))[0])


def test_a_store_that_does_not_answer_is_worth_another_try(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket.objects["a.jsonl"] = LINES
    files = scan(jsonl("s3://bucket/a.jsonl"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    streams._s3_client.cache_clear()
    with pytest.raises(TransientStorageError, match="did not answer"):
        hash_file(files[0])


@pytest.mark.parametrize("times", [1, 1000])
def test_a_connection_cut_half_way_never_gives_half_a_file(
    bucket: Bucket, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smart_open.s3.time.sleep", lambda seconds: None)
    body = gzip.compress(LINES, 1)
    bucket.objects["a.jsonl.gz"] = body
    bucket.cut["a.jsonl.gz"] = times
    source = jsonl("s3://bucket/a.jsonl.gz")
    files = scan(source)
    if times == 1000:
        with pytest.raises(TransientStorageError, match="did not answer"):
            list(read_documents(source, files))
    else:
        assert sum(b.documents.num_rows for b in read_documents(source, files)) == 20_000
