"""What some bytes hold, told from the bytes and never from a file's name.

For the loaders and for whoever must refuse HTML or SVG that calls itself a picture. Decodes nothing; whether a
container is complete is told by `completeness.py`.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Literal

from omnirm.preprocessing.source import Source
from omnirm.preprocessing.types import MediaUnsupported

Kind = Literal["image", "video", "audio"]

HEAD_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Sniffed:
    """A recognised format.

    Attributes:
        format: Its name, e.g. `"png"` or `"mp4"`.
        kinds: What it can be decoded as. A GIF can be an image and a video; an MP4 a video and a sound.
        demuxer: FFmpeg's name for its reader, to be forced so that no other reader (playlists, which open further
            addresses) is chosen; empty where FFmpeg should not read it.
    """

    format: str
    kinds: tuple[Kind, ...]
    demuxer: str = ""


def sniff(head: bytes) -> Sniffed | None:
    """The format of content that begins with `head` (at least `HEAD_BYTES`, if there are that many).

    Returns:
        The format, with empty `kinds` for known formats that are not media or not supported; None if unknown.
    """
    for at, magic, found in _MAGIC:
        if head[at : at + len(magic)] == magic:
            return found
    if head[:4] in (b"RIFF", b"RF64"):
        return _RIFF.get(head[8:12])
    if head[:4] == b"FORM":
        return _AIFF if head[8:12] in (b"AIFF", b"AIFC") else None
    if head[4:8] == b"ftyp":
        return _iso_media(head)
    if head[:4] == b"OggS":
        return _ogg(head)
    if head[:4] == b"\x1aE\xdf\xa3":
        return Sniffed("webm" if b"webm" in head[:64] else "mkv", ("video", "audio"), "matroska")
    if head[:3] == b"ID3":
        return _after_id3(head)
    if len(head) > 188 and all(head[i] == 0x47 for i in range(0, min(len(head), 4 * 188), 188)):
        return Sniffed("mpegts", ("video", "audio"), "mpegts")
    if len(head) > 200 and all(head[i] == 0x47 for i in range(4, min(len(head), 4 * 192), 192)):
        return Sniffed("m2ts", ("video", "audio"), "mpegts")
    if head[4:8] in _QUICKTIME_BOXES and struct.unpack(">I", head[:4])[0] in (0, 1, *range(8, 2**31)):
        return Sniffed("mov", ("video", "audio"), "mov")
    return _mpeg_audio(head) or _text(head)


def require(source: Source, kind: Kind) -> Sniffed:
    """The format of a source, which must be one that can be decoded as `kind`.

    Raises:
        MediaUnsupported: The content is something else, or nothing known.
    """
    found = sniff(source.head(HEAD_BYTES))
    if found is not None and kind in found.kinds:
        return found
    holds = "holds nothing that is recognised" if found is None else f"holds {found.format.upper()}"
    raise MediaUnsupported(source.name, f"{holds}, not {_ARTICLE[kind]}", f"give {_EXAMPLES[kind]}")


_ARTICLE = {"image": "an image", "video": "a video", "audio": "sound"}
_EXAMPLES = {
    "image": "a JPEG, PNG, WEBP, GIF, BMP or TIFF file",
    "video": "an MP4, MOV, MKV, WEBM, AVI or GIF file",
    "audio": "a WAV, FLAC, MP3, OGG or M4A file, or a video with sound",
}

_MPEG_KINDS: tuple[Kind, ...] = ("video", "audio")
_AIFF = Sniffed("aiff", ("audio",), "aiff")
_RIFF = {
    b"WAVE": Sniffed("wav", ("audio",), "wav"),
    b"AVI ": Sniffed("avi", ("video", "audio"), "avi"),
    b"WEBP": Sniffed("webp", ("image", "video")),
}
_MAGIC = [
    (0, b"\xff\xd8\xff", Sniffed("jpeg", ("image",))),
    (0, b"\x89PNG\r\n\x1a\n", Sniffed("png", ("image", "video"), "apng")),
    (0, b"GIF87a", Sniffed("gif", ("image", "video"), "gif")),
    (0, b"GIF89a", Sniffed("gif", ("image", "video"), "gif")),
    (0, b"II*\0", Sniffed("tiff", ("image",))),
    (0, b"MM\0*", Sniffed("tiff", ("image",))),
    (0, b"II+\0", Sniffed("tiff", ("image",))),
    (0, b"MM\0+", Sniffed("tiff", ("image",))),
    (0, b"BM", Sniffed("bmp", ("image",))),
    (0, b"fLaC", Sniffed("flac", ("audio",), "flac")),
    (0, b"FLV\x01", Sniffed("flv", _MPEG_KINDS, "flv")),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", Sniffed("asf", _MPEG_KINDS, "asf")),
    (0, b"\x00\x00\x01\xba", Sniffed("mpeg", _MPEG_KINDS, "mpeg")),
    (0, b"\x00\x00\x01\xb3", Sniffed("mpeg-1/2 video", ("video",), "mpegvideo")),
    (0, b"caff", Sniffed("caf", ("audio",), "caf")),
    (0, b".snd", Sniffed("au", ("audio",), "au")),
    (0, b"#!AMR", Sniffed("amr", ("audio",), "amr")),
    (0, b"\x0b\x77", Sniffed("ac3", ("audio",), "ac3")),
    (0, b"%PDF", Sniffed("pdf", ())),
    (0, b"PK\x03\x04", Sniffed("zip", ())),
    (0, b"\x1f\x8b", Sniffed("gzip", ())),
    (0, b"\x7fELF", Sniffed("a program", ())),
    (0, b"MZ", Sniffed("a program", ())),
    (0, b"%!PS", Sniffed("postscript", ())),
    (0, b"SIMPLE  =", Sniffed("fits", ())),
    (0, b"8BPS", Sniffed("psd", ())),
    (0, b"\x00\x00\x01\x00", Sniffed("ico", ())),
]
_QUICKTIME_BOXES = (b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
_STILL_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"hevc", b"hevx", b"mif1", b"msf1", b"jxl ", b"jp2 ")
_SOUND_BRANDS = (b"M4A ", b"M4B ", b"F4A ", b"F4B ")


def _iso_media(head: bytes) -> Sniffed:
    brand = head[8:12]
    if brand in _STILL_BRANDS:
        return Sniffed("heif or avif", ())
    if brand in _SOUND_BRANDS:
        return Sniffed("m4a", ("audio",), "mov")
    return Sniffed("mov" if brand == b"qt  " else "mp4", ("video", "audio"), "mov")


def _ogg(head: bytes) -> Sniffed:
    starts = (b"\x80theora", b"OVP80", b"BBCD\0", b"\x01video")
    has_video = any(start in head for start in starts)
    return Sniffed("ogg video" if has_video else "ogg", ("video", "audio") if has_video else ("audio",), "ogg")


def _after_id3(head: bytes) -> Sniffed:
    """An ID3 tag stands before MP3, and sometimes before ADTS or FLAC; what follows may lie beyond the head."""
    after = id3_length(head)
    if head[after : after + 4] == b"fLaC":
        return Sniffed("flac", ("audio",), "flac")
    return _mpeg_audio(head[after:]) or Sniffed("mp3", ("audio",), "mp3")


def id3_length(head: bytes) -> int:
    """Length of the ID3v2 tag at the start, 0 if there is none."""
    if len(head) < 10 or head[:3] != b"ID3":
        return 0
    size = (head[6] & 127) << 21 | (head[7] & 127) << 14 | (head[8] & 127) << 7 | (head[9] & 127)
    return 10 + size + (10 if head[5] & 0x10 else 0)


def _mpeg_audio(head: bytes) -> Sniffed | None:
    """MP3 (or layer 1 and 2) and ADTS-AAC begin with a frame, whose header has few impossible values."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    if head[1] & 0xF6 == 0xF0:
        return Sniffed("aac", ("audio",), "aac") if (head[2] >> 2) & 15 < 13 else None
    version, layer, rate, frequency = (head[1] >> 3) & 3, (head[1] >> 1) & 3, head[2] >> 4, (head[2] >> 2) & 3
    if version == 1 or layer == 0 or rate == 15 or frequency == 3:
        return None
    return Sniffed("mp3", ("audio",), "mp3")


_MARKUP = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(!doctype|html|svg|\?xml|head|body|script|!--)", re.IGNORECASE)


def _text(head: bytes) -> Sniffed | None:
    if _MARKUP.match(head):
        return Sniffed("svg" if b"<svg" in head.lower() else "html", ())
    if head.lstrip().startswith(b"#EXTM3U") or head.startswith(b"ffconcat"):
        return Sniffed("a playlist", ())
    if head and b"\0" not in head and sum(c < 32 and c not in (9, 10, 12, 13) for c in head) == 0:
        return Sniffed("text", ())
    return None
