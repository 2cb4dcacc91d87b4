"""Real S3 clients with their defaults, told where to go only by the variables that an environment gets."""

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
