"""The drivers' line protocol for drivers written with asyncio: JSON objects, one a line, commands on stdin and
events on stdout (the words are listed in ../README.md). What a command does is left to the driver.
"""

import asyncio
import json
import sys


def emit(ev, **fields):
    """Writes one event; fields that are None are left out."""
    event = {"ev": ev} | {key: value for key, value in fields.items() if value is not None}
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


async def serve(driver):
    """Calls `driver.do_NAME(**arguments)` for each command until `quit` or the end of the input."""
    loop = asyncio.get_running_loop()
    stdin = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdin), sys.stdin)
    while line := await stdin.readline():
        command = json.loads(line)
        name = command.pop("do")
        try:
            await getattr(driver, "do_" + name.replace("-", "_"))(**command)
        except Exception as error:  # a library may raise anything; the orchestrator judges
            condition = getattr(error, "condition", None) or getattr(error, "opaque_error", None)
            condition = getattr(condition, "value", condition)
            if isinstance(condition, tuple):
                condition = condition[1]
            emit("error", do=name, condition=str(condition or ""), text=f"{type(error).__name__}: {error}")
        if name == "quit":
            break
