"""Renders chat templates with jinja2, as transformers sets it up, for comparison and for the recorded cases.

    chat_template.py golden                       write tests/data/chat_template/golden.json from its *.jinja files
    chat_template.py compare PROGRAM FOLDER...    every template of the folders times every conversation below

Needs: jinja2 3.1.6. PROGRAM is chat_template_dump.
"""
import datetime
import functools
import json
import pathlib
import subprocess
import sys

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

DATA = pathlib.Path(__file__).resolve().parent.parent / "data" / "chat_template"


class Generation(Extension):
    """{% generation %} … {% endgeneration %} marks the assistant's text; it renders as its body."""
    tags = {"generation"}

    def parse(self, parser):
        next(parser.stream)
        return jinja2.nodes.Scope(parser.parse_statements(["name:endgeneration"], drop_needle=True))


def environment():
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda f: datetime.datetime(1970, 1, 1).strftime(f)
    return env


@functools.lru_cache
def compiled(template):
    return environment().from_string(template)


def render(template, variables):
    try:
        return {"text": compiled(template).render(**variables)}
    except Exception as error:   # any error counts as one
        return {"error": f"{type(error).__name__}: {error}"}


USER = {"role": "user", "content": "  Hello, wörld! <b>&amp;</b> \n"}
ASSISTANT = {"role": "assistant", "content": "<think>\nhm\n</think>\n\nHi there."}
SYSTEM = {"role": "system", "content": "You are terse."}
CALL = {"role": "assistant", "content": "", "tool_calls": [
    {"id": "abcdef123", "type": "function", "function": {"name": "get_weather", "arguments": {"city": "Zürich", "days": 2, "metric": True, "x": None, "f": 1.5}}}]}
TEXT_CALL = {"role": "assistant", "content": None, "tool_calls": [
    {"id": "abcdef123", "type": "function", "function": {"name": "get_weather", "arguments": "{\"city\": \"Rom\"}"}}]}
RESULT = {"role": "tool", "tool_call_id": "abcdef123", "name": "get_weather", "content": "{\"temperature\": 21}"}
TOOLS = [{"type": "function", "function": {"name": "get_weather", "description": "The weather \"now\".", "parameters": {
    "type": "object", "properties": {"city": {"type": "string", "description": "Where"}, "days": {"type": "integer", "enum": [1, 2]},
                                     "tags": {"type": "array", "items": {"type": ["string", "null"]}}}, "required": ["city"]}}}]
PARTS = {"role": "user", "content": [{"type": "text", "text": "What is"}, {"type": "image"}, {"type": "text", "text": "this?"}]}
CONVERSATIONS = {
    "one turn": [USER], "system": [SYSTEM, USER], "turns": [USER, ASSISTANT, {"role": "user", "content": "And?"}],
    "system turns": [SYSTEM, USER, ASSISTANT, USER, ASSISTANT], "tool": [SYSTEM, USER, CALL, RESULT],
    "text call": [USER, TEXT_CALL, RESULT, ASSISTANT], "parts": [PARTS], "system parts": [{"role": "system", "content": [{"type": "text", "text": "S"}]}, PARTS],
    "null": [USER, {"role": "assistant", "content": None}, USER], "no role order": [ASSISTANT, USER], "two users": [USER, USER],
    "odd role": [{"role": "critic", "content": "no"}], "empty": [], "reasoning": [USER, {"role": "assistant", "content": "a", "reasoning_content": "why"}, USER],
    "empty text": [{"role": "user", "content": ""}],
}


def variables():
    for name, messages in CONVERSATIONS.items():
        for prompt in (False, True):
            for extra_name, extra in {"": {}, " tools": {"tools": TOOLS}, " no tools": {"tools": None, "documents": None},
                                      " thinking": {"enable_thinking": False}}.items():
                yield f"{name}{' prompt' if prompt else ''}{extra_name}", {
                    "messages": messages, "add_generation_prompt": prompt, "bos_token": "<s>", "eos_token": "</s>", **extra}


def compare(program, folders):
    cases = []
    for folder in folders:
        for path in sorted(pathlib.Path(folder).rglob("*.jinja")):
            text = path.read_text()
            cases += [(path.name, name, {"template": text, "variables": v}) for name, v in variables()]
    payload = "".join(json.dumps(case, ensure_ascii=False) + "\n" for _, _, case in cases)
    out = subprocess.run([program], input=payload.encode(), stdout=subprocess.PIPE, check=True).stdout.decode().split("\n")
    bad, errors = {}, 0
    for (file, name, case), line in zip(cases, out):
        found, expected = json.loads(line), render(case["template"], case["variables"])
        errors += "error" in expected
        if found.get("text") != expected.get("text"):
            bad.setdefault(file, []).append((name, expected, found))
    for file, list_ in bad.items():
        name, expected, found = list_[0]
        print(f"{file}: {len(list_)} differ, first: {name}\n  expected {str(expected)[-300:]}\n  found    {str(found)[-300:]}")
    wrong = sum(map(len, bad.values()))
    print(f"{len(cases) - wrong} of {len(cases)} equal, {errors} of them errors on both sides, {len(bad)} templates differ")
    return wrong


def golden():
    chosen = {name: v for name, v in variables() if "no tools" not in name and "thinking" not in name}
    results = {}
    for path in sorted(DATA.glob("*.jinja")):
        # null: an error; its message is jinja2's affair
        results[path.name] = {name: render(path.read_text(), v).get("text") for name, v in chosen.items()}
    (DATA / "golden.json").write_text(json.dumps({"variables": chosen, "results": results}, ensure_ascii=False,
                                                 separators=(",", ":")) + "\n")


if __name__ == "__main__":
    if sys.argv[1:] == ["golden"]:
        golden()
    elif sys.argv[1:2] == ["compare"] and len(sys.argv) > 3:
        sys.exit(compare(sys.argv[2], sys.argv[3:]) != 0)
    else:
        sys.exit(__doc__)
