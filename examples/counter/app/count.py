"""Counts in Redis, again and again, and shows how that goes. Every lost connection is begun anew."""

import json
import os
import signal
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WHERE = (os.environ["REDIS_HOST"], int(os.environ["REDIS_PORT"]))
seen = {"acknowledged": 0, "interrupted": 0, "refused": 0, "value": 0}


def connect():
    while True:
        try:
            return socket.create_connection(WHERE, timeout=40)
        except OSError as error:
            seen["refused"] += 1
            print(f"cannot connect to {WHERE[0]}: {error}")
            time.sleep(0.2)


def count():
    """An operation that was sent and not answered may have been done or not: it is not sent again."""
    redis = connect()
    while True:
        try:
            redis.sendall(b"INCR counter\r\n")
            answer = b""
            while not answer.endswith(b"\r\n"):
                part = redis.recv(100)
                if not part:
                    raise ConnectionError("it was closed")
                answer += part
            if not answer.startswith(b":"):
                raise ConnectionError(answer.decode(errors="replace").strip())
        except OSError as error:
            seen["interrupted"] += 1
            print(f"a connection to {WHERE[0]} has ended: {error}")
            redis.close()
            redis = connect()
            continue
        seen["acknowledged"] += 1
        seen["value"] = int(answer[1:])
        time.sleep(0.005)


class Pages(BaseHTTPRequestHandler):
    def do_GET(self):
        body = (json.dumps(seen) + "\n").encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def end(*_):
    print(f"counted {json.dumps(seen)}")
    sys.stdout.flush()
    os._exit(0)


signal.signal(signal.SIGTERM, end)
threading.Thread(target=count, daemon=True).start()
ThreadingHTTPServer(("", 8080), Pages).serve_forever()
