"""Whether a container is as long as it says: decoders often pass over a missing end, or a hole, in silence.

For the loaders of sound and video, before they decode. Reads sizes and frame headers, decodes nothing.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

from omnirm.preprocessing.sniff import HEAD_BYTES, Sniffed, id3_length
from omnirm.preprocessing.source import Source


def shortfall(source: Source, found: Sniffed) -> str | None:
    """Why a container cannot be complete: its own sizes reach beyond its end. None if nothing shows.

    Knows RIFF (WAV, AVI, WEBP), AIFF, AU, ISO media (MP4, MOV, M4A), Matroska, Ogg, MP3 and GIF. Sizes that say
    "unknown", as live recordings write them, are accepted.
    """
    check = {"wav": _riff, "avi": _riff, "webp": _riff, "aiff": _riff, "au": _au, "mov": _boxes, "matroska": _segment}
    check |= {"ogg": _ogg_end, "mp3": _mp3, "gif": _gif}
    name = found.format if found.format in check else found.demuxer
    if name not in check:
        return None
    with source.open() as stream:
        return check[name](stream, source.size)


def _gif(stream: BinaryIO, size: int) -> str | None:
    """A GIF is a chain of blocks that ends with a trailer."""
    data = stream.read(size)

    def colours(flags: int) -> int:
        return 3 << ((flags & 7) + 1) if flags & 0x80 else 0

    if len(data) < 13:
        return "its header is not complete"
    position = 13 + colours(data[10])
    while position < len(data):
        block = data[position]
        if block == 0x3B:
            return None
        if block == 0x2C:
            if position + 9 >= len(data):
                break
            position += 11 + colours(data[position + 9])
        elif block == 0x21:
            position += 2
        else:
            return None  # damaged, which the decoder tells better
        while position < len(data) and data[position]:
            position += 1 + data[position]
        position += 1
    return "it ends before its last block"


def _riff(stream: BinaryIO, size: int) -> str | None:
    head = stream.read(12)
    order = ">" if head[:4] == b"FORM" else "<"
    position, wide = 12, 0
    while position + 8 <= size:
        stream.seek(position)
        name, length = struct.unpack(order + "4sI", stream.read(8))
        if name == b"ds64" and position + 24 <= size:  # RF64 keeps the length of `data` here
            wide = struct.unpack("<QQ", stream.read(16))[1]
        if name == b"data" and wide:
            length = wide
        elif name == b"data" and (length == 0 or length >= 0x7FFFF000):
            return None  # a stream that was written before its length was known
        if position + 8 + length > size:
            label = name.decode("latin-1").strip()
            return f"its {label!r} part should hold {length} bytes, {size - position - 8} are there"
        if name in (b"data", b"SSND", b"movi"):
            return None
        position += 8 + length + length % 2
    return None


def _au(stream: BinaryIO, size: int) -> str | None:
    start, length = struct.unpack(">II", stream.read(12)[4:].ljust(8, b"\0"))
    if length == 0xFFFFFFFF or start + length <= size:
        return None
    return f"its sound should hold {length} bytes, {max(0, size - start)} are there"


def _boxes(stream: BinaryIO, size: int) -> str | None:
    position, seen = 0, set()
    while position + 8 <= size:
        stream.seek(position)
        head = stream.read(16)
        length, name = struct.unpack(">I4s", head[:8])
        if length == 1 and len(head) == 16:
            length = struct.unpack(">Q", head[8:])[0]
        if length == 0:
            return None
        if length < 8 or not (name.isalnum() or name.strip().isalnum()):
            break
        seen.add(name)
        if position + length > size:
            label = name.decode("latin-1")
            return f"its {label!r} part should hold {length} bytes, {size - position} are there"
        position += length
    if b"moov" not in seen and b"mdat" in seen:
        return "its index (the 'moov' part) is missing"
    return None


def _segment(stream: BinaryIO, size: int) -> str | None:
    head = stream.read(HEAD_BYTES)
    position = 4
    length, used = _ebml_number(head, position)
    position += used + (length or 0)
    if head[position : position + 4] != b"\x18\x53\x80\x67":
        return None
    length, used = _ebml_number(head, position + 4)
    start = position + 4 + used
    if length is not None and start + length > size:
        return f"its content should hold {length} bytes, {size - start} are there"
    return None


def _ebml_number(data: bytes, at: int) -> tuple[int | None, int]:
    """A Matroska length and the bytes it takes; None stands for "unknown"."""
    if at >= len(data) or data[at] == 0:
        return None, 1
    used = 9 - data[at].bit_length()
    value = int.from_bytes(data[at : at + used], "big") & ((1 << 7 * used) - 1)
    return (None if value == (1 << 7 * used) - 1 else value), used


def _ogg_end(stream: BinaryIO, size: int) -> str | None:
    stream.seek(max(0, size - 2**17))
    tail = stream.read()
    at = tail.rfind(b"OggS\0")
    if at < 0 or len(tail) < at + 27 or len(tail) < at + 27 + tail[at + 26]:
        return "it ends in the middle of a page"
    segments = tail[at + 26]
    if at + 27 + segments + sum(tail[at + 27 : at + 27 + segments]) > len(tail):
        return "it ends in the middle of a page"
    return None if tail[at + 5] & 4 else "its last page is not marked as the last"


_RATES_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)  # kbit/s, MPEG-1 layer 3
_RATES_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)  # MPEG-2 and 2.5 layer 3
_FREQUENCIES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_MP3_SLACK = 8192  # bytes that need not be frames: tags of unknown kinds, padding


def _mp3(stream: BinaryIO, size: int) -> str | None:
    """MP3 has no length of its own; a Xing header may declare one, and its frames must follow each other."""
    data = stream.read()
    position = first = id3_length(data)
    length = _mp3_frame(data, position)
    if not length:
        return None
    declared = _xing(data[first : first + length])
    if declared and declared > size - first:
        return f"its header declares {declared} bytes of sound, {size - first} are there"
    while position < size:
        length = _mp3_frame(data, position)
        if not length:
            break
        position += length
    rest = data[position:]
    if len(rest) <= _MP3_SLACK or rest[:3] in (b"TAG", b"ID3") or rest[:8] in (b"APETAGEX", b"LYRICSBE"):
        return None
    return None if not rest.strip(b"\0") and not declared else f"its frames end {len(rest)} bytes before the file does"


def _mp3_frame(data: bytes, at: int) -> int:
    """Length of the layer-3 frame at a position, 0 if there is none."""
    if at + 4 > len(data) or data[at] != 0xFF or data[at + 1] & 0xE6 != 0xE2:
        return 0
    version, rate, frequency = data[at + 1] >> 3 & 3, data[at + 2] >> 4, data[at + 2] >> 2 & 3
    if version == 1 or rate in (0, 15) or frequency == 3:
        return 0
    bits = (_RATES_1 if version == 3 else _RATES_2)[rate] * (144_000 if version == 3 else 72_000)
    return bits // _FREQUENCIES[version][frequency] + (data[at + 2] >> 1 & 1)


def _xing(frame: bytes) -> int | None:
    """The bytes of sound that the first frame declares, if it holds a Xing header."""
    at = max(frame.find(b"Xing", 0, 64), frame.find(b"Info", 0, 64))
    if at < 0 or len(frame) < at + 16:
        return None
    flags = struct.unpack(">I", frame[at + 4 : at + 8])[0]
    return struct.unpack(">I", frame[at + 12 : at + 16])[0] if flags & 3 == 3 else None
