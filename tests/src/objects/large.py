"""Across ten thousand keys of a baseline, and what is large."""

import tempfile

from s3 import *


def every(**query):
    keys, prefixes = [], []
    for page in client().get_paginator("list_objects_v2").paginate(Bucket=BUCKET, **query):
        keys += [entry["Key"] for entry in page.get("Contents", [])]
        prefixes += [entry["Prefix"] for entry in page.get("CommonPrefixes", [])]
    return keys, prefixes


def case_ten_thousand():
    s3 = client()
    keys, _ = every()
    assert len(keys) == 10_000 and keys == sorted(keys)
    assert [len(found) for found in every(Delimiter="/")] == [0, 100]
    assert [len(found) for found in every(Prefix="f7/", Delimiter="/")] == [100, 0]
    assert s3.get_object(Bucket=BUCKET, Key="f7/107.txt")["Body"].read() == b"107"
    # 100 MB there and back, in parts as the client likes.
    with tempfile.TemporaryDirectory() as folder:
        body = os.urandom(MIB) * 100
        with open(f"{folder}/large", "wb") as file:
            file.write(body)
        s3.upload_file(f"{folder}/large", BUCKET, "large")
        assert "-" in s3.head_object(Bucket=BUCKET, Key="large")["ETag"], "not in parts"
        s3.download_file(BUCKET, "large", f"{folder}/back")
        with open(f"{folder}/back", "rb") as file:
            assert file.read() == body
    s3.copy({"Bucket": BUCKET, "Key": "large"}, BUCKET, "copy of large")
    assert s3.head_object(Bucket=BUCKET, Key="copy of large")["ContentLength"] == len(body)
    # Deletions stay with this environment, page by page.
    for start in range(0, 10_000, 1000):
        batch = [{"Key": key} for key in keys[start : start + 1000]]
        assert "Errors" not in s3.delete_objects(Bucket=BUCKET, Delete={"Objects": batch, "Quiet": True})
        assert len(every()[0]) == 10_000 - start - 1000 + 2
    assert every() == (["copy of large", "large"], [])


def case_tags_lists_and_forms():
    s3 = client()
    at_k = dict(Bucket=BUCKET, Key="k")
    s3.put_object(**at_k, Body=b"x", Tagging="a=1&b=sp+ace%2F")
    tags = [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "sp ace/"}]
    assert s3.get_object_tagging(**at_k)["TagSet"] == tags
    assert s3.get_object(**at_k)["ResponseMetadata"]["HTTPHeaders"]["x-amz-tagging-count"] == "2"
    s3.copy_object(Bucket=BUCKET, Key="copy", CopySource=at_k)
    s3.copy_object(Bucket=BUCKET, Key="other", CopySource=at_k, TaggingDirective="REPLACE", Tagging="c=3")
    assert s3.get_object_tagging(Bucket=BUCKET, Key="copy")["TagSet"] == tags
    assert s3.get_object_tagging(Bucket=BUCKET, Key="other")["TagSet"] == [{"Key": "c", "Value": "3"}]
    modified = s3.head_object(**at_k)["LastModified"]
    s3.put_object_tagging(**at_k, Tagging={"TagSet": [{"Key": "z", "Value": ""}]})
    assert s3.get_object_tagging(**at_k)["TagSet"] == [{"Key": "z", "Value": ""}]
    s3.delete_object_tagging(**at_k)
    assert s3.get_object_tagging(**at_k)["TagSet"] == []
    assert s3.get_object(**at_k)["Body"].read() == b"x" and s3.head_object(**at_k)["LastModified"] == modified
    refused("InvalidTag", s3.put_object_tagging, **at_k, Tagging={"TagSet": [{"Key": str(n), "Value": ""} for n in range(11)]})
    refused("NoSuchKey", s3.get_object_tagging, Bucket=BUCKET, Key="absent")
    refused("NoSuchKey", s3.put_object_tagging, Bucket=BUCKET, Key="absent", Tagging={"TagSet": []})
    # What frameworks ask when they copy, and set when they publish: it opens nothing.
    s3.put_object_acl(**at_k, ACL="public-read")
    acl = s3.get_object_acl(**at_k)
    assert [grant["Permission"] for grant in acl["Grants"]] == ["FULL_CONTROL"] and acl["Owner"]["ID"] in BUCKET
    assert fetch(f"{ENDPOINT}/{BUCKET}/k")[0] == 403
    refused("NoSuchKey", s3.get_object_acl, Bucket=BUCKET, Key="absent")

    conditions = [["content-length-range", 1, 1000], {"success_action_status": "201"}, ["starts-with", "$Content-Type", "text/"]]
    fields = {"success_action_status": "201"}
    form = s3.generate_presigned_post(BUCKET, "posted/a b.txt", Fields=fields, Conditions=conditions)

    def post(form, content, **changed):
        fields = {**form["fields"], "Content-Type": "text/x-own", **changed}
        parts = b"".join(
            b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (n.encode(), v.encode()) for n, v in fields.items()
        )
        file = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a b.txt"\r\nContent-Type: text/plain\r\n\r\n'
        body = parts + file + content + b"\r\n--b--\r\n"
        return fetch(form["url"], "POST", body, {"Content-Type": "multipart/form-data; boundary=b"})

    status, _, answer = post(form, b"content")
    assert status == 201, (status, answer)
    got = s3.get_object(Bucket=BUCKET, Key="posted/a b.txt")
    assert (got["Body"].read(), got["ContentType"]) == (b"content", "text/x-own"), got
    for what, answer in {
        "too long": post(form, b"x" * 1001), "another type": post(form, b"x", **{"Content-Type": "image/png"}),
        "another key": post(form, b"x", key="elsewhere"), "a field more": post(form, b"x", **{"x-amz-tagging": "a=b"}),
        "a signature of another": post({**form, "fields": {**form["fields"], "x-amz-signature": "0" * 64}}, b"x"),
        "no signature": post({**form, "fields": {"key": "unsigned"}}, b"x"),
        "another bucket": post({**form, "url": f"{ENDPOINT}/{os.environ['OTHER_BUCKET']}"}, b"x"),
    }.items():
        assert answer[0] in (400, 403), (what, answer)
    listed = [entry["Key"] for entry in s3.list_objects_v2(Bucket=BUCKET)["Contents"]]
    assert listed == ["copy", "k", "other", "posted/a b.txt"], listed
    # A header that no policy covers must not add to a form.
    extra = {"Content-Type": "multipart/form-data; boundary=b", "x-amz-acl": "public-read"}
    assert fetch(form["url"], "POST", b"--b--\r\n", extra)[0] in (400, 403)
    # One without a length, or with too much of it, is refused before it is read.
    for headers in ({"Content-Length": "10000000000"}, {"Transfer-Encoding": "chunked"}):
        assert raw("POST", f"/{BUCKET}", {"Content-Type": "multipart/form-data; boundary=b", **headers})[0] == 400, headers
