"""A real S3 client with its defaults, told where to go only by the variables that an environment gets.

`client.py CASE` runs one case; an assertion that fails ends it with its traceback.
"""

import base64
import datetime
import hashlib
import http.client
import io
import json
import os
import socket
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import zlib
from concurrent.futures import ThreadPoolExecutor

import boto3
import botocore.auth
from boto3.s3.transfer import TransferConfig
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.client import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

BUCKET = os.environ["S3_BUCKET"]
ENDPOINT = os.environ["AWS_ENDPOINT_URL_S3"]
DOMAIN = urllib.parse.urlsplit(ENDPOINT).hostname
PORT = urllib.parse.urlsplit(ENDPOINT).port
MIB = 1 << 20

# Every name of the domain is this machine, as it is in a container's hosts file.
_resolve = socket.getaddrinfo


def _at_home(host, *rest, **more):
    if host == DOMAIN or str(host).endswith("." + DOMAIN):
        host = "127.0.0.1"
    return _resolve(host, *rest, **more)


socket.getaddrinfo = _at_home


def client(**config):
    return boto3.client("s3", config=Config(**config) if config else None)


def refused(code, call, *args, **kwargs):
    try:
        answer = call(*args, **kwargs)
    except ClientError as error:
        status = str(error.response["ResponseMetadata"]["HTTPStatusCode"])
        found = error.response["Error"]["Code"]
        assert code in (found, status), f"{code} expected, not {found} ({status}): {error}"
        return error
    raise AssertionError(f"{code} expected, not {answer}")


def fetch(url, method="GET", data=None, headers=None):
    """Status, headers, body, as a browser would get them."""
    request = urllib.request.Request(url, data=data, method=method, headers=headers or {})
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def raw(method, target, headers=None, body=None, host=None):
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=30)
    connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
    if host != "":
        connection.putheader("Host", host or f"{DOMAIN}:{PORT}")
    for name, value in (headers or {}).items():
        connection.putheader(name, value)
    connection.endheaders()
    if body:
        connection.send(body)
    answer = connection.getresponse()
    return answer.status, answer.headers, answer.read()


def case_objects():
    s3 = client()
    body = os.urandom(300_000)
    put = s3.put_object(
        Bucket=BUCKET, Key="a/b.bin", Body=body, ContentType="image/x-test", CacheControl="max-age=7",
        ContentDisposition='attachment; filename="b"', ContentLanguage="nl", ContentEncoding="identity",
        Metadata={"color": "blue", "Size": "L"}, ACL="public-read", StorageClass="STANDARD",
        ServerSideEncryption="AES256",
    )
    assert put["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
    crc = base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()
    assert put["ChecksumCRC32"] == crc, put
    got = s3.get_object(Bucket=BUCKET, Key="a/b.bin")
    assert got["Body"].read() == body
    head = s3.head_object(Bucket=BUCKET, Key="a/b.bin", ChecksumMode="ENABLED")
    for answer in (got, head):
        assert answer["ContentLength"] == len(body)
        assert answer["ContentType"] == "image/x-test"
        assert answer["CacheControl"] == "max-age=7"
        assert answer["ContentLanguage"] == "nl"
        assert answer["ContentEncoding"] == "identity"
        assert answer["ContentDisposition"] == 'attachment; filename="b"'
        assert answer["Metadata"] == {"color": "blue", "size": "L"}, answer["Metadata"]
        assert answer["ETag"] == put["ETag"]
        assert answer["ChecksumCRC32"] == crc
    assert abs(head["LastModified"].timestamp() - time.time()) < 60
    s3.put_object(Bucket=BUCKET, Key="empty", Body=b"")
    assert s3.get_object(Bucket=BUCKET, Key="empty")["Body"].read() == b""
    assert s3.head_object(Bucket=BUCKET, Key="empty")["ContentType"] == "binary/octet-stream"
    refused("NoSuchKey", s3.get_object, Bucket=BUCKET, Key="absent")
    refused("404", s3.head_object, Bucket=BUCKET, Key="absent")
    # Replaced: the new one, whole.
    s3.put_object(Bucket=BUCKET, Key="a/b.bin", Body=b"new")
    assert s3.get_object(Bucket=BUCKET, Key="a/b.bin")["Body"].read() == b"new"
    # A digest that is not that of the bytes.
    wrong = base64.b64encode(hashlib.md5(b"other").digest()).decode()
    refused("BadDigest", s3.put_object, Bucket=BUCKET, Key="digest", Body=b"this", ContentMD5=wrong)
    refused("BadDigest", s3.put_object, Bucket=BUCKET, Key="digest", Body=b"this", ChecksumCRC32="AAAAAA==")
    refused("404", s3.head_object, Bucket=BUCKET, Key="digest")
    for algorithm in ("CRC32", "CRC32C", "SHA1", "SHA256", "CRC64NVME"):
        try:
            s3.put_object(Bucket=BUCKET, Key="sum", Body=b"sum", ChecksumAlgorithm=algorithm)
        except Exception as error:  # the client's own lack of an optional library
            assert "crt" in str(error).lower(), error
            continue
        assert s3.get_object(Bucket=BUCKET, Key="sum", ChecksumMode="ENABLED")[f"Checksum{algorithm}"]
    s3.delete_object(Bucket=BUCKET, Key="a/b.bin")
    s3.delete_object(Bucket=BUCKET, Key="a/b.bin")
    refused("NoSuchKey", s3.get_object, Bucket=BUCKET, Key="a/b.bin")


def case_ranges_and_conditions():
    s3 = client()
    body = bytes(range(256)) * 400
    etag = s3.put_object(Bucket=BUCKET, Key="k", Body=body)["ETag"]
    size = len(body)
    for text, want in (
        ("bytes=0-0", body[:1]), ("bytes=10-19", body[10:20]), ("bytes=100000-", body[100000:]),
        ("bytes=-5", body[-5:]), ("bytes=-999999", body), (f"bytes=5-{size * 2}", body[5:]),
    ):
        answer = s3.get_object(Bucket=BUCKET, Key="k", Range=text)
        assert answer["Body"].read() == want, text
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 206
        first = size - len(want) if text.startswith("bytes=-") else int(text[6:].split("-")[0])
        assert answer["ContentRange"] == f"bytes {first}-{first + len(want) - 1}/{size}", answer["ContentRange"]
    refused("InvalidRange", s3.get_object, Bucket=BUCKET, Key="k", Range=f"bytes={size}-")
    s3.put_object(Bucket=BUCKET, Key="none", Body=b"")
    refused("InvalidRange", s3.get_object, Bucket=BUCKET, Key="none", Range="bytes=-5")
    modified = s3.head_object(Bucket=BUCKET, Key="k")["LastModified"]
    for call in (s3.get_object, s3.head_object):
        call(Bucket=BUCKET, Key="k", IfMatch=etag)
        call(Bucket=BUCKET, Key="k", IfNoneMatch='"other"')
        call(Bucket=BUCKET, Key="k", IfUnmodifiedSince=modified)
        refused("412", call, Bucket=BUCKET, Key="k", IfMatch='"other"')
        error = refused("304", call, Bucket=BUCKET, Key="k", IfNoneMatch=etag)
        assert error.response["ResponseMetadata"]["HTTPHeaders"]["etag"] == etag
        refused("304", call, Bucket=BUCKET, Key="k", IfModifiedSince=modified)
    refused("412", s3.put_object, Bucket=BUCKET, Key="k", Body=b"x", IfNoneMatch="*")
    refused("412", s3.put_object, Bucket=BUCKET, Key="k", Body=b"x", IfMatch='"other"')
    refused("404", s3.put_object, Bucket=BUCKET, Key="absent", Body=b"x", IfMatch=etag)
    assert s3.get_object(Bucket=BUCKET, Key="k")["Body"].read() == body
    s3.put_object(Bucket=BUCKET, Key="new", Body=b"x", IfNoneMatch="*")
    s3.put_object(Bucket=BUCKET, Key="k", Body=b"y", IfMatch=etag)
    # Of many who write a new key at once, one does.
    def claim(number):
        try:
            s3.put_object(Bucket=BUCKET, Key="claimed", Body=b"%d" % number, IfNoneMatch="*")
            return number
        except ClientError as error:
            assert error.response["Error"]["Code"] == "PreconditionFailed", error
            return None
    with ThreadPoolExecutor(8) as pool:
        winners = [number for number in pool.map(claim, range(8)) if number is not None]
    assert len(winners) == 1, winners
    assert s3.get_object(Bucket=BUCKET, Key="claimed")["Body"].read() == b"%d" % winners[0]


def odd_keys():
    long = "é" * 512
    assert len(long.encode()) == 1024
    return sorted([
        "..", "../up", "a/../b", "a/./b", ".", "//", "//x", "x//y", "/lead", "p", "p/q", "p/", "d/", "sp ace é", "+", "a+b c",
        "%2F", "%", "?q=1", "#frag", "&amp;<b>\"'", "日本語/キー", "~_-.!*()", "a\\b", "=;:@,$", "\u00ff", "x" * 1024, long,
        "seg/" * 255 + "end", "tab\there", "line\nbreak", "\x01ctl", "🎈", "e\u0301", "CON", "index.sqlite",
    ], key=str.encode)


def case_keys():
    for s3 in (client(), client(s3={"addressing_style": "virtual"})):
        for key in odd_keys():
            s3.put_object(Bucket=BUCKET, Key=key, Body=key.encode(), Metadata={"n": "1"})
        for key in odd_keys():
            assert s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() == key.encode(), key
            assert s3.head_object(Bucket=BUCKET, Key=key)["ContentLength"] == len(key.encode()), key
            url = s3.generate_presigned_url("get_object", {"Bucket": BUCKET, "Key": key})
            # Clients of URLs drop dot segments; what they then ask for is another key, and not signed.
            if not any(part in (".", "..") for part in key.split("/")):
                assert fetch(url)[2] == key.encode(), (key, url)
        listed = [entry["Key"] for entry in s3.list_objects_v2(Bucket=BUCKET)["Contents"]]
        assert listed == odd_keys(), set(listed) ^ set(odd_keys())
        for number, key in enumerate(odd_keys()):
            s3.copy_object(Bucket=BUCKET, Key="copy", CopySource={"Bucket": BUCKET, "Key": key})
            assert s3.get_object(Bucket=BUCKET, Key="copy")["Body"].read() == key.encode(), key
        s3.delete_object(Bucket=BUCKET, Key="copy")
        s3.delete_object(Bucket=BUCKET, Key="p")
        assert s3.get_object(Bucket=BUCKET, Key="p/q")["Body"].read() == b"p/q"
        # XML cannot tell of control characters, in an answer that has no encoding for them.
        told = [key for key in odd_keys() if "\x01" not in key]
        gone = s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": key} for key in told]})
        assert [entry["Key"] for entry in gone["Deleted"]] == told, gone
        rest = [{"Key": key} for key in odd_keys() if key not in told]
        assert "Errors" not in s3.delete_objects(Bucket=BUCKET, Delete={"Objects": rest, "Quiet": True})
        left = [entry["Key"] for entry in s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])]
        assert left == [], left
    refused("KeyTooLongError", client().put_object, Bucket=BUCKET, Key="x" * 1025, Body=b"")


def pages(call, **query):
    """Every key and common prefix over all pages, in the order of pages, and how many pages there were."""
    found, count = [], 0
    for page in client().get_paginator(call).paginate(Bucket=BUCKET, **query):
        count += 1
        entries = [entry["Key"] for entry in page.get("Contents", [])]
        entries += [entry["Prefix"] for entry in page.get("CommonPrefixes", [])]
        found += sorted(entries, key=str.encode)
    return found, count


def expected(keys, prefix="", delimiter="", after=""):
    found = []
    for key in sorted(keys, key=str.encode):
        if not key.startswith(prefix):
            continue
        at = key.find(delimiter, len(prefix)) if delimiter else -1
        entry = key if at < 0 else key[: at + len(delimiter)]
        if entry not in found and entry.encode() > after.encode():
            found.append(entry)
    return found


def case_listing():
    s3 = client()
    keys = [f"dir{i % 7}/sub{i % 3}/file{i:03}" for i in range(120)] + [f"top{i:02}" for i in range(30)]
    keys += ["a", "a/", "a/b", "a//b", "a-b", "z é+", "日本/1", "日本/2", "dir1", "dir1-"]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: s3.put_object(Bucket=BUCKET, Key=key, Body=b"x"), keys))
    tried = 0
    for call in ("list_objects", "list_objects_v2"):
        for prefix in ("", "dir1", "dir1/", "a", "a/", "日本", "nothing", "dir1/sub0/file0"):
            for delimiter in ("", "/", "ub", "é"):
                for size in (1, 3, 1000):
                    if size == 1 and not prefix and not delimiter:
                        continue
                    got, count = pages(
                        call, Prefix=prefix, PaginationConfig={"PageSize": size},
                        **({"Delimiter": delimiter} if delimiter else {}),
                    )
                    want = expected(keys, prefix, delimiter)
                    assert got == want, (call, prefix, delimiter, size, got, want)
                    assert count == max(1, -(-len(want) // size)), (call, prefix, delimiter, size, count)
                    tried += 1
    assert tried > 150
    for after in ("dir1/", "dir1/zzz", "top10", "zzzz", "a"):
        answer = s3.list_objects_v2(Bucket=BUCKET, StartAfter=after, FetchOwner=True)
        assert [entry["Key"] for entry in answer.get("Contents", [])] == expected(keys, after=after), after
        answer = s3.list_objects(Bucket=BUCKET, Marker=after)
        assert [entry["Key"] for entry in answer.get("Contents", [])] == expected(keys, after=after), after
    # The common prefix that a page ended with is not begun again.
    answer = s3.list_objects(Bucket=BUCKET, Marker="dir1/", Delimiter="/")
    assert "dir1/" not in [entry["Prefix"] for entry in answer["CommonPrefixes"]]
    nothing = s3.list_objects_v2(Bucket=BUCKET, MaxKeys=0)
    assert nothing["KeyCount"] == 0 and not nothing["IsTruncated"]
    entry = s3.list_objects_v2(Bucket=BUCKET, Prefix="top00")["Contents"][0]
    assert entry["Size"] == 1 and entry["ETag"] == f'"{hashlib.md5(b"x").hexdigest()}"'
    # Encoded on the wire, so that XML can hold every key.
    url = s3.generate_presigned_url("list_objects_v2", {"Bucket": BUCKET, "Prefix": "z", "EncodingType": "url"})
    assert b"<Key>z%20%C3%A9%2B</Key>" in fetch(url)[2], fetch(url)
    refused("InvalidArgument", s3.list_objects_v2, Bucket=BUCKET, ContinuationToken="?!")
    many = s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": key} for key in keys], "Quiet": True})
    assert "Deleted" not in many and "Errors" not in many
    assert s3.list_objects_v2(Bucket=BUCKET)["KeyCount"] == 0


def case_copy():
    s3 = client()
    s3.put_object(Bucket=BUCKET, Key="src", Body=b"content", ContentType="text/x", Metadata={"m": "1"})
    etag = s3.head_object(Bucket=BUCKET, Key="src")["ETag"]
    source = {"Bucket": BUCKET, "Key": "src"}
    assert s3.copy_object(Bucket=BUCKET, Key="dst", CopySource=source)["CopyObjectResult"]["ETag"] == etag
    s3.delete_object(Bucket=BUCKET, Key="src")
    got = s3.get_object(Bucket=BUCKET, Key="dst")
    assert got["Body"].read() == b"content" and got["ContentType"] == "text/x" and got["Metadata"] == {"m": "1"}
    source = {"Bucket": BUCKET, "Key": "dst"}
    refused("InvalidRequest", s3.copy_object, Bucket=BUCKET, Key="dst", CopySource=source)
    s3.copy_object(Bucket=BUCKET, Key="dst", CopySource=source, MetadataDirective="REPLACE", Metadata={"n": "2"})
    got = s3.get_object(Bucket=BUCKET, Key="dst")
    assert got["Body"].read() == b"content" and got["Metadata"] == {"n": "2"}
    refused("412", s3.copy_object, Bucket=BUCKET, Key="e", CopySource=source, CopySourceIfMatch='"other"')
    refused("412", s3.copy_object, Bucket=BUCKET, Key="e", CopySource=source, CopySourceIfNoneMatch=etag)
    refused("NoSuchKey", s3.copy_object, Bucket=BUCKET, Key="e", CopySource={"Bucket": BUCKET, "Key": "absent"})


def case_multipart():
    s3 = client()
    body = os.urandom(12 * MIB + 345)
    transfer = TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB)
    s3.upload_fileobj(io.BytesIO(body), BUCKET, "big", Config=transfer, ExtraArgs={"ContentType": "x/y", "Metadata": {"a": "b"}})
    head = s3.head_object(Bucket=BUCKET, Key="big", ChecksumMode="ENABLED")
    parts = [body[at : at + 5 * MIB] for at in range(0, len(body), 5 * MIB)]
    digest = hashlib.md5(b"".join(hashlib.md5(part).digest() for part in parts)).hexdigest()
    assert head["ETag"] == f'"{digest}-3"', head["ETag"]
    sums = b"".join(zlib.crc32(part).to_bytes(4, "big") for part in parts)
    assert head["ChecksumCRC32"] == base64.b64encode(zlib.crc32(sums).to_bytes(4, "big")).decode() + "-3", head
    assert head["ChecksumType"] == "COMPOSITE"
    assert head["ContentType"] == "x/y" and head["Metadata"] == {"a": "b"} and head["ContentLength"] == len(body)
    whole = io.BytesIO()
    s3.download_fileobj(BUCKET, "big", whole, Config=transfer)
    assert whole.getvalue() == body
    second = s3.get_object(Bucket=BUCKET, Key="big", PartNumber=2)
    assert second["Body"].read() == parts[1] and second["PartsCount"] == 3
    # Copied part by part, by the client's own choice.
    s3.copy({"Bucket": BUCKET, "Key": "big"}, BUCKET, "big2", Config=transfer)
    assert s3.get_object(Bucket=BUCKET, Key="big2")["Body"].read() == body
    s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": "big"}, {"Key": "big2"}]})

    # By hand: parts in any order, one replaced, one left out.
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key="hand", ChecksumAlgorithm="CRC32", ChecksumType="FULL_OBJECT")["UploadId"]
    one = dict(Bucket=BUCKET, Key="hand", UploadId=upload)
    assert s3.list_multipart_uploads(Bucket=BUCKET)["Uploads"][0]["UploadId"] == upload
    s3.upload_part(**one, PartNumber=3, Body=b"tail")
    s3.upload_part(**one, PartNumber=1, Body=b"old")
    first = s3.upload_part(**one, PartNumber=1, Body=parts[0])["ETag"]
    s3.upload_part(**one, PartNumber=2, Body=b"left out")
    listed = s3.list_parts(**one)
    assert [(p["PartNumber"], p["Size"]) for p in listed["Parts"]] == [(1, 5 * MIB), (2, 8), (3, 4)]
    page = s3.list_parts(**one, MaxParts=1)
    assert page["IsTruncated"] and page["NextPartNumberMarker"] == 1
    assert [p["PartNumber"] for p in s3.list_parts(**one, PartNumberMarker=1)["Parts"]] == [2, 3]
    tail = f'"{hashlib.md5(b"tail").hexdigest()}"'
    wrong = [{"PartNumber": 1, "ETag": tail}]
    refused("InvalidPart", s3.complete_multipart_upload, **one, MultipartUpload={"Parts": wrong})
    backwards = [{"PartNumber": 3, "ETag": tail}, {"PartNumber": 1, "ETag": first}]
    refused("InvalidPartOrder", s3.complete_multipart_upload, **one, MultipartUpload={"Parts": backwards})
    small = [{"PartNumber": 2, "ETag": f'"{hashlib.md5(b"left out").hexdigest()}"'}, {"PartNumber": 3, "ETag": tail}]
    refused("EntityTooSmall", s3.complete_multipart_upload, **one, MultipartUpload={"Parts": small})
    refused("404", s3.head_object, Bucket=BUCKET, Key="hand")
    right = [{"PartNumber": 1, "ETag": first}, {"PartNumber": 3, "ETag": tail}]
    done = s3.complete_multipart_upload(**one, MultipartUpload={"Parts": right})
    assert done["ChecksumType"] == "FULL_OBJECT"
    got = s3.get_object(Bucket=BUCKET, Key="hand", ChecksumMode="ENABLED")
    assert got["Body"].read() == parts[0] + b"tail"
    assert got["ChecksumCRC32"] == base64.b64encode(zlib.crc32(parts[0] + b"tail").to_bytes(4, "big")).decode()
    refused("NoSuchUpload", s3.complete_multipart_upload, **one, MultipartUpload={"Parts": right})
    refused("NoSuchUpload", s3.upload_part, **one, PartNumber=4, Body=b"late")
    uploads = [s3.create_multipart_upload(Bucket=BUCKET, Key=f"up{i // 2}")["UploadId"] for i in range(6)]
    seen, marker = [], {}
    while True:
        page = s3.list_multipart_uploads(Bucket=BUCKET, MaxUploads=1, **marker)
        seen += [(entry["Key"], entry["UploadId"]) for entry in page["Uploads"]]
        if not page["IsTruncated"]:
            break
        marker = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}
    assert seen == sorted((f"up{i // 2}", uploads[i]) for i in range(6)), seen
    assert len(s3.list_multipart_uploads(Bucket=BUCKET, Prefix="up1")["Uploads"]) == 2
    for i, upload in enumerate(uploads):
        s3.upload_part(Bucket=BUCKET, Key=f"up{i // 2}", UploadId=upload, PartNumber=1, Body=b"x")
        refused("NoSuchUpload", s3.upload_part, Bucket=BUCKET, Key="other", UploadId=upload, PartNumber=1, Body=b"x")
        s3.abort_multipart_upload(Bucket=BUCKET, Key=f"up{i // 2}", UploadId=upload)
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=BUCKET)
    s3.delete_object(Bucket=BUCKET, Key="hand")


def presigned_long_ago(signer, params):
    """An URL that was good for an hour, two hours ago."""
    now, clock = botocore.auth.get_current_datetime, time.time
    try:
        botocore.auth.get_current_datetime = lambda *a, **k: now(*a, **k) - datetime.timedelta(hours=2)
        time.time = lambda: clock() - 7200
        return signer.generate_presigned_url("get_object", params, ExpiresIn=3600)
    finally:
        botocore.auth.get_current_datetime, time.time = now, clock


def case_presigned():
    s3 = client()
    key = "pre signed+é.txt"
    s3.put_object(Bucket=BUCKET, Key=key, Body=b"seen", ContentType="text/plain")
    params = {"Bucket": BUCKET, "Key": key}
    for style in ("path", "virtual"):
        for version in ("s3v4", "s3"):
            signer = client(signature_version=version, s3={"addressing_style": style})
            url = signer.generate_presigned_url("get_object", {**params, "ResponseContentType": "text/x-other"})
            assert ("X-Amz-Signature" in url) == (version == "s3v4"), url
            assert (f"//{BUCKET}.{DOMAIN}" in url) == (style == "virtual"), url
            status, headers, body = fetch(url)
            assert (status, body, headers["Content-Type"]) == (200, b"seen", "text/x-other"), (url, status, body)
            # Nothing about it can be changed: the key, the signature, what it is for.
            assert fetch(url.replace("signed", "signet"))[0] == 403
            assert fetch(url.replace("Signature=", "Signature=0"))[0] in (400, 403)
            assert fetch(url, "DELETE")[0] in (403, 501)
            assert fetch(url, "PUT", b"x")[0] in (403, 501)
            status, _, body = fetch(presigned_long_ago(signer, params))
            assert status == 403 and b"expired" in body, (version, status, body)
    # The region of Amazon's own default makes this client presign in version 2.
    old = boto3.client("s3", region_name="us-east-1").generate_presigned_url("get_object", params)
    assert "AWSAccessKeyId" in old and fetch(old)[2] == b"seen", old
    put = client(signature_version="s3v4").generate_presigned_url("put_object", {"Bucket": BUCKET, "Key": "up"})
    assert fetch(put, "PUT", b"from a browser")[0] == 200
    assert s3.get_object(Bucket=BUCKET, Key="up")["Body"].read() == b"from a browser"
    put = client(signature_version="s3").generate_presigned_url("put_object", {"Bucket": BUCKET, "Key": "up"})
    assert fetch(put, "PUT", b"x")[0] == 501
    # Who may write one key must not read others by adding a header to the URL.
    s3.put_object(Bucket=BUCKET, Key="secret", Body=b"secret")
    url = client(signature_version="s3v4").generate_presigned_url("put_object", {"Bucket": BUCKET, "Key": "up"})
    extra = {"x-amz-copy-source": f"{BUCKET}/secret"}
    renamed = url.replace("X-Amz-SignedHeaders", "X-Amz-%53ignedHeaders")
    claim = {"Authorization": "AWS4-HMAC-SHA256 Credential=a/b/c/s3/aws4_request, SignedHeaders=x-amz-copy-source, Signature=0"}
    for target, headers in ((url, extra), (renamed, extra), (url, {**extra, **claim})):
        status, _, body = fetch(target, "PUT", b"", headers)
        assert status in (400, 403), (status, body)
    assert s3.get_object(Bucket=BUCKET, Key="up")["Body"].read() == b"from a browser"


def trailing_put(key, body, trailer, length=None):
    """What SDKs send over TLS by default: chunks, with the checksum behind them."""
    url = f"{ENDPOINT}/{BUCKET}/{key}"
    request = AWSRequest("PUT", url, headers={
        "x-amz-decoded-content-length": str(len(body) if length is None else length), "x-amz-trailer": "x-amz-checksum-crc32",
        "x-amz-sdk-checksum-algorithm": "CRC32", "Content-Encoding": "aws-chunked, gzip",
    })
    request.context["checksum"] = {"request_algorithm": {"in": "trailer"}}
    keys = Credentials(os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"])
    S3SigV4Auth(keys, "s3", "staging").add_auth(request)
    wire = b""
    for at in range(0, len(body), 70_000):
        chunk = body[at : at + 70_000]
        wire += b"%x\r\n%s\r\n" % (len(chunk), chunk)
    wire += b"0\r\nx-amz-checksum-crc32:%s\r\n\r\n" % trailer.encode()
    headers = {**dict(request.headers.items()), "Content-Length": str(len(wire))}
    return raw("PUT", f"/{BUCKET}/{key}", headers, wire)


def case_trailing_checksums():
    s3 = client()
    body = os.urandom(200_000)
    crc = base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()
    status, headers, answer = trailing_put("t", body, crc)
    assert status == 200, answer
    got = s3.get_object(Bucket=BUCKET, Key="t")
    assert got["Body"].read() == body and got["ChecksumCRC32"] == crc
    assert got["ContentEncoding"] == "gzip", got["ContentEncoding"]
    status, _, answer = trailing_put("u", body, "AAAAAA==")
    assert status == 400 and b"BadDigest" in answer, (status, answer)
    status, _, answer = trailing_put("u", body, crc, length=len(body) + 1)
    assert status == 400, (status, answer)
    refused("404", s3.head_object, Bucket=BUCKET, Key="u")


def case_signatures():
    s3 = client()
    s3.put_object(Bucket=BUCKET, Key="k", Body=b"x")
    keys = {"aws_access_key_id": os.environ["AWS_ACCESS_KEY_ID"], "aws_secret_access_key": os.environ["AWS_SECRET_ACCESS_KEY"]}
    wrong = boto3.client("s3", **{**keys, "aws_secret_access_key": "0" * 40})
    for call in (
        lambda: wrong.get_object(Bucket=BUCKET, Key="k"), lambda: wrong.put_object(Bucket=BUCKET, Key="k", Body=b"y"),
        lambda: wrong.list_objects_v2(Bucket=BUCKET), lambda: wrong.delete_object(Bucket=BUCKET, Key="k"),
    ):
        refused("SignatureDoesNotMatch", call)
    refused("InvalidAccessKeyId", boto3.client("s3", **{**keys, "aws_access_key_id": "A" * 20}).list_objects_v2, Bucket=BUCKET)
    for method in ("GET", "HEAD", "PUT", "DELETE", "POST"):
        for target in (f"/{BUCKET}/k", f"/{BUCKET}", "/"):
            assert raw(method, target)[0] in (403, 501), (method, target)
    refused("501", client(signature_version="s3").get_object, Bucket=BUCKET, Key="k")
    for region in ("us-east-1", "eu-central-1", "staging"):
        assert boto3.client("s3", region_name=region).get_object(Bucket=BUCKET, Key="k")["Body"].read() == b"x"
    # Refused while it holds its body back: the connection ends, since nobody knows whether the body still comes.
    status, headers, _ = raw("PUT", f"/{BUCKET}/k", {"Expect": "100-continue", "Content-Length": "5"})
    assert (status, headers["Connection"]) == (403, "close"), (status, headers)
    # A body that is not the one that was signed.
    url = f"{ENDPOINT}/{BUCKET}/tampered"
    request = AWSRequest("PUT", url, data=b"good")
    request.context["client_config"] = Config(s3={"payload_signing_enabled": True})
    S3SigV4Auth(Credentials(os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]), "s3", "staging").add_auth(request)
    headers = {**dict(request.headers.items()), "Content-Length": "4"}
    status, _, answer = raw("PUT", f"/{BUCKET}/tampered", headers, b"evil")
    assert status == 400, (status, answer)
    assert raw("PUT", f"/{BUCKET}/tampered", headers, b"good")[0] == 200
    assert s3.get_object(Bucket=BUCKET, Key="tampered")["Body"].read() == b"good"


def case_bucket_and_what_is_not_offered():
    s3 = client()
    assert [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]] == [BUCKET]
    assert s3.head_bucket(Bucket=BUCKET)["ResponseMetadata"]["HTTPHeaders"]["x-amz-bucket-region"] == "staging"
    assert s3.get_bucket_location(Bucket=BUCKET)["LocationConstraint"] == "staging"
    refused("BucketAlreadyOwnedByYou", s3.create_bucket, Bucket=BUCKET)
    refused("AccessDenied", s3.create_bucket, Bucket="another-bucket")
    refused("NotImplemented", s3.delete_bucket, Bucket=BUCKET)
    s3.put_object(Bucket=BUCKET, Key="k", Body=b"x")
    at_k = dict(Bucket=BUCKET, Key="k")
    for call in (
        lambda: s3.get_object_tagging(**at_k), lambda: s3.get_object_acl(**at_k), lambda: s3.get_bucket_acl(Bucket=BUCKET),
        lambda: s3.put_bucket_acl(Bucket=BUCKET, ACL="public-read"), lambda: s3.get_bucket_cors(Bucket=BUCKET),
        lambda: s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"}),
        lambda: s3.list_object_versions(Bucket=BUCKET), lambda: s3.get_bucket_policy(Bucket=BUCKET),
        lambda: s3.put_object(**at_k, Body=b"", Tagging="a=b"), lambda: s3.get_object(**at_k, VersionId="1"),
        lambda: s3.delete_object(**at_k, VersionId="1"), lambda: s3.put_object(**at_k, Body=b"", WebsiteRedirectLocation="/x"),
        lambda: s3.put_object(**at_k, Body=b"", SSECustomerAlgorithm="AES256", SSECustomerKey="k" * 32),
        lambda: s3.select_object_content(**at_k, Expression="x", ExpressionType="SQL", InputSerialization={"CSV": {}}, OutputSerialization={"CSV": {}}),
    ):
        error = refused("NotImplemented", call)
        assert "not offered by this object store" in str(error), error
    assert s3.get_object(**at_k)["Body"].read() == b"x"
    form = s3.generate_presigned_post(BUCKET, "posted")
    body = b"".join(
        b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (n.encode(), v.encode())
        for n, v in [*form["fields"].items(), ("file", "content")]
    ) + b"--b--\r\n"
    status, _, answer = fetch(form["url"], "POST", body, {"Content-Type": "multipart/form-data; boundary=b"})
    assert status == 501 and b"not offered" in answer, (status, answer)
    # Before any of it is read, so that it cannot fill the memory.
    endless = {"Content-Type": "multipart/form-data; boundary=b", "Content-Length": "10000000000"}
    assert raw("POST", f"/{BUCKET}", endless)[0] == 501
    for host in ("other.test", f"x.{DOMAIN}", f"a.{BUCKET}.{DOMAIN}", "", "127.0.0.1"):
        assert raw("GET", f"/{BUCKET}/k", host=host)[0] == 421, host
    for host in (DOMAIN.upper(), f"{DOMAIN}.", f"{DOMAIN}:1", f"{BUCKET}.{DOMAIN}".upper()):
        assert raw("GET", f"/{BUCKET}/k", host=host)[0] == 403, host


def case_strangers():
    """The other environment's credentials: nothing of ours, by any verb, in any spelling."""
    ours = boto3.client(
        "s3", aws_access_key_id=os.environ["OTHER_ACCESS_KEY_ID"], aws_secret_access_key=os.environ["OTHER_SECRET_ACCESS_KEY"]
    )
    theirs = os.environ["OTHER_BUCKET"]
    ours.put_object(Bucket=theirs, Key="secret", Body=b"secret")
    part = ours.create_multipart_upload(Bucket=theirs, Key="secret")["UploadId"]
    s3 = client()
    s3.put_object(Bucket=BUCKET, Key="mine", Body=b"mine")
    at = dict(Bucket=theirs, Key="secret")
    mine = dict(Bucket=BUCKET, Key="mine")
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key="mine")["UploadId"]
    foreign = {"Bucket": theirs, "Key": "secret"}
    table = {
        "get": lambda: s3.get_object(**at),
        "head": lambda: s3.head_object(**at),
        "put": lambda: s3.put_object(**at, Body=b"x"),
        "delete": lambda: s3.delete_object(**at),
        "delete many": lambda: s3.delete_objects(Bucket=theirs, Delete={"Objects": [{"Key": "secret"}]}),
        "list": lambda: s3.list_objects(Bucket=theirs),
        "list 2": lambda: s3.list_objects_v2(Bucket=theirs),
        "head bucket": lambda: s3.head_bucket(Bucket=theirs),
        "location": lambda: s3.get_bucket_location(Bucket=theirs),
        "create bucket": lambda: s3.create_bucket(Bucket=theirs),
        "copy from": lambda: s3.copy_object(**mine, CopySource=foreign),
        "copy from, encoded": lambda: s3.copy_object(**mine, CopySource=f"{theirs}/%73ecret"),
        "copy from, climbing": lambda: s3.copy_object(**mine, CopySource=f"{BUCKET}/../{theirs}/secret"),
        "copy to": lambda: s3.copy_object(**at, CopySource={"Bucket": BUCKET, "Key": "mine"}),
        "copy part from": lambda: s3.upload_part_copy(**mine, UploadId=upload, PartNumber=1, CopySource=foreign),
        "begin upload": lambda: s3.create_multipart_upload(**at),
        "list uploads": lambda: s3.list_multipart_uploads(Bucket=theirs),
        "upload part": lambda: s3.upload_part(**at, UploadId=part, PartNumber=1, Body=b"x"),
        "list parts": lambda: s3.list_parts(**at, UploadId=part),
        "abort": lambda: s3.abort_multipart_upload(**at, UploadId=part),
        "complete": lambda: s3.complete_multipart_upload(**at, UploadId=part, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": "x"}]}),
        "foreign upload id": lambda: s3.upload_part(Bucket=BUCKET, Key="secret", UploadId=part, PartNumber=1, Body=b"x"),
        "foreign upload id, parts": lambda: s3.list_parts(Bucket=BUCKET, Key="secret", UploadId=part),
        "foreign upload id, abort": lambda: s3.abort_multipart_upload(Bucket=BUCKET, Key="secret", UploadId=part),
        "get, climbing": lambda: s3.get_object(Bucket=BUCKET, Key=f"../{theirs}/secret"),
        "get, encoded": lambda: s3.get_object(Bucket=BUCKET, Key=f"..%2F{theirs}%2Fsecret"),
        "list, climbing": lambda: s3.get_object(Bucket=BUCKET, Key=s3.list_objects_v2(Bucket=BUCKET, Prefix=f"../{theirs}/").get("Contents", [{"Key": "absent"}])[0]["Key"]),
        "virtual host": lambda: client(s3={"addressing_style": "virtual"}).get_object(**at),
    }
    for name, call in table.items():
        try:
            answer = call()
        except ClientError as error:
            absent = "NoSuchUpload" if "upload id" in name else "NoSuchKey" if "climbing" in name or name == "get, encoded" else None
            assert error.response["Error"]["Code"] in ([absent] if absent else ["AccessDenied", "403"]), (name, error)
            continue
        raise AssertionError(f"{name}: {answer}")
    for host, target in ((f"{theirs}.{DOMAIN}:{PORT}", "/secret"), (f"{DOMAIN}:{PORT}", f"/{theirs}/secret")):
        for version in ("s3", "s3v4"):
            url = client(signature_version=version).generate_presigned_url("get_object", dict(at))
            status, _, body = fetch(url)
            assert status == 403 and b"secret</" not in body, (url, status)
            own = client(signature_version=version).generate_presigned_url("get_object", dict(mine))
            query = urllib.parse.urlsplit(own).query
            assert raw("GET", f"{target}?{query}", host=host)[0] == 403
    assert ours.get_object(**at)["Body"].read() == b"secret"
    assert s3.get_object(**mine)["Body"].read() == b"mine"
    assert len(ours.list_multipart_uploads(Bucket=theirs)["Uploads"]) == 1


def case_cors():
    sha, scheme = os.environ["OWN_SHA"], "http"
    other = os.environ["OTHER_SHA"]
    client().put_object(Bucket=BUCKET, Key="k", Body=b"x")
    own = [f"{scheme}://{sha}.{DOMAIN}:{PORT}", f"https://{sha}.{DOMAIN}", f"http://{sha}--api.{DOMAIN}", f"http://pr-7.{DOMAIN}"]
    not_own = [
        f"http://{other}.{DOMAIN}", f"http://{other}--api.{DOMAIN}", "http://evil.test", f"http://evil{DOMAIN}", f"http://{DOMAIN}",
        f"http://{BUCKET}.{DOMAIN}", f"http://{sha}.{DOMAIN}.evil.test", "null", f"http://a.{sha}.{DOMAIN}", f"ftp://{sha}.{DOMAIN}",
    ]
    url = client(signature_version="s3v4").generate_presigned_url("get_object", {"Bucket": BUCKET, "Key": "k"})
    for host, target in ((f"{DOMAIN}:{PORT}", f"/{BUCKET}/k"), (f"{BUCKET}.{DOMAIN}:{PORT}", "/k")):
        for origin in own + not_own:
            asked = {"Origin": origin, "Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "content-type,x-amz-acl"}
            status, headers, _ = raw("OPTIONS", target, asked, host=host)
            if origin in own:
                assert status == 200 and headers["Access-Control-Allow-Origin"] == origin, (origin, status)
                assert "PUT" in headers["Access-Control-Allow-Methods"]
                assert headers["Access-Control-Allow-Headers"] == "content-type,x-amz-acl"
                assert headers["Vary"] == "Origin" and "Access-Control-Allow-Credentials" not in headers
            else:
                assert status == 403 and "Access-Control-Allow-Origin" not in headers, (origin, status)
    for origin in own + not_own:
        status, headers, body = fetch(url, headers={"Origin": origin})
        assert (status, body) == (200, b"x")
        assert headers["Access-Control-Allow-Origin"] == (origin if origin in own else None), origin
        assert ("ETag" in (headers["Access-Control-Expose-Headers"] or "")) == (origin in own)
    # Errors are readable too, else a page cannot tell why.
    status, headers, _ = raw("GET", f"/{BUCKET}/k", {"Origin": own[0]})
    assert status == 403 and headers["Access-Control-Allow-Origin"] == own[0]


def case_fill():
    """Many objects and an upload under way."""
    s3 = client(max_pool_connections=16)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda n: s3.put_object(Bucket=BUCKET, Key=f"many/{n}", Body=b"%d" % n), range(int(os.environ["COUNT"]))))
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key="open")["UploadId"]
    for number in (1, 2):
        s3.upload_part(Bucket=BUCKET, Key="open", UploadId=upload, PartNumber=number, Body=b"part")


def content(key):
    """What is under a key, so that whoever reads it knows whether it is whole."""
    size = int(hashlib.sha256(key.encode()).hexdigest()[:4], 16) * 8
    return (key.encode() + b"|") * (size // len(key) + 1)


def case_write_until_killed():
    """Writes for as long as there is a server, and says on stdout what was acknowledged."""
    s3 = client(retries={"max_attempts": 1}, connect_timeout=2, read_timeout=5)
    lock = threading.Lock()

    def write(worker):
        for n in range(100_000):
            key = f"{os.environ['ROUND']}/{worker}/{n % 40}" if n % 3 else f"{os.environ['ROUND']}/{worker}/new{n}"
            try:
                s3.put_object(Bucket=BUCKET, Key=key, Body=content(key))
            except Exception:
                return
            with lock:
                print(key, flush=True)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))


def case_check_written():
    """Everything acknowledged is there, and everything that is there is whole."""
    s3 = client()
    acknowledged = set(json.load(sys.stdin))
    listed = [entry for page in s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET) for entry in page.get("Contents", [])]
    assert acknowledged and acknowledged <= {entry["Key"] for entry in listed}, "an acknowledged object is gone"
    for entry in listed:
        body = s3.get_object(Bucket=BUCKET, Key=entry["Key"])["Body"].read()
        assert body == content(entry["Key"]), f"{entry['Key']} is not whole"
        assert entry["ETag"] == f'"{hashlib.md5(body).hexdigest()}"' and entry["Size"] == len(body)
    print(len(listed))


def case_readers_see_whole_objects():
    """While one key is replaced again and again, everybody reads one version of it, at the first attempt."""
    s3 = client(max_pool_connections=16, retries={"max_attempts": 0})
    versions = [bytes([n]) * size for n, size in enumerate((10, 400_000, 70_000, 1, 5000))]
    s3.put_object(Bucket=BUCKET, Key="k", Body=versions[0])
    stop = threading.Event()

    def replace(n):
        while not stop.is_set():
            s3.put_object(Bucket=BUCKET, Key="k", Body=versions[n % 5])
            n += 1

    def read(worker):
        for n in range(80):
            answer = s3.get_object(Bucket=BUCKET, Key="k")
            body = answer["Body"].read()
            assert body in versions and answer["ETag"] == f'"{hashlib.md5(body).hexdigest()}"', len(body)
            if n % 8 == 0:
                key = f"{worker}/{n}"
                s3.copy_object(Bucket=BUCKET, Key=key, CopySource={"Bucket": BUCKET, "Key": "k"})
                assert s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() in versions

    with ThreadPoolExecutor(6) as pool:
        writers = [pool.submit(replace, n) for n in (0, 2, 3)]
        readers = [pool.submit(read, n) for n in range(3)]
        try:
            for reader in readers:
                reader.result()
        finally:
            stop.set()
        for writer in writers:
            writer.result()


def case_presign_put():
    print(client(signature_version="s3v4").generate_presigned_url("put_object", {"Bucket": BUCKET, "Key": "slow"}))


def case_is_refused():
    refused("InvalidAccessKeyId", client().list_objects_v2, Bucket=BUCKET)


def case_put_marker():
    client().put_object(Bucket=BUCKET, Key="marker", Body=os.environ["MARKER"].encode())


def case_put_marker_once():
    client().put_object(Bucket=BUCKET, Key="marker", Body=b"once")


def case_sees_marker():
    s3 = client()
    listed = [entry["Key"] for entry in s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])]
    assert listed == ["marker"], listed
    assert s3.get_object(Bucket=BUCKET, Key="marker")["Body"].read() == os.environ["MARKER"].encode()


globals()[f"case_{sys.argv[1]}"]()
