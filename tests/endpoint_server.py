"""An endpoint for judges, on a real socket, that does as it is scripted: answers, fails, hangs, hangs up."""

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = "sk-a-key-that-nobody-must-see"


class Handler(BaseHTTPRequestHandler):
    """Do what is scripted for the response that is to be judged, or else judge it by the rules."""

    def do_POST(self):
        payload = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        response = payload["messages"][-1]["content"].partition("Response: ")[2].partition("\n")[0]
        with self.server.lock:
            self.server.asked.append({"response": response, "path": self.path, "headers": self.headers, **payload})
            script = self.server.script.get(response, self.server.script.get("*", []))
            step = (script.pop(0) if len(script) > 1 else script[0]) if script else good
        try:
            step(self)
        except OSError:  # whoever asked did not wait
            self.close_connection = True

    def reply(self, body, status=200, kind="application/json", **headers):
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": len(body), **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def says(content):
    """Reply as a chat completion."""
    return lambda handler: handler.reply(json.dumps({"choices": [{"message": {"content": content}}]}).encode())


def fails(status):
    """Fail with a status; the body repeats the key, as some endpoints do."""
    body = json.dumps({"error": {"message": f"no use for {KEY}"}}).encode()
    return lambda handler: handler.reply(body, status, retry_after_ms=1)


def sends(body, kind="application/json"):
    return lambda handler: handler.reply(body.encode(), kind=kind)


def hang(handler):
    handler.server.released.wait(60)


def hang_up(handler):
    handler.close_connection = True


good = says('{"correct": true, "calculates": false}')
HTML = f"<html><body>Bad gateway {KEY}</body></html>"


@contextlib.contextmanager
def serving():
    """Start the endpoint; whoever asks it needs the environment that it holds."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads, server.block_on_close = True, False
    server.lock, server.released, server.asked, server.script = threading.Lock(), threading.Event(), [], {}
    address = f"http://127.0.0.1:{server.server_port}/v1"
    server.environment = {"OPENAI_BASE_URL": address, "OPENAI_API_KEY": KEY, "NO_PROXY": "127.0.0.1"}
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    server.server_close()
    thread.join()
