"""A receiver of traces by OTLP over gRPC that shares no code with the sender; standard library only.

    otlp.py --listen 127.0.0.1:0 [--certificate PEM --key PEM [--clients PEM]] [--silent]

With `--silent` it reads everything and never answers. Prints `listening ADDRESS:PORT`, `connected` for each connection, and
`span JSON` for each span. It reads frames of HTTP/2 (RFC 9113 section 4.1) and fields of Protocol Buffers by their numbers. It
does not decode HPACK: that the method is called by its right name is for others to judge.
"""

import argparse
import json
import os
import socketserver
import ssl
import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS, PING, WINDOW_UPDATE = 0, 1, 4, 6, 8
END_STREAM, ACK, END_HEADERS, PADDED = 1, 1, 4, 8

# :status 200 is index 8 of the static table, the name content-type index 31 (RFC 7541 appendix A).
ANSWER = b"\x88\x0f\x10\x10application/grpc"
TRAILERS = b"\x00\x0bgrpc-status\x010"
EMPTY_MESSAGE = bytes(5)


class Receiver(socketserver.StreamRequestHandler):
    def handle(self):
        if self.rfile.read(len(PREFACE)) != PREFACE:
            return
        tell("connected")
        self.send(SETTINGS, 0, 0)
        messages = {}
        while len(head := self.rfile.read(9)) == 9:
            length, kind, flags, stream = int.from_bytes(head[:3], "big"), head[3], head[4], head[5:]
            stream = int.from_bytes(stream, "big")
            payload = self.rfile.read(length)
            if kind in (SETTINGS, PING) and not flags & ACK:
                self.send(kind, ACK, 0, payload if kind == PING else b"")
            if kind == DATA:
                if length:
                    for window in (0, stream):
                        self.send(WINDOW_UPDATE, 0, window, struct.pack(">I", length))
                if flags & PADDED:
                    payload = payload[1 : len(payload) - payload[0]]
                messages[stream] = messages.get(stream, b"") + payload
                if flags & END_STREAM:
                    read_message(messages.pop(stream))
                    if self.server.silent:
                        continue
                    self.send(HEADERS, END_HEADERS, stream, ANSWER)
                    self.send(DATA, 0, stream, EMPTY_MESSAGE)
                    self.send(HEADERS, END_HEADERS | END_STREAM, stream, TRAILERS)

    def send(self, kind, flags, stream, payload=b""):
        head = len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big")
        self.wfile.write(head + payload)


def tell(line):
    """In one piece: another connection's thread may tell something at the same time."""
    os.write(1, (line + "\n").encode())


def read_message(message):
    """A message of gRPC: one byte for compression, four for the length."""
    compressed, length = struct.unpack(">BI", message[:5])
    if compressed or length != len(message) - 5:
        raise ValueError("not one plain message")
    for resource_spans in all_of(message[5:], 1):
        resource = attributes(one_of(resource_spans, 1), 1)
        for scope_spans in all_of(resource_spans, 2):
            for span in all_of(scope_spans, 2):
                tell("span " + json.dumps({**read(span), "resource": resource}))


def read(span):
    return {
        "trace_id": one_of(span, 1).hex(),
        "span_id": one_of(span, 2).hex(),
        "parent_span_id": one_of(span, 4, b"").hex(),
        "name": one_of(span, 5).decode(),
        "kind": one_of(span, 6),
        "start": one_of(span, 7),
        "end": one_of(span, 8),
        "attributes": attributes(span, 9),
        "status": one_of(one_of(span, 15, b""), 3, 0),
    }


def attributes(message, number):
    return {one_of(pair, 1).decode(): value_of(one_of(pair, 2)) for pair in all_of(message, number)}


def value_of(value):
    """Text (field 1), a signed number (field 3), or an array of values (field 5)."""
    (kind, inner), = fields(value)
    if kind == 5:
        return [value_of(item) for item in all_of(inner, 1)]
    return inner.decode() if kind == 1 else inner


def one_of(message, number, otherwise=None):
    return next(all_of(message, number), otherwise)


def all_of(message, number):
    return (value for found, value in fields(message) if found == number)


def fields(message):
    """Numbers and values: whole numbers, or bytes."""
    at = 0
    while at < len(message):
        tag, at = varint(message, at)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, at = varint(message, at)
        elif wire == 2:
            length, at = varint(message, at)
            value, at = message[at : at + length], at + length
        else:
            length = {1: 8, 5: 4}[wire]
            value, at = int.from_bytes(message[at : at + length], "little"), at + length
        yield number, value


def varint(message, at):
    value, shift = 0, 0
    while True:
        byte = message[at]
        value, at, shift = value | (byte & 127) << shift, at + 1, shift + 7
        if not byte & 128:
            return value, at


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    tls = None
    silent = False

    def get_request(self):
        connection, address = super().get_request()
        if self.tls:
            # The handshake comes with the first read, in a thread of its own.
            connection = self.tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address


def server_tls(arguments):
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(arguments.certificate, arguments.key)
    tls.set_alpn_protocols(["h2"])
    if arguments.clients:
        tls.load_verify_locations(arguments.clients)
        tls.verify_mode = ssl.CERT_REQUIRED
    return tls


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", required=True)
    for option in ("--certificate", "--key", "--clients"):
        parser.add_argument(option)
    parser.add_argument("--silent", action="store_true")
    arguments = parser.parse_args()
    host, _, port = arguments.listen.rpartition(":")
    server = Server((host, int(port)), Receiver)
    server.silent = arguments.silent
    if arguments.certificate:
        server.tls = server_tls(arguments)
    print("listening", "%s:%d" % server.server_address, flush=True)
    server.serve_forever()


main()
