"""How a model expects a conversation to be written: a Jinja template, which came with the model and is not trusted.

`template_process.py` renders it in a process of its own, in Jinja's sandbox, with limits on time and memory: the sandbox
keeps a template from objects it was not given, but not from looping or growing.
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tinylm.errors import DataError

_PROGRAM = Path(__file__).with_name("template_process.py")
_MAX_SOURCE = 1 << 20  # characters
_WAIT = 60  # seconds of wall time; the limit on processor time, in template_process.py, is reached first


@dataclass(frozen=True)
class ChatTemplate:
    """source: the template; bos_token, eos_token: the texts it may call by these names."""

    source: str
    bos_token: str = ""
    eos_token: str = ""

    def render(self, messages: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Returns the conversation as text, followed by the beginning of the assistant's answer if add_generation_prompt.

        messages: each with "role" (system, user, assistant) and "content". Raises DataError if the template is wrong,
        refuses the messages, tries what the sandbox forbids, or takes more than half a second of processor time or 256 MB.
        """
        if len(self.source) > _MAX_SOURCE:
            raise DataError(f"the chat template has {len(self.source)} characters: expected at most {_MAX_SOURCE}")
        context = {
            "messages": messages, "add_generation_prompt": add_generation_prompt, "bos_token": self.bos_token, "eos_token": self.eos_token,
        }  # fmt: skip
        try:
            done = subprocess.run(
                [sys.executable, str(_PROGRAM)], input=json.dumps({"source": self.source, "context": context}),
                capture_output=True, text=True, encoding="utf-8", check=False, timeout=_WAIT,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise DataError(f"the chat template did not end within {_WAIT} seconds") from error
        if done.returncode < 0:
            raise DataError("the chat template took more than half a second of processor time")
        try:
            answer = json.loads(done.stdout)
        except ValueError as error:
            raise DataError(f"the chat template could not be rendered: {done.stderr.strip()[-200:]}") from error
        if "error" in answer:
            raise DataError(f"the chat template: {answer['error']}")
        return answer["text"]
