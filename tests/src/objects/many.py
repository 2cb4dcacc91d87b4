"""Listings, copies, uploads in parts."""

from s3 import *


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
