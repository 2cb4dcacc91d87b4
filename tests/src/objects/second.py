"""An S3 server that Sidestage has not written, in memory, until standard input ends. `second.py [CALLS]`: it believes the
first so many calls and authorises later ones."""

import os
import sys

if len(sys.argv) > 1:
    os.environ["INITIAL_NO_AUTH_ACTION_COUNT"] = sys.argv[1]

import logging

from moto.server import ThreadedMotoServer

logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print("port", server.get_host_and_port()[1], flush=True)
sys.stdin.read()
os._exit(0)
