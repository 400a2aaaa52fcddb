"""A receiver of webhooks for the tests in a booted systemd: takes everything, slowly, and writes down what came.

usage: receiver.py PORT FILE       a line of FILE is the path and the webhook-id of one request
"""

import socketserver
import sys
import time
from http.server import BaseHTTPRequestHandler


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        time.sleep(0.05)
        seen.write(f"{self.path} {self.headers['webhook-id']}\n".encode())
        self.send_response(204)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 256


seen = open(sys.argv[2], "ab", buffering=0)
Server(("127.0.0.1", int(sys.argv[1])), Receiver).serve_forever()
