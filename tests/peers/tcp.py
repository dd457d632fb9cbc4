"""Servers that do not speak HTTP; standard library only.

    tcp.py --listen 127.0.0.1:0 --mode banner|echo --served-by NAME

Prints `listening ADDRESS:PORT`. `banner` speaks first, as mail servers and databases do, and answers each
line. `echo` returns every byte, and ends its own side only after the client has ended its.
"""

import argparse
import socket
import socketserver


class Banner(socketserver.StreamRequestHandler):
    def handle(self):
        name = self.server.served_by.encode()
        self.wfile.write(b"220 %s ready\r\n" % name)
        for line in self.rfile:
            word = line.strip()
            if word.upper() == b"QUIT":
                self.wfile.write(b"221 %s bye\r\n" % name)
                return
            self.wfile.write(b"250 %s\r\n" % word)


class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(65536):
            self.request.sendall(data)
        self.request.shutdown(socket.SHUT_WR)


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    request_queue_size = 1024
    daemon_threads = True

    def handle_error(self, *_):
        """A peer that went away is no news."""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", required=True)
    parser.add_argument("--mode", required=True, choices=["banner", "echo"])
    parser.add_argument("--served-by", required=True)
    options = parser.parse_args()
    host, _, port = options.listen.rpartition(":")
    host = host.strip("[]")
    Server.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
    server = Server((host, int(port)), Banner if options.mode == "banner" else Echo)
    server.served_by = options.served_by
    print("listening", "%s:%d" % (options.listen.rpartition(":")[0], server.server_address[1]), flush=True)
    server.serve_forever()


main()
