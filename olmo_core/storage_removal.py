"""Removing much at once from a store, and what writes that were cut off leave there.

Those are temporary files of a folder, and unfinished uploads of a bucket: no reader ever sees them, but they take room,
and on S3 they are paid for.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from olmo_core.errors import StorageError
from olmo_core.storage import Storage
from olmo_core.storage_folder import TEMPORARY
from olmo_core.storage_s3 import client as s3_client

_BATCH = 1000
"""Most keys in one DeleteObjects request."""


@dataclass(frozen=True, kw_only=True)
class Leftover:
    """One unfinished write."""

    path: str
    """Of the temporary file, or of the object that was being uploaded; relative to the store's root."""
    size: int
    """Bytes; 0 for an upload, as S3 does not say."""
    modified: float
    """Seconds since the epoch."""
    upload: str | None = None
    """S3's name of the upload."""


def delete_many(storage: Storage, paths: Iterable[str]) -> int:
    """Remove objects, on S3 a thousand with one request; returns how many. An absent one is no error.

    Raises StorageError, naming one, when the store keeps any of them.
    """
    count, every = 0, iter(paths)
    while batch := list(itertools.islice(every, _BATCH)):
        count += len(batch)
        if storage.protocol != "s3":
            for path in batch:
                storage.delete(path)
            continue
        with storage._errors("delete", batch[0]):
            bucket = storage.bucket_key("")[0]
            keys = [{"Key": storage.bucket_key(path)[1]} for path in batch]
            answer = s3_client().delete_objects(Bucket=bucket, Delete={"Objects": keys, "Quiet": True})
        for failed in answer.get("Errors", []):
            raise StorageError(
                f"cannot delete s3://{bucket}/{failed['Key']}: the store says {failed['Code']}; look at the rights of your key"
            )
    return count


def leftovers(storage: Storage, before: float, below: str = "") -> Iterator[Leftover]:
    """Yield the unfinished writes below a folder that were last touched before a time (seconds since the epoch)."""
    if storage.protocol == "file":
        for folder, _, names in os.walk(storage.url(below)):
            for name in names:
                if name.startswith(TEMPORARY):
                    full = os.path.join(folder, name)
                    with contextlib.suppress(FileNotFoundError):
                        status = os.stat(full)
                        if status.st_mtime < before:
                            path = os.path.relpath(full, storage.uri)
                            yield Leftover(path=path, size=status.st_size, modified=status.st_mtime)
    elif storage.protocol == "s3":
        with storage._errors("list unfinished uploads below", below):
            bucket, prefix = storage.bucket_key(below)
            root = storage.bucket_key("")[1]
            pages = s3_client().get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=prefix)
            found = [one for page in pages for one in page.get("Uploads", [])]
        for one in found:
            started = one["Initiated"].timestamp()
            if started < before and one["Key"].startswith(f"{prefix}/" if prefix else ""):
                path = one["Key"][len(root) :].lstrip("/")
                yield Leftover(path=path, size=0, modified=started, upload=one["UploadId"])


def discard(storage: Storage, leftover: Leftover) -> None:
    """Remove one; it is no error when it is gone."""
    if leftover.upload is None:
        storage.delete(leftover.path)
        return
    client = s3_client()
    bucket, key = storage.bucket_key(leftover.path)
    with storage._errors("give up the upload of", leftover.path), contextlib.suppress(client.exceptions.NoSuchUpload):
        client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=leftover.upload)


def remove_folder(storage: Storage, path: str) -> None:
    """Remove everything at and below a path, unfinished writes too: nobody may be writing there any more."""
    delete_many(storage, [one.path for one in storage.walk(path)])
    for one in list(leftovers(storage, math.inf, path)):
        discard(storage, one)
    remove_empty_folders(storage, path)


def remove_empty_folders(storage: Storage, path: str) -> None:
    """Remove the folders at and below a path that hold nothing; object stores have none."""
    if storage.protocol == "file":
        for folder, _, _ in os.walk(storage.url(path), topdown=False):
            with contextlib.suppress(OSError):  # not empty, or gone
                os.rmdir(folder)
