"""Signatures, other environments, what is not offered, CORS."""

from s3 import *


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
        lambda: s3.get_object_attributes(**at_k, ObjectAttributes=["ETag"]), lambda: s3.get_bucket_acl(Bucket=BUCKET),
        lambda: s3.put_bucket_acl(Bucket=BUCKET, ACL="public-read"), lambda: s3.get_bucket_cors(Bucket=BUCKET),
        lambda: s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"}),
        lambda: s3.list_object_versions(Bucket=BUCKET), lambda: s3.get_bucket_policy(Bucket=BUCKET),
        lambda: s3.get_object(**at_k, VersionId="1"),
        lambda: s3.delete_object(**at_k, VersionId="1"), lambda: s3.put_object(**at_k, Body=b"", WebsiteRedirectLocation="/x"),
        lambda: s3.put_object(**at_k, Body=b"", SSECustomerAlgorithm="AES256", SSECustomerKey="k" * 32),
        lambda: s3.select_object_content(**at_k, Expression="x", ExpressionType="SQL", InputSerialization={"CSV": {}}, OutputSerialization={"CSV": {}}),
    ):
        error = refused("NotImplemented", call)
        assert "not offered by this object store" in str(error), error
    assert s3.get_object(**at_k)["Body"].read() == b"x"
    for host in ("other.test", f"x.{DOMAIN}", f"a.{BUCKET}.{DOMAIN}", "", "127.0.0.1"):
        assert raw("GET", f"/{BUCKET}/k", host=host)[0] == 421, host
    for host in (DOMAIN.upper(), f"{DOMAIN}.", f"{DOMAIN}:1", f"{BUCKET}.{DOMAIN}".upper()):
        assert raw("GET", f"/{BUCKET}/k", host=host)[0] == 403, host


def case_public():
    """Without a signature: what stands below the public prefixes may be read, and nothing else may be done or learnt."""
    s3 = client()
    for key in ("static/site.css", "static/new", "statically", "private/notes", "marker"):
        s3.put_object(Bucket=BUCKET, Key=key, Body=b"content of " + key.encode(), ContentType="text/css", ACL="public-read")
    base = f"{ENDPOINT}/{BUCKET}"
    status, headers, body = fetch(f"{base}/static/site.css")
    assert (status, headers["Content-Type"], body) == (200, "text/css", b"content of static/site.css"), status
    assert fetch(f"http://{BUCKET}.{DOMAIN}:{PORT}/static/site.css")[0] == 200, "by the bucket's own host"
    assert fetch(f"{base}/static/site.css", method="HEAD")[0] == 200
    assert fetch(f"{base}/static/site.css", headers={"Range": "bytes=0-6"})[2] == b"content"
    assert fetch(f"{base}/static/absent")[0] == 404
    closed = {
        "elsewhere": ("GET", "/private/notes"), "absent elsewhere": ("GET", "/private/absent"),
        "a longer name": ("GET", "/statically"), "climbing": ("GET", "/static/../private/notes"),
        "encoded": ("GET", "/static%2F..%2Fprivate%2Fnotes"), "listing": ("GET", "/?prefix=static/"),
        "listing 2": ("GET", "/?list-type=2&prefix=static/"), "bucket": ("HEAD", "/"), "put": ("PUT", "/static/new"),
        "delete": ("DELETE", "/static/new"), "upload": ("POST", "/static/new?uploads"), "acl": ("GET", "/static/new?acl"),
        "other content": ("GET", "/static/new?response-content-type=text/html"),
        "other content, encoded": ("GET", "/static/new?response%2Dcontent%2Dtype=text/html"),
        "attributes": ("GET", "/static/new?attributes"), "tags": ("GET", "/static/new?tagging"),
    }
    for what, (method, path) in closed.items():
        status, _, body = fetch(base + path, method=method, data=b"x" if method in ("PUT", "POST") else None)
        # A key that climbs is a key like any other, below the prefix, and there is none such.
        expected = 404 if what in ("climbing", "encoded") else 403
        assert status == expected and b"content of" not in body, f"{what}: {status} {body}"
    assert fetch(f"{ENDPOINT}/{os.environ['OTHER_BUCKET']}/static/site.css")[0] == 403, "another bucket opens nothing"
    copied = {"x-amz-copy-source": f"/{BUCKET}/private/notes"}
    assert fetch(f"{base}/static/new", method="PUT", data=b"", headers=copied)[0] == 403
    assert s3.get_object(Bucket=BUCKET, Key="static/new")["Body"].read() == b"content of static/new"


def case_public_as_before():
    """While another generation comes up, and after this one has gone: whose public objects are shown."""
    shown = fetch(f"{ENDPOINT}/{BUCKET}/static/site.css")
    assert (shown[0], shown[2]) == (200, os.environ["SHOWN"].encode()), shown


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
