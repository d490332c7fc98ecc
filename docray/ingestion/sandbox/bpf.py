"""A seccomp filter assembled by hand: an allowlist of system calls, everything else answers EPERM.

By hand because every maintained binding needs a system libseccomp, which a laptop may not have. Classic BPF has loads, jumps and
returns; that is all it takes. Owns the programme; leaves installing it to `confinement`, the list to `syscalls`.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _AND, _RETURN = 0x20, 0x15, 0x35, 0x54, 0x06
_ALLOW, _KILL_PROCESS, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_EPERM, _ENOSYS = 1, 38
# struct seccomp_data: int nr; u32 arch; u64 instruction_pointer; u64 args[6]
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_X32 = 0x40000000  # x86-64's second calling convention: the same calls under other numbers

Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, operand


@dataclass(frozen=True, slots=True)
class When:
    """A call is allowed when the lower 32 bits of an argument, after a mask, equal one of `values`."""

    argument: int
    values: tuple[int, ...]
    mask: int = 0xFFFFFFFF


def programme(architecture: int, allowed: Mapping[int, When | None], unknown: Sequence[int]) -> bytes:
    """The filter as an array of `struct sock_filter`.

    `allowed`: number → condition, None for always. `unknown` answer ENOSYS, so that the C library falls back to an older call.
    """
    code: list[Instruction] = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_JUMP_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL_PROCESS),
        (_LOAD, 0, 0, _NUMBER),
        (_JUMP_AT_LEAST, 0, 1, _X32),
        (_RETURN, 0, 0, _KILL_PROCESS),
    ]
    for number in unknown:
        code += [(_JUMP_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ERRNO | _ENOSYS)]
    for number, when in allowed.items():
        body = [(_RETURN, 0, 0, _ALLOW)] if when is None else _condition(when)
        code += [(_JUMP_EQUAL, 0, len(body), number), *body]
    code.append((_RETURN, 0, 0, _ERRNO | _EPERM))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


def _condition(when: When) -> list[Instruction]:
    """Ends the programme either way: a call with other arguments is refused."""
    body: list[Instruction] = [(_LOAD, 0, 0, _ARGUMENTS + 8 * when.argument), (_AND, 0, 0, when.mask)]
    for value in when.values:
        body += [(_JUMP_EQUAL, 0, 1, value), (_RETURN, 0, 0, _ALLOW)]
    return [*body, (_RETURN, 0, 0, _ERRNO | _EPERM)]
