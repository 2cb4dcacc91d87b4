"""What the tests of removals, generations and sudden ends write and read."""

from s3 import *


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


def case_put_static():
    client().put_object(Bucket=BUCKET, Key="static/site.css", Body=os.environ["MARKER"].encode())


def case_put_marker_once():
    client().put_object(Bucket=BUCKET, Key="marker", Body=b"once")


def case_sees_marker():
    s3 = client()
    listed = [entry["Key"] for entry in s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])]
    assert listed == ["marker"], listed
    assert s3.get_object(Bucket=BUCKET, Key="marker")["Body"].read() == os.environ["MARKER"].encode()
