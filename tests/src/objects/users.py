"""Makes a bucket, and a user with a key for each policy: the calls that `second.py` believes."""

import json
import sys

import boto3

given = json.loads(sys.argv[1])
where = {
    "endpoint_url": given["endpoint"],
    "region_name": "us-east-1",
    "aws_access_key_id": "root",
    "aws_secret_access_key": "root",
}
iam = boto3.client("iam", **where)
boto3.client("s3", **where).create_bucket(Bucket=given["bucket"])
keys = []
for number, policy in enumerate(given["policies"]):
    name = f"user{number}"
    iam.create_user(UserName=name)
    iam.put_user_policy(UserName=name, PolicyName="all", PolicyDocument=policy)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    keys.append([key["AccessKeyId"], key["SecretAccessKey"]])
print(json.dumps(keys))
