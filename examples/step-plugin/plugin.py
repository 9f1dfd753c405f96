"""A step plugin: a smoke test, which the rollout waits for.

Each Run asks a URL once. When it has answered 200 as often as it must in a row, the step is passed; when it has not answered so too often, the
update is aborted. The counts travel in the step's status: the plugin remembers nothing, so that it may end at any time, and a call that
is repeated counts from where the one before it counted. What is configured in the step (`plugin.config`):

    url        what is asked, such as http://web-canary.shop/healthz; must be given
    successes  how often it must answer 200 in a row; by default 3
    failures   after how many other answers the step has failed; by default 3
    interval   how long to wait between two questions, in seconds; by default 10

rolloutd starts it, and reads from its first line where it listens. Usage: plugin.py [FOLDER OF THE PROTO FILES]
"""

import http.client
import os
import pathlib
import sys
import threading
import time
import urllib.error
import urllib.request
from concurrent import futures

import grpc
from google.protobuf import json_format

HERE = pathlib.Path(__file__).resolve().parent
sys.path.append(sys.argv[1] if len(sys.argv) > 1 else str(HERE.parents[1] / "proto"))
# Needs grpcio-tools while it runs. A plugin that is released has the modules that `python3 -m grpc_tools.protoc` writes instead.
step, services = grpc.protos_and_services("rolloutd/plugin/v1/step.proto")

COOKIE = "01c26931-baab-4798-8804-787513805254"
DEFAULTS = {"successes": 3, "failures": 3, "interval": 10}


class Unusable(Exception):
    """What is configured cannot be worked with."""


def configured(given):
    """The configuration of a step."""
    if not given.HasField("config") or given.config.WhichOneof("kind") != "struct_value":
        raise Unusable("plugin.config must have a url")
    config = DEFAULTS | json_format.MessageToDict(given.config)
    if not str(config.get("url", "")).startswith(("http://", "https://")):
        raise Unusable(f"plugin.config.url is {config.get('url')!r}; it must begin with http:// or https://")
    for field in DEFAULTS:
        if not isinstance(config[field], (int, float)) or config[field] < 1:
            raise Unusable(f"plugin.config.{field} is {config[field]!r}; it must be a number from 1")
    return config


def ask(url):
    """Asks a URL: whether it answers 200, and in words what it does."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200, f"answers {answer.status}"
    except urllib.error.HTTPError as error:
        return False, f"answers {error.code}"
    except (OSError, http.client.HTTPException) as error:
        return False, f"does not answer: {error}"


def outcome(phase, message, status=None, after=None):
    answer = step.Outcome(phase=phase, message=message)
    if status is not None:
        answer.status.update(status)
    if after is not None:
        answer.requeue_after.FromMilliseconds(int(after * 1000))
    return answer


def look(config, before):
    """Asks once more, and judges by what was counted before."""
    url = config["url"]
    answers, how = ask(url)
    successes = int(before.get("successes", 0)) + 1 if answers else 0
    failures = int(before.get("failures", 0)) + (not answers)
    counts = {"successes": successes, "failures": failures}
    said = f"{url} {how}; {successes} of {config['successes']:g} in a row, {failures} failed"
    if successes >= config["successes"]:
        return outcome(step.PHASE_SUCCESSFUL, said, counts)
    if failures >= config["failures"]:
        return outcome(step.PHASE_FAILED, said, counts)
    return outcome(step.PHASE_RUNNING, said, counts, after=config["interval"])


class SmokeTest(services.StepPluginServiceServicer):
    def Run(self, request, context):
        given = request.step
        try:
            # A status that was there before is that of the last call in this step.
            return step.RunResponse(outcome=look(configured(given), json_format.MessageToDict(given.status)))
        except Unusable as error:
            # Asking again would not help: the update fails, and the message says why.
            return step.RunResponse(outcome=outcome(step.PHASE_FAILED, str(error)))

    # A smoke test changes nothing, so that there is nothing to stop and to take back: it forgets what it counted.

    def Terminate(self, request, context):
        return step.TerminateResponse(outcome=outcome(step.PHASE_SUCCESSFUL, "stopped", {}))

    def Abort(self, request, context):
        return step.AbortResponse(outcome=outcome(step.PHASE_SUCCESSFUL, "nothing to take back", {}))


def end_with(parent):
    """Ends this process after the one that started it, which has no time for farewells when it is killed."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(0)


def main():
    if os.environ.get("ROLLOUTD_PLUGIN_COOKIE") != COOKIE:
        sys.exit("this is a plugin of rolloutd, which starts it: see docs/plugins.md")
    threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=16))
    services.add_StepPluginServiceServicer_to_server(SmokeTest(), server)
    folder = os.environ.get("PLUGIN_UNIX_SOCKET_DIR")
    if folder:
        address = f"{folder}/plugin.sock"
        server.add_insecure_port(f"unix:{address}")
        network = "unix"
    else:
        address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        network = "tcp"
    server.start()
    print(f"1|1|{network}|{address}|grpc", flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main()
