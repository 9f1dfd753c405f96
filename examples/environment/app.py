"""A server that follows its environment while it runs.

rolloutd delivers environment as a file: lines KEY="value", which a shell reads as well. The kubelet replaces the file as a whole when the
environment changes (it swaps a symbolic link), so that reading it again is all there is to do. Here that is done before each answer, when
the file is another one than before; a program with a loop of its own may do it there.

    GET /         the environment as it is now, as JSON
    GET /healthz  200, or 503 with the reason while the environment is unusable: a change that breaks the application makes its pods
                  unready, and rolloutd takes it back

Usage: app.py [FILE [PORT]]; by default /etc/live/environment and 8080. Python's standard library only.
"""

import http.server
import json
import os
import re
import sys
import threading

ENTRY = re.compile(r'([A-Za-z_][A-Za-z0-9_]*)="((?:\\.|[^"\\])*)"', re.DOTALL)
LEVELS = ("debug", "info", "warning", "error")


class Environment:
    """The values of a file, read again whenever the file is another one."""

    def __init__(self, path):
        self.path = path
        self.lock = threading.Lock()
        self.seen = None
        self.values = {}

    def current(self):
        with self.lock:
            try:
                stat = os.stat(self.path)
                mark = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
            except FileNotFoundError:
                mark = None
            if mark != self.seen:
                self.values = read(self.path) if mark else {}
                self.seen = mark
                print("environment:", json.dumps(self.values, sort_keys=True), flush=True)
            return dict(self.values)


def read(path):
    """Reads assignments as a POSIX shell does: values stand between double quotes, may span lines, and a backslash makes the character
    behind it an ordinary one."""
    with open(path, encoding="utf-8", newline="") as file:
        entries = ENTRY.findall(file.read())
    return {name: re.sub(r"\\(.)", r"\1", value, flags=re.DOTALL) for name, value in entries}


def fault(values):
    """Why the application cannot work with these values; empty when it can."""
    level = values.get("LOG_LEVEL", "info")
    return "" if level in LEVELS else f"LOG_LEVEL is {level!r}; it must be one of {', '.join(LEVELS)}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        values = self.server.environment.current()
        reason = fault(values)
        if self.path == "/healthz":
            self.answer(503 if reason else 200, {"status": reason or "ok"})
        elif self.path == "/":
            self.answer(200, values)
        else:
            self.answer(404, {"status": "not found"})

    def answer(self, code, body):
        text = json.dumps(body, sort_keys=True).encode() + b"\n"
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


def main():
    path = sys.argv[1] if len(sys.argv) > 1 else "/etc/live/environment"
    port = int(sys.argv[2]) if len(sys.argv) > 2 else 8080
    server = http.server.ThreadingHTTPServer(("", port), Handler)
    server.environment = Environment(path)
    server.environment.current()
    print(f"listening on {server.server_address[1]}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
