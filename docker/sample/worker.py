"""Beats once a second, so that the page can tell whether the worker lives."""

import os
import signal
import threading
import time

import redis


def main():
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    cache = redis.Redis.from_url(os.environ["REDIS_URL"])
    while not stop.is_set():
        try:
            cache.set("worker", int(time.time()))
        except redis.ConnectionError as error:
            print(f"the cache does not answer: {error}", flush=True)
        stop.wait(1)


if __name__ == "__main__":
    main()
