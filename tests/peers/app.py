"""An HTTP/1.1 application that knows nothing of the mesh; standard library only.

    app.py --listen 127.0.0.1:0 --served-by sao-paulo/orders-1 --posts FILE

Prints `listening ADDRESS:PORT`. Every answer names who served it in `x-served-by`. The id of each POST
(`x-post-id`) is appended to FILE as soon as its head has arrived, before anything else happens: after a
kill -9 the file tells whose bytes came this far.

    /            a greeting                       /bytes/N    N bytes
    /echo        the body, while it still comes   /slow/MS    an answer after MS milliseconds
    /headers     what arrived, as JSON            /status/N   an answer with that status
    /trailers    the request's trailers as JSON, and trailers of its own
    /hints       103 Early Hints, then 200
"""

import argparse
import hashlib
import http.server
import json
import os
import socket
import time

CHUNK = 65536


class Body:
    """The request's body as it arrives: counted, chunked or absent."""

    def __init__(self, handler):
        self.input = handler.rfile
        self.chunked = handler.headers.get("transfer-encoding", "").lower() == "chunked"
        self.left = int(handler.headers.get("content-length", 0))
        self.trailers = []

    def __iter__(self):
        return self.read_chunked() if self.chunked else self.read_counted()

    def read_counted(self):
        while self.left:
            data = self.input.read1(min(self.left, CHUNK))
            if not data:
                raise ConnectionError("the body ended early")
            self.left -= len(data)
            yield data

    def read_chunked(self):
        while True:
            line = self.input.readline()
            if not line.endswith(b"\r\n"):
                raise ConnectionError("the body ended early")
            left = int(line.split(b";")[0], 16)
            if left == 0:
                break
            while left:
                data = self.input.read1(min(left, CHUNK))
                if not data:
                    raise ConnectionError("the body ended early")
                left -= len(data)
                yield data
            self.input.readline()
        self.chunked = False
        while (line := self.input.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode("latin-1").partition(":")
            self.trailers.append([name.lower(), value.strip()])


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def handle_one_request(self):
        try:
            super().handle_one_request()
        except (ConnectionError, ValueError):
            self.close_connection = True

    def handle_expect_100(self):
        go_on = super().handle_expect_100()
        self.wfile.flush()  # or client and server wait for each other
        return go_on

    def answer(self):
        if self.command == "POST" and "x-post-id" in self.headers:
            os.write(self.server.posts, self.headers["x-post-id"].encode() + b"\n")
        self.body = Body(self)
        name, _, argument = self.path.split("?")[0].lstrip("/").partition("/")
        page = getattr(self, "page_" + (name or "greeting"), None)
        if page is None:
            self.whole(404, b"no such page\n")
        else:
            page(argument)
        for _ in self.body:  # what a page left unread is not the next request
            pass

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = answer

    def page_greeting(self, _):
        self.whole(200, b"hello from %s\n" % self.server.served_by.encode())

    def page_echo(self, _):
        counted = self.headers.get("content-length")
        kind = ("content-length", counted) if counted else ("transfer-encoding", "chunked")
        self.head(200, [kind, ("content-type", self.headers.get("content-type", "application/octet-stream"))])
        self.wfile.flush()
        for data in self.body:
            self.wfile.write(data if counted else b"%x\r\n%s\r\n" % (len(data), data))
            self.wfile.flush()
        if not counted:
            self.wfile.write(b"0\r\n\r\n")

    def page_bytes(self, argument):
        left = int(argument)
        self.head(200, [("content-length", str(left)), ("content-type", "application/octet-stream")])
        block = b"x" * CHUNK
        while left and self.command != "HEAD":
            self.wfile.write(block[:left])
            left -= min(left, CHUNK)

    def page_slow(self, argument):
        time.sleep(int(argument) / 1000)
        self.whole(200, b"slept\n")

    def page_status(self, argument):
        if int(argument) in (204, 304):
            self.head(int(argument), [])
        else:
            self.whole(int(argument), b"as you wish\n")

    def page_headers(self, _):
        self.json({
            "method": self.command,
            "path": self.path,
            "protocol": self.request_version,
            "headers": [[name.lower(), value] for name, value in self.headers.items()],
            "peer": self.client_address[0],
            "served_by": self.server.served_by,
        })

    def page_trailers(self, _):
        digest = hashlib.sha256()
        for data in self.body:
            digest.update(data)
        body = json.dumps({"trailers": self.body.trailers}).encode()
        self.head(200, [("transfer-encoding", "chunked"), ("trailer", "x-body-sha256, x-last")])
        self.wfile.write(b"%x\r\n%s\r\n0\r\n" % (len(body), body))
        self.wfile.write(b"x-body-sha256: %s\r\nx-last: yes\r\n\r\n" % digest.hexdigest().encode())

    def page_hints(self, _):
        self.wfile.write(b"HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\n\r\n")
        self.wfile.flush()
        self.whole(200, b"after the hints\n")

    def json(self, value):
        self.whole(200, json.dumps(value).encode() + b"\n", "application/json")

    def whole(self, status, body, kind="text/plain"):
        self.head(status, [("content-length", str(len(body))), ("content-type", kind)])
        if self.command != "HEAD":
            self.wfile.write(body)

    def head(self, status, headers):
        self.send_response(status)
        self.send_header("x-served-by", self.server.served_by)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 1024
    daemon_threads = True

    def handle_error(self, *_):
        """A peer that went away is no news."""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", required=True)
    parser.add_argument("--served-by", required=True)
    parser.add_argument("--posts", required=True)
    options = parser.parse_args()
    host, _, port = options.listen.rpartition(":")
    host = host.strip("[]")
    Server.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
    server = Server((host, int(port)), Handler)
    server.served_by = options.served_by
    server.posts = os.open(options.posts, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    print("listening", "%s:%d" % (options.listen.rpartition(":")[0], server.server_address[1]), flush=True)
    server.serve_forever()


main()
