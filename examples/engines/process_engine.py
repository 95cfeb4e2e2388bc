"""An engine of qtm that runs a program of yours, in any language, once for each backtest.

ENGINE_COMMAND='./my_program --fast' python3 qtm.py serve --engine process_engine:run
echo '{"stock_code": "AAPL", "config": {}, "params": {"fast": 10}}' | python3 qtm.py submit - --wait

The program reads the task, one JSON object with "stock_code", "config" and "params", from stdin and prints the
result, one JSON object, to stdout. A line "progress 0.5 half way" on stderr is its progress; the other lines
go to the log and, when it fails, into the task's error. Exit code 65 (EX_DATAERR) fails the task for good.
"""

import collections
import hashlib
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import tempfile

import qtm

COMMAND = shlex.split(os.environ.get("ENGINE_COMMAND", ""))
if not COMMAND or not shutil.which(COMMAND[0]):
    raise ValueError(f"ENGINE_COMMAND must be the command line of a program, and is {' '.join(COMMAND)!r}")
FILES = [pathlib.Path(shutil.which(word) or word) for word in COMMAND]
PROGRESS = re.compile(r"progress (0|1|[01]?\.[0-9]+)(?: (.*))?")


def run(task, progress):
    last_lines = collections.deque(maxlen=20)
    with tempfile.TemporaryFile("w+") as stdin, tempfile.TemporaryFile() as stdout:  # no pipe can fill up
        stdin.write(json.dumps(task.to_dict()))
        stdin.seek(0)
        pipes = {"stdin": stdin, "stdout": stdout, "stderr": subprocess.PIPE}
        with subprocess.Popen(COMMAND, encoding="utf-8", errors="replace", **pipes) as program:
            for line in program.stderr:
                if match := PROGRESS.fullmatch(line.strip()):
                    progress(float(match[1]), match[2] or "")
                else:
                    print(line, end="")
                    last_lines.append(line)
        if code := program.returncode:
            ending = f"exit code {code}" if code > 0 else f"signal {-code}"
            error = qtm.InvalidTask if code == os.EX_DATAERR else RuntimeError
            lines = "".join(last_lines).strip()
            raise error(f"{COMMAND[0]} ended with {ending}: {lines or 'nothing on stderr'}")
        stdout.seek(0)
        printed = stdout.read()
        try:
            return json.loads(printed)
        except ValueError as error:
            raise RuntimeError(f"{COMMAND[0]} printed no JSON but {printed[:200]!r}: {error}") from error


contents = b"".join(file.read_bytes() for file in FILES if file.is_file())
run.version = f"{COMMAND[0]} {hashlib.sha256(contents).hexdigest()[:12]}"  # of the program and its script
run.data_version = qtm.price_data_version  # of QTM_DATA_DIR, which the program finds in its environment
