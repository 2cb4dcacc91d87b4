"""Objects one by one: content, ranges, conditions, odd keys."""

from s3 import *


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
