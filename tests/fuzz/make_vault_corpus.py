"""Encrypted files to begin with: make_vault_corpus.py DIRECTORY.

A byte for the target, then what it makes of the rest. The containers are made from docs/FORMAT.md alone, with
a cipher of their own, under the key that the target knows.
"""

import hashlib
import struct
import sys
from pathlib import Path

KEY = bytes([1] * 32)
NONCE = bytes(range(16))
PAGE = 65536
WORD = 0xFFFFFFFF


def rounds(state: list[int]) -> list[int]:
    """The twenty rounds of ChaCha."""
    x = state[:]
    quarters = [(i, 4 + i, 8 + i, 12 + i) for i in range(4)]
    quarters += [(i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4) for i in range(4)]
    for _ in range(10):
        for a, b, c, d in quarters:
            for p, q, r, turn in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
                x[p] = (x[p] + x[q]) & WORD
                mixed = x[r] ^ x[p]
                x[r] = ((mixed << turn) | (mixed >> (32 - turn))) & WORD
    return x


def words(data: bytes) -> list[int]:
    return list(struct.unpack(f"<{len(data) // 4}I", data))


CONSTANT = words(b"expand 32-byte k")


def seal(nonce: bytes, plain: bytes, data: bytes) -> bytes:
    """XChaCha20-Poly1305 (IETF) under KEY: the text, then its tag."""
    made = rounds(CONSTANT + words(KEY) + words(nonce[:16]))
    start = CONSTANT + made[:4] + made[12:]

    def block(number: int) -> bytes:
        state = [*start, number, 0, *words(nonce[16:])]
        return struct.pack("<16I", *((a + b) & WORD for a, b in zip(rounds(state), state, strict=True)))

    stream = b"".join(block(1 + i) for i in range((len(plain) + 63) // 64))[: len(plain)]
    text = (int.from_bytes(plain, "little") ^ int.from_bytes(stream, "little")).to_bytes(len(plain), "little")
    once = block(0)
    r = int.from_bytes(once[:16], "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
    covered = data + bytes(-len(data) % 16) + text + bytes(-len(text) % 16)
    covered += struct.pack("<QQ", len(data), len(text))
    tag = 0
    for at in range(0, len(covered), 16):
        tag = (tag + int.from_bytes(covered[at : at + 16] + b"\1", "little")) * r % ((1 << 130) - 5)
    return text + ((tag + int.from_bytes(once[16:32], "little")) % (1 << 128)).to_bytes(16, "little")


def container(plain: bytes) -> bytes:
    name = hashlib.blake2b(b"esker key id 1", key=KEY, digest_size=32).digest()[:8]
    head = b"ESKERX1\n" + struct.pack("<IIIIQ", 1, 1, PAGE, 128, len(plain)) + NONCE + name + bytes(56)
    made = head + seal(NONCE + b"\xff" * 8, b"", head)
    tag = made[112:]
    for number in range((len(plain) + PAGE - 1) // PAGE):
        piece = plain[number * PAGE : (number + 1) * PAGE]
        data = tag + struct.pack("<QQ", number, len(piece))
        made += seal(NONCE + struct.pack("<Q", number), piece, data)
    return made


def edits(plain_size: int, *edits: tuple[int, int, int]) -> bytes:
    made = bytes([3]) + struct.pack("<H", plain_size // 5)
    for what, a, b in edits:
        made += bytes([what]) + a.to_bytes(3, "little") + b.to_bytes(3, "little")
    return made


def seeds() -> dict[str, bytes]:
    made = {}
    for size in (0, 1, 1000, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE + 7):
        whole = container(bytes(i % 253 for i in range(size)))
        for how in range(3):
            made[f"whole-{size}-{how}"] = bytes([how]) + whole
        made[f"cut-{size}"] = bytes([0]) + whole[: len(whole) * 2 // 3]
    three = 3 * PAGE - 3
    made["sound"] = edits(three)
    made["empty"] = edits(0)
    made["flipped"] = edits(three, (0, 70000, 1))
    made["cut-at-page"] = edits(three, (1, 128 + 2 * 65552, 0))
    made["grown"] = edits(three, (2, 0, 65552))
    made["copied"] = edits(three, (3, 0, 1))
    made["swapped"] = edits(three, (3, 0, 3), (3, 1, 0), (3, 3, 1), (4, 3, 0))
    made["dropped"] = edits(three, (4, 1, 0))
    made["foreign"] = edits(three, (5, 1, 0))
    made["forged"] = edits(three, (6, 5, 0), (7, 0, 0))
    made["forged-and-cut"] = edits(2 * PAGE + 3, (6, 5, 0), (1, 128 + 2 * 65552, 0), (7, 0, 0))
    made["emptied"] = edits(5, (6, 5, 0), (1, 128, 0), (7, 0, 0))
    return made


def main() -> None:
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    for name, seed in seeds().items():
        (directory / name).write_bytes(seed)


main()
